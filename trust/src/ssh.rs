//! SSH signatures of files (PROTOCOL.sshsig of OpenSSH), which `ssh-keygen -Y verify` checks; and the ssh-agent.
//!
//! A signature names what it is for, its namespace, and is refused for anything else. Only plain Ed25519 is written
//! and read.

pub mod agent;
pub(crate) mod wire;

use data_encoding::BASE64;
use sha2::{Digest, Sha256, Sha512};

use crate::base64;
use crate::denial::{Denial, Reason, Result};
use crate::keys::{PublicKey, SignError, Signer};
use wire::{Reader, put_string};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const MAGIC: &[u8; 6] = b"SSHSIG";
const VERSION: u32 = 1;
const FILE_BYTES_MAX: usize = 4096;
/// As ssh-keygen wraps; the format recommends no more than 76, and other programs wrap at 64.
const LINE_CHARS: usize = 70;
const LINE_CHARS_MAX: usize = 76;

/// A namespace that no other use of a person's SSH key shares: not empty, not that of commits, not ssh-keygen's
/// example for files. Like an e-mail address, as OpenSSH recommends: `name@project`.
#[must_use]
pub fn is_namespace(text: &str) -> bool {
    let is_part = |part: &str| crate::is_id(part);
    text.split_once('@').is_some_and(|(name, project)| is_part(name) && is_part(project))
}

/// The bytes that the key signs: the namespace, and the SHA-512 of the message.
#[must_use]
pub fn signed_bytes(namespace: &str, message: &[u8]) -> Vec<u8> {
    bytes_to_sign(namespace, "sha512", &Sha512::digest(message))
}

/// Signs a message and gives the file that `ssh-keygen -Y verify` reads.
pub fn sign(namespace: &str, message: &[u8], key: &dyn Signer) -> Result<String, SignError> {
    if !is_namespace(namespace) {
        return Err(format!("{namespace:?} is no namespace of our own"));
    }
    let signature = key.sign(&signed_bytes(namespace, message))?;
    Ok(armored(namespace, &key.public(), &signature))
}

/// The file that holds a signature over [`signed_bytes`].
fn armored(namespace: &str, key: &PublicKey, signature: &[u8; 64]) -> String {
    let mut blob = MAGIC.to_vec();
    blob.extend(VERSION.to_be_bytes());
    put_string(&mut blob, &wire::key_blob(key));
    put_string(&mut blob, namespace.as_bytes());
    put_string(&mut blob, b""); // reserved
    put_string(&mut blob, b"sha512");
    put_string(&mut blob, &wire::signature_blob(signature));

    let mut file = format!("{BEGIN}\n");
    for (at, char) in BASE64.encode(&blob).chars().enumerate() {
        if at > 0 && at % LINE_CHARS == 0 {
            file.push('\n');
        }
        file.push(char);
    }
    file + "\n" + END + "\n"
}

/// Verifies a signature file: this key's, for this namespace, over this message.
pub fn verify(file: &[u8], namespace: &str, message: &[u8], key: &PublicKey) -> Result<()> {
    if !is_namespace(namespace) {
        return Err(Denial::new(Reason::PayloadType, format!("{namespace:?} is no namespace of our own")));
    }
    let blob = read_armor(file)?;
    let signed = read_blob(&blob)
        .ok_or_else(|| Denial::new(Reason::Malformed, "it is not an SSH signature of Ed25519 in version 1"))?;
    if signed.namespace != namespace.as_bytes() {
        return Err(Denial::new(Reason::PayloadType, format!("it is not signed for the namespace {namespace}")));
    }
    if signed.key != key.to_bytes() {
        return Err(Denial::new(Reason::SignerMismatch, "it names another public key than the signer's"));
    }
    let (hash_name, hash) = match signed.hash_name {
        b"sha512" => ("sha512", Sha512::digest(message).to_vec()),
        b"sha256" => ("sha256", Sha256::digest(message).to_vec()),
        _ => return Err(Denial::new(Reason::Malformed, "it hashes with something else than sha512 or sha256")),
    };
    if !key.verify(&bytes_to_sign(namespace, hash_name, &hash), &signed.signature) {
        return Err(Denial::new(Reason::SignatureInvalid, "its signature does not verify"));
    }
    Ok(())
}

fn bytes_to_sign(namespace: &str, hash_name: &str, hash: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    put_string(&mut bytes, namespace.as_bytes());
    put_string(&mut bytes, b""); // reserved
    put_string(&mut bytes, hash_name.as_bytes());
    put_string(&mut bytes, hash);
    bytes
}

