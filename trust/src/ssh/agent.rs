//! What is said to an ssh-agent and what it answers (draft-ietf-sshm-ssh-agent), as far as Ed25519 keys go.
//!
//! An agent signs the bytes that it is given with plain Ed25519: its signature over what an envelope signs is the
//! envelope's signature, and the private key never comes near this program.

use super::wire::{self, Reader, put_string};
use crate::keys::{PublicKey, SignError};

/// Agents end the connection on longer messages, and so do we.
pub const MESSAGE_BYTES_MAX: usize = 256 << 10;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// A key that an agent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its public half.
    pub key: PublicKey,
    /// What the agent calls it. It goes to a terminal, so control characters are left out.
    pub comment: String,
}

/// The message that asks which keys there are.
#[must_use]
pub fn request_identities() -> Vec<u8> {
    framed(&[REQUEST_IDENTITIES])
}

/// The message that asks for a signature over the bytes.
pub fn request_signature(key: &PublicKey, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
    // The rest of the message is about a hundred bytes.
    if bytes.len() > MESSAGE_BYTES_MAX - 1024 {
        return Err("what is to be signed is longer than an ssh-agent takes".into());
    }
    let mut message = vec![SIGN_REQUEST];
    put_string(&mut message, &wire::key_blob(key));
    put_string(&mut message, bytes);
    message.extend(0u32.to_be_bytes()); // no flags: they choose among the hashes of RSA
    Ok(framed(&message))
}

/// How many bytes of answer follow its first four.
pub fn answer_length(prefix: [u8; 4]) -> Result<usize, SignError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if (1..=MESSAGE_BYTES_MAX).contains(&length) {
        Ok(length)
    } else {
        Err(format!("the ssh-agent announces an answer of {length} bytes"))
    }
}

/// The Ed25519 keys in the answer to [`request_identities`]. Other keys, and those on which verifiers disagree, are
/// passed over.
pub fn read_identities(answer: &[u8]) -> Result<Vec<Identity>, SignError> {
    let mut reader = body(answer, IDENTITIES_ANSWER)?;
    read_list(&mut reader).ok_or_else(|| "the ssh-agent's list of keys is malformed".into())
}

/// The signature in the answer to [`request_signature`]. It is not verified here.
pub fn read_signature(answer: &[u8]) -> Result<[u8; 64], SignError> {
    let mut reader = body(answer, SIGN_RESPONSE)?;
    let blob = reader.string().filter(|_| reader.end().is_some());
    blob.and_then(wire::read_signature_blob).ok_or_else(|| "the ssh-agent's signature is not one of Ed25519".into())
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    put_string(&mut framed, message);
    framed
}

fn body(answer: &[u8], expected: u8) -> Result<Reader<'_>, SignError> {
    match answer.split_first() {
        Some((kind, body)) if *kind == expected => Ok(Reader(body)),
        Some((&FAILURE, _)) => Err("the ssh-agent refuses: it is locked, lacks the key, or was told no".into()),
        _ => Err("the ssh-agent answers something else than was asked".into()),
    }
}

fn read_list(reader: &mut Reader<'_>) -> Option<Vec<Identity>> {
    let mut identities = Vec::new();
    for _ in 0..reader.number()? {
        let (blob, comment) = (reader.string()?, reader.string()?);
        if let Some(key) = wire::read_key_blob(blob).and_then(|bytes| PublicKey::from_bytes(&bytes).ok()) {
            let comment = String::from_utf8_lossy(comment).chars().filter(|c| !c.is_control()).collect();
            identities.push(Identity { key, comment });
        }
    }
    reader.end()?;
    Some(identities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Signer, SigningKey};

    fn answer(kind: u8, strings: &[&[u8]], count: Option<u32>) -> Vec<u8> {
        let mut answer = vec![kind];
        answer.extend(count.iter().flat_map(|count| count.to_be_bytes()));
        strings.iter().for_each(|string| put_string(&mut answer, string));
        answer
    }

    #[test]
    fn requests_are_as_the_protocol_writes_them() {
        let key = SigningKey::from_bytes(&[7; 32]).public();
        assert_eq!(request_identities(), [0, 0, 0, 1, 11]);
        let request = request_signature(&key, b"abc").unwrap();
        let mut expected = vec![0, 0, 0, 67, 13, 0, 0, 0, 51, 0, 0, 0, 11];
        expected.extend(b"ssh-ed25519\0\0\0\x20");
        expected.extend(key.to_bytes());
        expected.extend(b"\0\0\0\x03abc\0\0\0\0");
        assert_eq!(request, expected);
        assert!(request_signature(&key, &vec![0; MESSAGE_BYTES_MAX]).is_err());
        assert!(request_signature(&key, &vec![0; 200 << 10]).unwrap().len() <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn other_keys_are_passed_over_and_comments_are_harmless() {
        let key = SigningKey::from_bytes(&[7; 32]).public();
        let mut identity = [0; 32];
        identity[0] = 1;
        let weak = wire::pair(&identity);
        let other = b"\0\0\0\x07ssh-rsa\0\0\0\x01a";
        let strings: [&[u8]; 6] = [other, b"rsa", &weak, b"weak", &wire::key_blob(&key), b"ana\x1b[2J@\xff"];
        let read = read_identities(&answer(IDENTITIES_ANSWER, &strings, Some(3))).unwrap();
        assert_eq!(read, [Identity { key, comment: "ana[2J@\u{fffd}".into() }]);
    }

    #[test]
    fn cut_or_lengthened_answers_are_refused() {
        let key = SigningKey::from_bytes(&[7; 32]).public();
        let list = answer(IDENTITIES_ANSWER, &[&wire::key_blob(&key), b"ana"], Some(1));
        let signature = answer(SIGN_RESPONSE, &[&wire::signature_blob(&[3; 64])], None);
        assert_eq!(read_signature(&signature).unwrap(), [3; 64]);
        for cut in 0..list.len() {
            assert!(read_identities(&list[..cut]).is_err());
        }
        for cut in 0..signature.len() {
            assert!(read_signature(&signature[..cut]).is_err());
        }
        assert!(read_identities(&[list.as_slice(), b"x"].concat()).is_err());
        assert!(read_signature(&[signature.as_slice(), b"x"].concat()).is_err());
        assert!(read_signature(&answer(SIGN_RESPONSE, &[&wire::pair(&[3; 63])], None)).is_err());
        assert!(read_identities(&answer(IDENTITIES_ANSWER, &[], Some(u32::MAX))).is_err());
    }

    #[test]
    fn a_refusal_is_said_and_lengths_are_bounded() {
        assert!(read_signature(&[FAILURE]).unwrap_err().contains("refuses"));
        assert!(read_identities(&[FAILURE]).unwrap_err().contains("refuses"));
        assert!(read_identities(&[SIGN_RESPONSE]).unwrap_err().contains("something else"));
        assert_eq!(answer_length([0, 0, 0, 1]), Ok(1));
        assert_eq!(answer_length([0, 4, 0, 0]), Ok(MESSAGE_BYTES_MAX));
        for refused in [[0, 0, 0, 0], [0, 4, 0, 1], [0xff; 4]] {
            assert!(answer_length(refused).is_err());
        }
    }
}
