//! The way to the server: through a socket on this machine, or over a network with TLS and the server's name checked.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use glovebox_source_protocol::Secret;
use glovebox_source_protocol::store::Open;
use postgres::config::{Host, SslMode, TargetSessionAttrs};
use postgres::{Client, Config, NoTls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::refuse::{Result, broken, failed, invalid, unreachable};

/// For how long a server may take to answer at all, or be silent.
const PATIENCE: Duration = Duration::from_secs(15);
const SECRET_BYTES_MAX: u64 = 4096;

/// What holds for the connection, whatever the server's own settings are: a commit is on its disk before it is told, and
/// nobody waits for ever for a lock that a host in trouble holds.
const SETTINGS: &str = "
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');
    SET lock_timeout = '30s';
    SET statement_timeout = '120s';
    SET idle_in_transaction_session_timeout = '30s';
    SET search_path = glovebox, pg_temp";

/// Connects, and refuses a server that forgets what it has committed.
pub(crate) fn connect(open: &Open) -> Result<Client> {
    let mut config = parse(&open.place)?;
    if let Some(secret) = &open.password {
        config.password(reveal(secret)?);
    }
    config.application_name("glovebox").connect_timeout(PATIENCE).keepalives_idle(PATIENCE);
    config.tcp_user_timeout(PATIENCE).target_session_attrs(TargetSessionAttrs::ReadWrite);
    let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    let connected = if is_local || config.get_ssl_mode() == SslMode::Disable {
        config.ssl_mode(SslMode::Disable).connect(NoTls)
    } else {
        config.ssl_mode(SslMode::Require).connect(tls(open.root_certificate.as_deref())?)
    };
    let mut client = connected.map_err(|error| unreachable(&error))?;
    client.batch_execute(SETTINGS).map_err(|error| broken(&error))?;
    let row = client.query_one("SELECT current_setting('fsync')", &[]).map_err(|error| broken(&error))?;
    if row.get::<_, &str>(0) != "on" {
        let fact = "the server runs with fsync off, and would forget at a power loss what was spent";
        return Err(failed(fact, "turn fsync on in its postgresql.conf"));
    }
    Ok(client)
}

fn parse(place: &str) -> Result<Config> {
    let remedy = "name it as postgres://USER@HOST/DATABASE, or with ?host=/FOLDER/OF/THE/SOCKET";
    let config: Config = place.parse().map_err(|error| invalid(format!("the place is malformed: {error}"), remedy))?;
    if config.get_password().is_some() {
        return Err(invalid("the place has a password in it", "let store.toml say where the password is"));
    }
    if config.get_hosts().is_empty() || config.get_user().is_none() || config.get_dbname().is_none() {
        return Err(invalid("the place lacks a user, a host or a database", remedy));
    }
    Ok(config)
}

/// The server must have a certificate for its name from the authority that the operator names, and from no other.
fn tls(authority: Option<&Path>) -> Result<MakeRustlsConnect> {
    let Some(path) = authority else {
        return Err(invalid(
            "the server is reached over a network, and nothing says who vouches for it",
            "name its authority's PEM file as `root_certificate` in store.toml, or add ?sslmode=disable where nobody \
             else is on the way",
        ));
    };
    let unusable = |why: String| {
        invalid(format!("the root certificate cannot be used: {why}"), "name a PEM file as `root_certificate`")
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn reveal(secret: &Secret) -> Result<String> {
    match secret {
        Secret::Environment(name) => std::env::var(name).map_err(|_| {
            invalid(format!("the password is to be in the variable {name}, which is not set"), "set it for the host")
        }),
        Secret::File(path) => read(path).map_err(|error| {
            let fact = format!("the password's file {} cannot be used: {error}", path.display());
            invalid(fact, "let it be a text that its owner alone may read")
        }),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other("others may read it"));
    }
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
