//! The one way to read JSON and TOML that someone signs or relies on: text with exactly one reading.

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use glovebox_trust::json::parse as json;

/// Parses TOML in which every table is written as one. The error says what is wrong, in a line.
pub(crate) fn toml<T: Serialize + DeserializeOwned>(text: &str) -> Result<T, String> {
    let parsed = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let read = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    glovebox_trust::json::with_one_reading(parsed, &read)
}

/// What an envelope holds, as JSON, whoever signed it: for counting and for records that were verified before.
pub(crate) fn unverified_payload(envelope: &[u8]) -> Option<serde_json::Value> {
    let envelope: serde_json::Value = serde_json::from_slice(envelope).ok()?;
    let payload = glovebox_trust::base64::decode(envelope.get("payload")?.as_str()?)?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Outer {
        inner: Vec<Inner>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Inner {
        a: u8,
    }

    #[test]
    fn an_array_is_no_table() {
        for (text, is_read) in [("inner = [{ a = 1 }]", true), ("[[inner]]\na = 1", true), ("inner = [[1]]", false)] {
            assert_eq!(toml::<Outer>(text).is_ok(), is_read, "{text}");
        }
    }
}
