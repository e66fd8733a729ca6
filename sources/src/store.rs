//! Where a table's files are: in the folder in which the reader was started, or behind a connection.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path as FilePath;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures::TryStreamExt;
use glovebox_source_protocol::{Connection, DataFile, RefusalCode, Secret};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};

use crate::refuse::{Result, refuse, unreadable};
use crate::steady::Steady;

/// A table's files.
pub(crate) struct Store {
    pub(crate) objects: Arc<Steady>,
    /// The table, as its files' paths begin.
    pub(crate) root: Path,
    /// Where it is, for people and pins.
    pub(crate) location: String,
    /// Whether reading all bytes of a file costs little.
    is_near: bool,
    pub(crate) runtime: Runtime,
}

impl Store {
    pub(crate) fn of_this_folder() -> Result<Arc<Self>> {
        let folder = LocalFileSystem::new_with_prefix(".").map_err(|error| unreadable(error.to_string()))?;
        Self::new(Arc::new(folder), Path::default(), ".".into(), true).map(Arc::new)
    }

    pub(crate) fn behind(connection: &Connection, table: &str) -> Result<Arc<Self>> {
        let root = Path::parse(table).map_err(|error| invalid(error.to_string()))?;
        let (store, bucket) = open(connection)?;
        Self::new(store, root, format!("{}://{bucket}/{table}", connection.kind), false).map(Arc::new)
    }

    fn new(store: Arc<dyn ObjectStore>, root: Path, location: String, is_near: bool) -> Result<Self> {
        let objects = Arc::new(Steady::new(store, root.clone()));
        Ok(Self { objects, root, location, is_near, runtime: runtime()? })
    }

    /// What tells a file from any other, and from itself with other bytes. From here on it has just these.
    pub(crate) async fn examine(&self, name: &str, location: &Path) -> Result<DataFile> {
        let examined = async {
            let meta = self.objects.head(location).await?;
            let (etag, sha256) =
                if self.is_near { (None, Some(self.sha256(location).await?)) } else { (meta.e_tag, None) };
            let (partition, deleted_sha256) = Default::default();
            Ok(DataFile { path: name.into(), size: meta.size, sha256, etag, partition, deleted_sha256 })
        };
        examined.await.map_err(|error| missing(name, &error))
    }

    async fn sha256(&self, location: &Path) -> object_store::Result<String> {
        let mut digest = Sha256::new();
        let mut pieces = self.objects.get(location).await?.into_stream();
        while let Some(piece) = pieces.try_next().await? {
            digest.update(&piece);
        }
        Ok(HEXLOWER.encode(&digest.finalize()))
    }
}

/// The store behind a connection, and the name of its bucket.
pub(crate) fn open(connection: &Connection) -> Result<(Arc<dyn ObjectStore>, String)> {
    let options = options(connection)?;
    let retry = RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
    let built: object_store::Result<Arc<dyn ObjectStore>> = match connection.kind.as_str() {
        "s3" => configured(AmazonS3Builder::new(), &options, AmazonS3Builder::with_config)?
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        "azure" => configured(MicrosoftAzureBuilder::new(), &options, MicrosoftAzureBuilder::with_config)?
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        "gcs" => configured(GoogleCloudStorageBuilder::new(), &options, GoogleCloudStorageBuilder::with_config)?
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        other => return Err(invalid(format!("there is no kind `{}`", other.escape_debug()))),
    };
    let store = built.map_err(|error| invalid(error.to_string()))?;
    let bucket = ["bucket", "container_name"].iter().find_map(|name| connection.options.get(*name));
    let bucket = bucket.ok_or_else(|| invalid("the connection names no `bucket` or `container_name`"))?;
    Ok((store, bucket.clone()))
}

pub(crate) fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| unreadable(format!("there are no threads: {error}")))
}

fn missing(name: &str, error: &object_store::Error) -> glovebox_source_protocol::Refusal {
    let name = name.escape_debug();
    unreadable(match error {
        object_store::Error::NotFound { .. } => format!("the file {name} is not there"),
        object_store::Error::Unauthenticated { .. } | object_store::Error::PermissionDenied { .. } => {
            format!("the store lets nobody with these credentials read {name}")
        }
        // What a store says may be long, and may quote what was sent.
        _ => format!("the store does not give the file {name}"),
    })
}

fn configured<B, K: FromStr>(builder: B, options: &[(String, String)], set: impl Fn(B, K, String) -> B) -> Result<B> {
    options.iter().try_fold(builder, |builder, (name, value)| {
        let key = name.parse().map_err(|_| invalid(format!("there is no option `{}`", name.escape_debug())))?;
        Ok(set(builder, key, value.clone()))
    })
}

/// What may be known, and what may not. No option is taken from anywhere else.
pub(crate) fn options(connection: &Connection) -> Result<Vec<(String, String)>> {
    let plain = connection.options.iter().map(|(name, value)| Ok((name.clone(), value.clone())));
    let secret = connection.secrets.iter().map(|(name, secret)| Ok((name.clone(), reveal(name, secret)?)));
    plain.chain(secret).collect()
}

fn reveal(name: &str, secret: &Secret) -> Result<String> {
    match secret {
        Secret::Environment(variable) => {
            std::env::var(variable).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
                invalid(format!("the secret `{name}` is to be in the variable {variable}, which is not set"))
            })
        }
        Secret::File(path) => read_private(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|why| invalid(format!("the file of the secret `{name}` {why}"))),
    }
}

fn read_private(path: &FilePath) -> std::result::Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.permissions().mode() & 0o077 != 0 {
        return Err("can be read by others".into());
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

pub(crate) fn invalid(fact: impl AsRef<str>) -> glovebox_source_protocol::Refusal {
    refuse(RefusalCode::RequestInvalid, fact, "correct the connection's entry in connections.toml")
}
