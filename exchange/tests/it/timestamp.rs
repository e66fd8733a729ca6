//! Time stamps from OpenSSL's authority, verified by OpenSSL.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use serde_json::Value;
use sha2::Digest as _;

use crate::room::Room;
use crate::server::{Answer, Request, serve};
use crate::tool::{exchange, run, text};

const CONFIGURATION: &str = "\
[ tsa ]
default_tsa = one
[ one ]
serial = serial
signer_cert = tsa.crt
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = DIGESTS
accuracy = secs:1, millisecs:500
clock_precision_digits = 3
ordering = yes
tsa_name = yes
";

/// What becomes of a request on its way to the authority, whose folder it is.
type Change = Box<dyn Fn(&Path, &[u8]) -> Vec<u8> + Send>;

/// An authority with a certificate of its own, below a root.
struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    fn new(digests: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let root = ["req", "-x509", "-days", "2", "-subj", "/CN=root", "-keyout", "root.key", "-out", "root.crt"];
        run(here, "openssl", &[&root[..], &key].concat());
        let request = ["req", "-subj", "/CN=tsa", "-keyout", "tsa.key", "-out", "tsa.csr"];
        run(here, "openssl", &[&request[..], &key].concat());
        fs::write(here.join("ext"), "extendedKeyUsage = critical, timeStamping\n").unwrap();
        let sign = ["x509", "-req", "-in", "tsa.csr", "-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial"];
        run(here, "openssl", &[&sign[..], &["-days", "2", "-extfile", "ext", "-out", "tsa.crt"]].concat());
        fs::write(here.join("tsa.cnf"), CONFIGURATION.replace("DIGESTS", digests)).unwrap();
        fs::write(here.join("serial"), "01\n").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Answers a request as it is.
    fn reply(folder: &Path, query: &[u8]) -> Vec<u8> {
        fs::write(folder.join("query"), query).unwrap();
        run(folder, "openssl", &["ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply"]);
        fs::read(folder.join("reply")).unwrap()
    }

    /// Serves, with a change to each request.
    fn serve(&self, change: impl Fn(&Path, &[u8]) -> Vec<u8> + Send + 'static) -> String {
        let folder = self.folder.path().to_owned();
        let answer = move |request: &Request| -> Answer {
            assert_eq!(request.method, "POST");
            assert!(request.head.to_ascii_lowercase().contains("content-type: application/timestamp-query"));
            let headers = "Content-Type: application/timestamp-reply\r\n".into();
            (200, headers, Self::reply(&folder, &change(&folder, &request.body)))
        };
        format!("http://{}/tsa", serve(answer))
    }
}

fn signature(envelope: &Path) -> Vec<u8> {
    let envelope: Value = serde_json::from_slice(&fs::read(envelope).unwrap()).unwrap();
    BASE64.decode(envelope["signatures"][0]["sig"].as_str().unwrap().as_bytes()).unwrap()
}

#[test]
fn openssl_accepts_the_time_stamps_of_several_approvals() {
    let (authority, room) = (Authority::new("sha256, sha512"), Room::new());
    let url = authority.serve(|_, query| query.to_vec());
    let files = ["retailer.ana", "brand.dan"].map(|name| room.path(&format!("agreements/reach-r1/{name}.dsse.json")));
    let arguments = ["timestamp", "--tsa", &url, text(&files[0]), text(&files[1]), "--json"];
    let stamped = exchange(&arguments).json();
    for (at, file) in files.iter().enumerate() {
        let stamp = file.with_file_name(file.file_name().unwrap().to_str().unwrap().replace(".dsse.json", ".tsr"));
        assert_eq!(stamped["timestamps"][at]["timestamp"], text(&stamp));
        assert!(stamped["timestamps"][at]["time"].as_str().unwrap().ends_with('Z'));
        fs::write(authority.path("signature"), signature(file)).unwrap();
        let root = authority.path("root.crt");
        let verify = ["ts", "-verify", "-in", text(&stamp), "-data", "signature", "-CAfile", text(&root)];
        let output = run(authority.folder.path(), "openssl", &verify);
        assert!(String::from_utf8(output.stdout).unwrap().contains("Verification: OK"));
    }
    // Never over another.
    exchange(&arguments).refused(2, "FILE_EXISTS");
}

