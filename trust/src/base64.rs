//! Base64 in the one text that bytes have.
//!
//! RFC 4648 has one; but data-encoding also takes several padded texts one after the other (`YQ==YQ==` for `aa`), and
//! whoever passes on what was signed could write it in another way.

use data_encoding::{BASE64, BASE64URL, Encoding};

/// Reads base64 with padding, in the standard alphabet.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    decode_as(&BASE64, text)
}

/// Reads base64 with padding, in either alphabet.
#[must_use]
pub fn decode_either(text: &str) -> Option<Vec<u8>> {
    decode(text).or_else(|| decode_as(&BASE64URL, text))
}

fn decode_as(encoding: &Encoding, text: &str) -> Option<Vec<u8>> {
    let bytes = encoding.decode(text.as_bytes()).ok()?;
    (encoding.encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_text() {
        assert_eq!(decode("YWE="), Some(b"aa".to_vec()));
        assert_eq!(decode(""), Some(Vec::new()));
        for other in ["YQ==YQ==", "YWE", "YWF=", "YWE=\n", "YWE= ", "YWE==", "Y=", "=", "====", "+-=="] {
            assert_eq!(decode(other), None, "{other}");
            assert_eq!(decode_either(other), None, "{other}");
        }
        assert_eq!(decode("-_8="), None);
        assert_eq!(decode_either("-_8="), decode("+/8="));
        assert_eq!(decode_either("-_8=-_8="), None);
    }
}
