//! Minisign signatures, which the `minisign` program verifies.
//!
//! What is written is prehashed (`ED`): the key signs the BLAKE2b-512 of the message, and then that signature with
//! the trusted comment. Older files (`Ed`), whose key signs the message itself, are read as well.

use blake2::{Blake2b512, Digest};
use data_encoding::BASE64;

use crate::base64;
use crate::denial::{Denial, Reason, Result};
use crate::keys::{PublicKey, SignError, Signer};

const PREHASHED: &[u8; 2] = b"ED";
const LEGACY: &[u8; 2] = b"Ed";
const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";
/// Minisign reads more of the trusted comment, and less of the other.
const COMMENT_BYTES_MAX: usize = 1000;
const FILE_BYTES_MAX: usize = 4096;

/// Signs a message, and with it one line that whoever verifies can rely on. Two signatures of the key are needed.
pub fn sign(message: &[u8], trusted_comment: &str, key: &dyn Signer) -> Result<String, SignError> {
    if !is_comment(trusted_comment) {
        return Err(format!("the trusted comment is not one line of at most {COMMENT_BYTES_MAX} bytes"));
    }
    let signature = key.sign(&Blake2b512::digest(message))?;
    let global = key.sign(&[signature.as_slice(), trusted_comment.as_bytes()].concat())?;
    let number = key.public().minisign_number();
    let signed = BASE64.encode(&[PREHASHED.as_slice(), &number, &signature].concat());
    let global = BASE64.encode(&global);
    Ok(format!("{UNTRUSTED}signature of glovebox\n{signed}\n{TRUSTED}{trusted_comment}\n{global}\n"))
}

