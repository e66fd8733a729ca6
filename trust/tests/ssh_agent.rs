//! Against the real programs of OpenSSH: `ssh-agent` signs an envelope, and `ssh-keygen -Y` makes and verifies signed
//! files. They must be there; without them this fails.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../runtime/src/signing/agent.rs"]
pub mod agent;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agent::{AgentKey, identities};
use glovebox_trust::envelope::{IN_TOTO, open, pre_authentication_encoding, seal};
use glovebox_trust::keys::{PublicKey, Signer, SigningKey};
use glovebox_trust::{Reason, minisign, ssh};

const NAMESPACE: &str = "approval@glovebox";
const MESSAGE: &[u8] = b"{\"terms\": \"of the room\"}\n";

/// A folder of its own below the system's, whose path is short enough for a socket. Removed with all agents in it.
struct Scratch {
    folder: PathBuf,
    agent: Option<Child>,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("glovebox-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Self { folder, agent: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn run(&self, program: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&self.folder)
            .env("SSH_AUTH_SOCK", self.path("agent"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} of OpenSSH is needed: {error}"));
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    fn must(&self, program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(program, arguments, input);
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Makes a key pair as a person does, and reads its public half.
    fn key(&self, name: &str) -> PublicKey {
        self.must("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", &format!("{name}@test"), "-f", name], b"");
        PublicKey::read(&fs::read(self.path(&format!("{name}.pub"))).unwrap()).unwrap()
    }

    fn start_agent(&mut self) -> PathBuf {
        let socket = self.path("agent");
        let mut command = Command::new("ssh-agent");
        command.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null());
        self.agent = Some(command.spawn().expect("ssh-agent of OpenSSH is needed"));
        let started = Instant::now();
        while !socket.exists() {
            assert!(started.elapsed() < Duration::from_secs(30), "ssh-agent makes no socket");
            thread::sleep(Duration::from_millis(10));
        }
        socket
    }

    /// Whether `ssh-keygen -Y verify` accepts a signature file of ana.
    fn ssh_keygen_verifies(&self, signature: &[u8], namespace: &str, message: &[u8], key: &PublicKey) -> bool {
        fs::write(self.path("allowed"), format!("ana namespaces=\"{NAMESPACE}\" {}", key.to_openssh(""))).unwrap();
        fs::write(self.path("sig"), signature).unwrap();
        let arguments = ["-Y", "verify", "-f", "allowed", "-I", "ana", "-n", namespace, "-s", "sig"];
        self.run("ssh-keygen", &arguments, message).status.success()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.kill().and_then(|()| agent.wait()).ok();
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}

#[test]
fn an_agent_signs_envelopes_and_files() {
    let mut scratch = Scratch::new("agent");
    let socket = scratch.start_agent();
    let (ana, ben) = (scratch.key("ana"), scratch.key("ben"));
    scratch.must("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "other"], b"");
    scratch.must("ssh-add", &["-q", "other"], b"");
    scratch.must("ssh-add", &["-q", "ana"], b"");

    let held = identities(&socket).unwrap();
    assert_eq!(held.iter().map(|identity| identity.comment.as_str()).collect::<Vec<_>>(), ["ana@test"]);
    assert_eq!(held[0].key, ana);
    assert!(AgentKey::new(&socket, ben).unwrap_err().contains("does not hold the key ssh-ed25519 AAAA"));

    let key = AgentKey::new(&socket, ana).unwrap();
    let sealed = seal(IN_TOTO, MESSAGE, &key).unwrap();
    let opened = open(&sealed, IN_TOTO, [("ben", ben), ("ana", ana)]).unwrap();
    assert_eq!((opened.signer, opened.payload.as_slice()), ("ana", MESSAGE));
    assert_eq!(open(&sealed, IN_TOTO, [("ben", ben)]).unwrap_err().reason(), Reason::SignatureInvalid);
    // Ed25519 is deterministic: the agent's signature is that of a plain envelope.
    let signature = key.sign(&pre_authentication_encoding(IN_TOTO, MESSAGE)).unwrap();
    assert!(String::from_utf8(sealed).unwrap().contains(&data_encoding::BASE64.encode(&signature)));

    let file = ssh::sign(NAMESPACE, MESSAGE, &key).unwrap();
    assert!(scratch.ssh_keygen_verifies(file.as_bytes(), NAMESPACE, MESSAGE, &ana));
    let file = minisign::sign(MESSAGE, "by an agent", &key).unwrap();
    assert_eq!(minisign::verify(file.as_bytes(), MESSAGE, &ana).unwrap(), "by an agent");

    // The largest payload that an envelope holds.
    assert!(key.sign(&vec![b'x'; 190 << 10]).is_ok());
    assert!(key.sign(&vec![b'x'; 256 << 10]).unwrap_err().contains("longer than"));

    scratch.must("ssh-add", &["-q", "-d", "ana"], b"");
    assert!(key.sign(MESSAGE).unwrap_err().contains("refuses"));
    scratch.must("ssh-add", &["-q", "-D"], b"");
    assert!(identities(&socket).unwrap().is_empty());
}

#[test]
fn an_agent_that_is_not_there_or_talks_nonsense_gives_one_line() {
    let scratch = Scratch::new("nonsense");
    let missing = identities(&scratch.path("nowhere")).unwrap_err();
    assert!(missing.contains("cannot use the ssh-agent at"), "{missing}");
    for answer in [
        b"".as_slice(),
        b"\0\0\0\x01",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x01\x05",
        b"\0\0\0\x05\x0c\xff\xff\xff\xff",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        let socket = scratch.path("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(answer).unwrap();
        });
        let error = identities(&socket).unwrap_err();
        assert_eq!(error.lines().count(), 1, "{error}");
        server.join().unwrap();
        fs::remove_file(&socket).unwrap();
    }
}

/// An agent may sign other bytes than it was asked to.
#[test]
fn an_agent_that_lies_is_found_out() {
    let scratch = Scratch::new("liar");
    let socket = scratch.path("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.public();
    let server = thread::spawn(move || {
        let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let blob = |bytes: &[u8]| string(&[string(b"ssh-ed25519"), string(bytes)].concat());
        let list = [b"\x0c\0\0\0\x01".as_slice(), &blob(&public.to_bytes()), &string(b"liar")].concat();
        let lie = [b"\x0e".as_slice(), &blob(&key.sign(b"other").unwrap())].concat();
        for answer in [list, lie] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&string(&answer)).unwrap();
        }
    });
    let held = AgentKey::new(&socket, public).unwrap();
    assert_eq!(held.sign(MESSAGE).unwrap_err(), "the ssh-agent's signature does not verify");
    server.join().unwrap();
}

#[test]
fn ssh_keygen_verifies_what_we_sign() {
    let scratch = Scratch::new("verify");
    let key = SigningKey::from_bytes(&[7; 32]);
    let file = ssh::sign(NAMESPACE, MESSAGE, &key).unwrap();
    assert!(scratch.ssh_keygen_verifies(file.as_bytes(), NAMESPACE, MESSAGE, &key.public()));
    assert!(!scratch.ssh_keygen_verifies(file.as_bytes(), NAMESPACE, b"other", &key.public()));
    assert!(!scratch.ssh_keygen_verifies(file.as_bytes(), "file", MESSAGE, &key.public()));
    let other = SigningKey::from_bytes(&[8; 32]).public();
    assert!(!scratch.ssh_keygen_verifies(file.as_bytes(), NAMESPACE, MESSAGE, &other));
}

#[test]
fn what_ssh_keygen_signs_verifies_for_its_namespace_alone() {
    let scratch = Scratch::new("sign");
    let ana = scratch.key("ana");
    let sign = |namespace: &str, hash: &str| {
        let hash = format!("hashalg={hash}");
        scratch.must("ssh-keygen", &["-Y", "sign", "-q", "-f", "ana", "-n", namespace, "-O", &hash], MESSAGE)
    };
    for hash in ["sha512", "sha256"] {
        let file = sign(NAMESPACE, hash);
        ssh::verify(&file, NAMESPACE, MESSAGE, &ana).unwrap();
        let refused = ssh::verify(&file, NAMESPACE, b"other", &ana).unwrap_err();
        assert_eq!(refused.reason(), Reason::SignatureInvalid);
    }
    for namespace in ["git", "file", "receipt@glovebox"] {
        let file = sign(namespace, "sha512");
        for wanted in [NAMESPACE, "git", "file", ""] {
            assert_eq!(ssh::verify(&file, wanted, MESSAGE, &ana).unwrap_err().reason(), Reason::PayloadType);
        }
    }
    scratch.must("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "other"], b"");
    let file = scratch.must("ssh-keygen", &["-Y", "sign", "-q", "-f", "other", "-n", NAMESPACE], MESSAGE);
    assert_eq!(ssh::verify(&file, NAMESPACE, MESSAGE, &ana).unwrap_err().reason(), Reason::Malformed);
}

/// A second implementation reads and verifies what we write, and makes what we read.
#[test]
fn another_library_agrees_about_signed_files() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = ssh_key::PublicKey::from_openssh(&key.public().to_openssh("ana")).unwrap();
    let file = ssh::sign(NAMESPACE, MESSAGE, &key).unwrap();
    let theirs = ssh_key::SshSig::from_pem(&file).unwrap();
    public.verify(NAMESPACE, MESSAGE, &theirs).unwrap();
    assert_eq!(theirs.to_pem(ssh_key::LineEnding::LF).unwrap().trim_end(), file.trim_end());

    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
    let private = ssh_key::PrivateKey::from(pair);
    for hash in [ssh_key::HashAlg::Sha256, ssh_key::HashAlg::Sha512] {
        let file = private.sign(NAMESPACE, hash, MESSAGE).unwrap().to_pem(ssh_key::LineEnding::LF).unwrap();
        ssh::verify(file.as_bytes(), NAMESPACE, MESSAGE, &key.public()).unwrap();
    }
}

#[test]
fn ssh_keygen_reads_the_key_that_we_write() {
    let scratch = Scratch::new("key");
    let public = SigningKey::from_bytes(&[7; 32]).public();
    fs::write(scratch.path("ana.pub"), public.to_openssh("ana@retailer")).unwrap();
    let shown = scratch.must("ssh-keygen", &["-l", "-f", "ana.pub"], b"");
    assert!(String::from_utf8(shown).unwrap().contains("ana@retailer (ED25519)"));
    let pem = scratch.must("ssh-keygen", &["-e", "-m", "RFC4716", "-f", "ana.pub"], b"");
    assert_eq!(PublicKey::read(&pem).unwrap_err().reason(), Reason::KeyFormat, "a format that is not read");
}