#[test]
fn answers_to_other_requests_are_refused() {
    let room = Room::new();
    let file = room.path("agreements/reach-r1/brand.dan.dsse.json");
    let digest = HEXLOWER.encode(&sha2::Sha256::digest(signature(&file)));
    let refused = |authority: &Authority, change: Change, code: &str| {
        let url = authority.serve(change);
        exchange(&["timestamp", "--tsa", &url, text(&file), "--json"]).refused(3, code);
        assert!(!room.path("agreements/reach-r1/brand.dan.tsr").exists());
    };
    let query = |digest: String, more: &'static [&'static str]| -> Change {
        Box::new(move |folder, _| {
            let arguments = [&["ts", "-query", "-digest", &digest, "-sha256", "-out", "other"], more].concat();
            run(folder, "openssl", &arguments);
            fs::read(folder.join("other")).unwrap()
        })
    };
    let authority = Authority::new("sha256, sha512");
    // The same signature with another nonce, or none; another signature.
    refused(&authority, query(digest.clone(), &["-cert"]), "TIMESTAMP_INVALID");
    refused(&authority, query(digest, &["-cert", "-no_nonce"]), "TIMESTAMP_INVALID");
    refused(&authority, query("00".repeat(32), &["-cert"]), "TIMESTAMP_INVALID");
    // Our nonce on another imprint, and our request without its last field, the certificate.
    let imprint = |_: &Path, query: &[u8]| {
        let mut query = query.to_vec();
        let at = query.windows(2).position(|window| window == [4, 32]).unwrap() + 2;
        query[at] ^= 1;
        query
    };
    refused(&authority, Box::new(imprint), "TIMESTAMP_INVALID");
    let bare = |_: &Path, query: &[u8]| {
        let mut query = query.strip_suffix(&[1, 1, 255]).unwrap().to_vec();
        query[1] -= 3;
        query
    };
    refused(&authority, Box::new(bare), "TIMESTAMP_INVALID");
    // An authority that takes no SHA-256 says so.
    refused(&Authority::new("sha512"), Box::new(|_, query| query.to_vec()), "TIMESTAMP_REFUSED");
}

#[test]
fn servers_that_are_no_authority() {
    let room = Room::new();
    let file = room.path("agreements/reach-r1/brand.dan.dsse.json");
    let stamp = |status, body: Vec<u8>| {
        let address = serve(move |_| (status, String::new(), body.clone()));
        exchange(&["timestamp", "--tsa", &format!("http://{address}"), text(&file), "--json"])
    };
    stamp(200, Vec::new()).refused(3, "TIMESTAMP_INVALID");
    stamp(200, b"<html>".to_vec()).refused(3, "TIMESTAMP_INVALID");
    stamp(200, vec![0; 2 << 20]).refused(3, "OVERSIZE");
    // Granted, and nothing in it.
    stamp(200, vec![0x30, 5, 0x30, 3, 2, 1, 0]).refused(3, "TIMESTAMP_INVALID");
    stamp(503, b"later".to_vec()).refused(6, "SERVER_FAILED");
    stamp(302, Vec::new()).refused(6, "SERVER_FAILED");
    exchange(&["timestamp", "--tsa", "http://127.0.0.1:1", text(&file), "--json"]).refused(6, "NETWORK_FAILED");
    exchange(&["timestamp", "--tsa", "ftp://x", text(&file), "--json"]).refused(2, "USAGE");
    let agreement = room.path("agreements/reach-r1/agreement.json");
    exchange(&["timestamp", "--tsa", "http://127.0.0.1:1", text(&agreement), "--json"]).refused(2, "USAGE");
    assert!(!room.path("agreements/reach-r1/brand.dan.tsr").exists());
}
