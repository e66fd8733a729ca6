//! A server of S3 that checks signatures, in this process and over a folder.

use std::path::{Path, PathBuf};

use glovebox_source_protocol::{Connection, Place, Secret};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::support::Table;

/// What the server takes; it is in no answer and no refusal.
pub(crate) const SECRET: &str = "secret-word";

pub(crate) struct Server {
    folder: TempDir,
    address: String,
    _runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("shop")).expect("a bucket");
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).expect("a server"));
        service.set_auth(SimpleAuth::from_single("agent", SECRET));
        let service = service.build();
        let runtime = Runtime::new().expect("threads");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { folder, address, _runtime: runtime }
    }

    /// An object as the server keeps it.
    pub(crate) fn path(&self, object: &str) -> PathBuf {
        self.folder.path().join("shop").join(object)
    }

    pub(crate) fn connection(&self) -> Connection {
        let options = [
            ("bucket", "shop"),
            ("endpoint", &self.address),
            ("region", "eu-central-1"),
            ("allow_http", "true"),
            ("access_key_id", "agent"),
        ];
        Connection {
            owner: "retailer".into(),
            kind: "s3".into(),
            program: None,
            options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            secrets: [("secret_access_key".to_owned(), Secret::Environment("SHOP_SECRET".into()))].into(),
        }
    }

    pub(crate) fn table(&self, table: &str) -> Table {
        Table {
            folder: Path::new("/").into(),
            place: Place::Behind { connection: self.connection(), table: table.into() },
            environment: vec![("SHOP_SECRET", SECRET)],
        }
    }
}