fn read_armor(file: &[u8]) -> Result<Vec<u8>> {
    if file.len() > FILE_BYTES_MAX {
        return Err(Denial::new(Reason::TooLarge, format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    let malformed = || Denial::new(Reason::Malformed, "it is not exactly one armored SSH signature");
    let text = std::str::from_utf8(file).map_err(|_| malformed())?;
    let lines: Vec<&str> = text.lines().collect();
    let [BEGIN, body @ .., END] = lines.as_slice() else { return Err(malformed()) };
    if body.iter().any(|line| line.is_empty() || line.len() > LINE_CHARS_MAX) {
        return Err(malformed());
    }
    base64::decode(&body.concat()).ok_or_else(malformed)
}

/// What a signature file says, before any of it is verified.
struct Signed<'a> {
    key: [u8; 32],
    namespace: &'a [u8],
    hash_name: &'a [u8],
    signature: [u8; 64],
}

fn read_blob(blob: &[u8]) -> Option<Signed<'_>> {
    let mut reader = Reader(blob);
    let head = (reader.array()? == *MAGIC && reader.number()? == VERSION).then_some(());
    head?;
    let key = wire::read_key_blob(reader.string()?)?;
    let namespace = reader.string()?;
    // OpenSSH ignores what is reserved but signs it; nothing has a use for it, so nothing may stand there.
    reader.string().filter(|reserved| reserved.is_empty())?;
    let hash_name = reader.string()?;
    let signature = wire::read_signature_blob(reader.string()?)?;
    reader.end()?;
    Some(Signed { key, namespace, hash_name, signature })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    const NAMESPACE: &str = "approval@glovebox";

    fn reason(file: &[u8], namespace: &str, message: &[u8], key: &PublicKey) -> Reason {
        verify(file, namespace, message, key).unwrap_err().reason()
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let file = sign(NAMESPACE, b"terms", &key).unwrap().into_bytes();
        verify(&file, NAMESPACE, b"terms", &key.public()).unwrap();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                assert!(verify(&changed, NAMESPACE, b"terms", &key.public()).is_err(), "byte {at} can be changed");
            }
        }
        for cut in 0..file.len() - 1 {
            assert_eq!(reason(&file[..cut], NAMESPACE, b"terms", &key.public()), Reason::Malformed);
        }
        for garbage in [b"\n".as_slice(), b"x", b" ", &file] {
            let longer = [file.as_slice(), garbage].concat();
            assert_eq!(reason(&longer, NAMESPACE, b"terms", &key.public()), Reason::Malformed);
            let longer = [garbage, file.as_slice()].concat();
            assert_eq!(reason(&longer, NAMESPACE, b"terms", &key.public()), Reason::Malformed);
        }
        assert_eq!(reason(&[b'\n'; 4097], NAMESPACE, b"terms", &key.public()), Reason::TooLarge);
    }

    #[test]
    fn a_signature_holds_for_its_namespace_its_message_and_its_key() {
        let (key, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let file = sign(NAMESPACE, b"terms", &key).unwrap();
        let file = file.as_bytes();
        assert_eq!(reason(file, "receipt@glovebox", b"terms", &key.public()), Reason::PayloadType);
        assert_eq!(reason(file, NAMESPACE, b"other", &key.public()), Reason::SignatureInvalid);
        assert_eq!(reason(file, NAMESPACE, b"terms", &other.public()), Reason::SignerMismatch);
    }

    #[test]
    fn namespaces_that_others_use_are_refused_even_with_a_valid_signature() {
        let key = SigningKey::from_bytes(&[7; 32]);
        for namespace in ["", "git", "file", "@", "a@", "@a", "A@b", "a@b@c", "a b@c", "a@b\n"] {
            assert!(sign(namespace, b"terms", &key).is_err());
            let signature = key.sign(&signed_bytes(namespace, b"terms")).unwrap();
            let file = armored(namespace, &key.public(), &signature);
            assert_eq!(reason(file.as_bytes(), namespace, b"terms", &key.public()), Reason::PayloadType);
            assert_eq!(reason(file.as_bytes(), NAMESPACE, b"terms", &key.public()), Reason::PayloadType);
        }
    }

    /// A file whose fields are as given, and whose signature is over them.
    fn file_of(version: u32, reserved: &[u8], hash_name: &str, trailing: &[u8]) -> String {
        let key = SigningKey::from_bytes(&[7; 32]);
        let hash = match hash_name {
            "sha256" => Sha256::digest(b"terms").to_vec(),
            _ => Sha512::digest(b"terms").to_vec(),
        };
        let mut message = MAGIC.to_vec();
        [NAMESPACE.as_bytes(), reserved, hash_name.as_bytes(), &hash].iter().for_each(|s| put_string(&mut message, s));
        let mut blob = MAGIC.to_vec();
        blob.extend(version.to_be_bytes());
        put_string(&mut blob, &wire::key_blob(&key.public()));
        [NAMESPACE.as_bytes(), reserved, hash_name.as_bytes()].iter().for_each(|s| put_string(&mut blob, s));
        put_string(&mut blob, &wire::signature_blob(&key.sign(&message).unwrap()));
        blob.extend(trailing);
        let body = BASE64.encode(&blob);
        let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
    }

    #[test]
    fn only_what_is_known_is_read() {
        let key = SigningKey::from_bytes(&[7; 32]).public();
        for hash_name in ["sha512", "sha256"] {
            let file = file_of(1, b"", hash_name, b"");
            verify(file.as_bytes(), NAMESPACE, b"terms", &key).unwrap();
            verify(file.replace('\n', "\r\n").as_bytes(), NAMESPACE, b"terms", &key).unwrap();
        }
        for file in [
            file_of(0, b"", "sha512", b""),
            file_of(2, b"", "sha512", b""),
            file_of(1, b"x", "sha512", b""),
            file_of(1, b"", "sha384", b""),
            file_of(1, b"", "SHA512", b""),
            file_of(1, b"", "sha512", b"x"),
            file_of(1, b"", "sha512", b"").replace(BEGIN, "-----BEGIN SSH SIGNATURE----- "),
            file_of(1, b"", "sha512", b"").replacen('\n', "\n\n", 1),
            file_of(1, b"", "sha512", b"").replacen('\n', "\n ", 1),
            // The same bytes, in two texts.
            file_of(1, b"", "sha512", b"").replacen("U1NIU0lH", "U1NIUw==SUc=", 1),
        ] {
            assert_eq!(reason(file.as_bytes(), NAMESPACE, b"terms", &key), Reason::Malformed, "{file}");
        }
    }
}
