//! Key files and the signatures of ssh-keygen and minisign: keys are the same in every format, and what verifies was
//! signed.

use glovebox_trust::keys::{PublicKey, Signer, SigningKey};
use glovebox_trust::{minisign, ssh};

use super::{Seed, accepted};

const NAMESPACE: &str = "approval@glovebox";
const MESSAGE: &[u8] = b"terms";
const COMMENT: &str = "agreement reach r1";

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// Reads the data as each kind of file, and as what an ssh-agent answers.
pub fn check(data: &[u8]) {
    if let Some(key) = accepted(PublicKey::read(data)) {
        for file in [key.to_pem(), key.to_openssh("x"), key.to_minisign("x"), key.to_hex()] {
            assert_eq!(PublicKey::read(file.as_bytes()), Ok(key), "{file}");
        }
        let point = PublicKey::from_bytes(&key.to_bytes());
        assert_eq!(point, Ok(key), "a key is read that is not accepted");
    }
    let key = signer().public();
    if accepted(ssh::verify(data, NAMESPACE, MESSAGE, &key)).is_some() {
        check_armor(data);
    }
    assert!(accepted(ssh::verify(data, NAMESPACE, b"other", &key)).is_none());
    assert!(accepted(ssh::verify(data, "receipt@glovebox", MESSAGE, &key)).is_none());
    if let Some(comment) = accepted(minisign::verify(data, MESSAGE, &key)) {
        assert_eq!(comment, COMMENT, "a comment verifies that nobody signed");
    }
    assert!(accepted(minisign::verify(data, b"other", &key)).is_none());
    check_agent(data);
}

/// Ed25519 is deterministic: but for the lines, there is one file.
fn check_armor(data: &[u8]) {
    let without_lines = |text: &str| text.replace(['\r', '\n'], "");
    let ours = ssh::sign(NAMESPACE, MESSAGE, &signer()).unwrap();
    assert_eq!(without_lines(std::str::from_utf8(data).unwrap()), without_lines(&ours));
}

fn check_agent(answer: &[u8]) {
    if let Ok(identities) = ssh::agent::read_identities(answer) {
        assert!(identities.iter().all(|identity| !identity.comment.contains(char::is_control)));
    }
    if let Ok(signature) = ssh::agent::read_signature(answer) {
        assert!(answer.ends_with(&signature));
    }
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let key = signer().public();
    let blob = data_encoding::BASE64.decode(key.to_openssh("").split_whitespace().nth(1).unwrap().as_bytes()).unwrap();
    let identities = [&[12, 0, 0, 0, 1, 0, 0, 0, 51], blob.as_slice(), &[0, 0, 0, 1, b'x']].concat();
    let signature = [b"\x0e\0\0\0\x53\0\0\0\x0bssh-ed25519\0\0\0\x40".as_slice(), &[3; 64]].concat();
    vec![
        ("pem", key.to_pem().into_bytes()),
        ("openssh", key.to_openssh("ana@retailer").into_bytes()),
        ("minisign", key.to_minisign("ana").into_bytes()),
        ("hex", key.to_hex().into_bytes()),
        ("ssh-signature", ssh::sign(NAMESPACE, MESSAGE, &signer()).unwrap().into_bytes()),
        ("minisig", minisign::sign(MESSAGE, COMMENT, &signer()).unwrap().into_bytes()),
        ("identities", identities),
        ("signature", signature),
    ]
}
