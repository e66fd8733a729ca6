//! Debian's registry, a real one, started by the test, with its storage on disk where the test can reach it.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use sha2::Digest as _;

use crate::server::http;

/// A registry of its own for one test. Dropped, it is gone.
pub(crate) struct Registry {
    process: Child,
    pub(crate) address: String,
    storage: tempfile::TempDir,
}

impl Registry {
    /// A registry without TLS that lets everyone in.
    pub(crate) fn start() -> Self {
        Self::start_with("", "")
    }

    /// A registry with more in its configuration: under `http`, and at the top.
    pub(crate) fn start_with(http: &str, more: &str) -> Self {
        let storage = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let root = storage.path().display();
        let configuration = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: '{root}'}}}}\n{more}\
             http:\n  addr: '{address}'\n{http}"
        );
        let file = storage.path().join("config.yml");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("docker-registry is needed ({error}): install it with `apt-get install docker-registry`")
        });
        let registry = Self { process, address, storage };
        registry.wait();
        registry
    }

    fn wait(&self) {
        for _ in 0..200 {
            if std::net::TcpStream::connect(&self.address).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("docker-registry does not listen on {} after 10 s", self.address);
    }

    /// A repository of the registry, as commands name it.
    pub(crate) fn repository(&self) -> String {
        format!("{}/rooms/reach", self.address)
    }

    /// What stands under a digest or a tag.
    pub(crate) fn manifest(&self, reference: &str) -> Vec<u8> {
        let (status, _, body) = self.request("GET", reference, "", b"");
        assert_eq!(status, 200, "{reference}");
        body
    }

    /// Puts a manifest or a list of manifests under a digest or a tag, as any client with access could.
    pub(crate) fn put(&self, reference: &str, media_type: &str, bytes: &[u8]) -> u16 {
        self.request("PUT", reference, media_type, bytes).0
    }

    fn request(&self, method: &str, reference: &str, media_type: &str, bytes: &[u8]) -> (u16, String, Vec<u8>) {
        let types = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        let headers = format!("Accept: {types}\r\nContent-Type: {media_type}\r\n");
        http(&self.address, method, &format!("/v2/rooms/reach/manifests/{reference}"), &headers, bytes)
    }

    /// The file of a blob or a manifest in the registry's storage.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        let (algorithm, hex) = digest.split_once(':').unwrap();
        self.docker().join(format!("blobs/{algorithm}/{}/{hex}/data", &hex[..2]))
    }

    /// Puts a manifest into the registry behind its back, where it checks nothing. Gives the digest.
    pub(crate) fn plant_manifest(&self, bytes: &[u8]) -> String {
        let digest = self.plant(bytes);
        self.link(&format!("_manifests/revisions/{}", digest.replace(':', "/")), &digest);
        digest
    }

    /// Puts a blob into the registry behind its back. Gives the digest.
    pub(crate) fn plant_blob(&self, bytes: &[u8]) -> String {
        let digest = self.plant(bytes);
        self.link(&format!("_layers/{}", digest.replace(':', "/")), &digest);
        digest
    }

    fn plant(&self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let file = self.blob_file(&digest);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
        digest
    }

    fn link(&self, folder: &str, digest: &str) {
        let folder = self.docker().join("repositories/rooms/reach").join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("link"), digest).unwrap();
    }

    fn docker(&self) -> PathBuf {
        self.storage.path().join("docker/registry/v2")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The digest of these bytes, as registries write it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes)))
}