/// Verifies a signature file and gives its trusted comment.
///
/// The first line and the key number are not covered by any signature: they decide nothing, and may be anything.
pub fn verify(file: &[u8], message: &[u8], key: &PublicKey) -> Result<String> {
    if file.len() > FILE_BYTES_MAX {
        return Err(Denial::new(Reason::TooLarge, format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    let Parsed { algorithm, signature, trusted_comment, global } =
        parse(file).ok_or_else(|| Denial::new(Reason::Malformed, "it is not exactly one minisign signature"))?;
    let is_valid = match &algorithm {
        PREHASHED => key.verify(&Blake2b512::digest(message), &signature),
        LEGACY => key.verify(message, &signature),
        _ => return Err(Denial::new(Reason::Malformed, "its algorithm is neither ED nor Ed")),
    };
    if !is_valid {
        return Err(Denial::new(Reason::SignatureInvalid, "its signature does not verify"));
    }
    if !key.verify(&[signature.as_slice(), trusted_comment.as_bytes()].concat(), &global) {
        return Err(Denial::new(Reason::SignatureInvalid, "the signature of its trusted comment does not verify"));
    }
    Ok(trusted_comment)
}

struct Parsed {
    algorithm: [u8; 2],
    signature: [u8; 64],
    trusted_comment: String,
    global: [u8; 64],
}

fn parse(file: &[u8]) -> Option<Parsed> {
    let text = std::str::from_utf8(file).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let [untrusted, signed, trusted, global] = lines.as_slice() else { return None };
    untrusted.strip_prefix(UNTRUSTED).filter(|comment| is_comment(comment))?;
    let trusted_comment = trusted.strip_prefix(TRUSTED).filter(|comment| is_comment(comment))?;
    let signed = base64::decode(signed)?;
    let (algorithm, numbered) = signed.split_first_chunk::<2>()?;
    let (_, signature) = numbered.split_first_chunk::<8>()?;
    Some(Parsed {
        algorithm: *algorithm,
        signature: signature.try_into().ok()?,
        trusted_comment: trusted_comment.to_owned(),
        global: base64::decode(global)?.try_into().ok()?,
    })
}

/// Minisign's own trusted comments have a tab in them.
fn is_comment(text: &str) -> bool {
    text.len() <= COMMENT_BYTES_MAX && text.chars().all(|c| c == '\t' || !c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    const MESSAGE: &[u8] = b"terms";

    /// A file as minisign 0.8 and older write it.
    fn legacy(key: &SigningKey) -> String {
        let signature = key.sign(MESSAGE).unwrap();
        let global = key.sign(&[signature.as_slice(), b"old"].concat()).unwrap();
        let signed = BASE64.encode(&[LEGACY.as_slice(), b"anything", &signature].concat());
        format!("{UNTRUSTED}\n{signed}\n{TRUSTED}old\n{}\n", BASE64.encode(&global))
    }

    fn reason(file: &str, message: &[u8], key: &SigningKey) -> Reason {
        verify(file.as_bytes(), message, &key.public()).unwrap_err().reason()
    }

    #[test]
    fn another_implementation_verifies_what_is_written() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = minisign_verify::PublicKey::decode(&key.public().to_minisign("ana")).unwrap();
        for comment in ["agreement reach r1", "", "timestamp:1790000000\tfile:a.json\thashed", "größe"] {
            let file = sign(MESSAGE, comment, &key).unwrap();
            assert_eq!(verify(file.as_bytes(), MESSAGE, &key.public()).unwrap(), comment);
            let signature = minisign_verify::Signature::decode(&file).unwrap();
            assert_eq!(signature.trusted_comment(), comment);
            public.verify(MESSAGE, &signature, false).unwrap();
            assert!(public.verify(b"other", &signature, false).is_err());
        }
    }

    #[test]
    fn what_another_implementation_reads_of_older_files_is_read() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let file = legacy(&key);
        assert_eq!(verify(file.as_bytes(), MESSAGE, &key.public()).unwrap(), "old");
        // The other one goes by key numbers, which are at random in both files.
        let public = BASE64.encode(&[LEGACY.as_slice(), b"anything", &key.public().to_bytes()].concat());
        let public = minisign_verify::PublicKey::from_base64(&public).unwrap();
        let signature = minisign_verify::Signature::decode(&file).unwrap();
        public.verify(MESSAGE, &signature, true).unwrap();
        assert!(public.verify(MESSAGE, &signature, false).is_err());
    }

    #[test]
    fn every_changed_byte_that_is_signed_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        for file in [sign(MESSAGE, "agreement reach r1", &key).unwrap(), legacy(&key)] {
            let second_line = file.find('\n').unwrap() + 1;
            // Characters 2 to 13 of the second line hold the key number, and bits of its neighbours.
            let unsigned = UNTRUSTED.len()..second_line - 1;
            let numbered = second_line + 2..second_line + 14;
            for at in 0..file.len() {
                for bit in 0..8 {
                    let mut changed = file.clone().into_bytes();
                    changed[at] ^= 1 << bit;
                    if unsigned.contains(&at) || numbered.contains(&at) {
                        continue;
                    }
                    assert!(verify(&changed, MESSAGE, &key.public()).is_err(), "byte {at} can be changed");
                }
            }
            for cut in 0..file.len() - 1 {
                assert!(verify(&file.as_bytes()[..cut], MESSAGE, &key.public()).is_err());
            }
            for garbage in ["\n", "x", " ", &file] {
                assert_eq!(reason(&format!("{file}{garbage}"), MESSAGE, &key), Reason::Malformed);
            }
        }
    }

    #[test]
    fn swapped_parts_and_other_keys_are_refused() {
        let (key, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let file = sign(MESSAGE, "agreement reach r1", &key).unwrap();
        assert_eq!(reason(&file, b"other", &key), Reason::SignatureInvalid);
        assert_eq!(reason(&file, MESSAGE, &other), Reason::SignatureInvalid);
        assert_eq!(reason(&file.replace("reach", "reacH"), MESSAGE, &key), Reason::SignatureInvalid);
        let lines: Vec<&str> = file.lines().collect();
        let another = sign(b"other", "agreement reach r1", &key).unwrap();
        let another: Vec<&str> = another.lines().collect();
        let mixed = [lines[0], lines[1], lines[2], another[3], ""].join("\n");
        assert_eq!(reason(&mixed, MESSAGE, &key), Reason::SignatureInvalid);
        let unhashed = file.replacen("\nRU", "\nRW", 1); // `ED` and `Ed` in base64
        assert_ne!(unhashed, file);
        assert_eq!(reason(&unhashed, MESSAGE, &key), Reason::SignatureInvalid);
        assert_eq!(reason(&"x".repeat(4097), MESSAGE, &key), Reason::TooLarge);
    }

    #[test]
    fn a_signature_is_one_text() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let file = sign(MESSAGE, "agreement reach r1", &key).unwrap();
        for at in [1, 3] {
            let line = file.lines().nth(at).unwrap();
            let bytes = BASE64.decode(line.as_bytes()).unwrap();
            let pieces = [BASE64.encode(&bytes[..10]), BASE64.encode(&bytes[10..])].concat();
            assert_eq!(BASE64.decode(pieces.as_bytes()).unwrap(), bytes);
            assert_eq!(reason(&file.replace(line, &pieces), MESSAGE, &key), Reason::Malformed);
        }
    }

    #[test]
    fn a_comment_is_one_line() {
        let key = SigningKey::from_bytes(&[7; 32]);
        for comment in ["a\nb", "a\rb", "a\0", "a\u{85}b", &"x".repeat(1001)] {
            assert!(sign(MESSAGE, comment, &key).is_err());
        }
    }
}
