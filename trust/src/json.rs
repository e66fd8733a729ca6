//! The one way to read JSON that someone signs or relies on: text with exactly one reading.
//!
//! serde also takes an array for a struct, field by field. Whoever reads such a file with another library, or with
//! their eyes, sees something else than what a program would act on.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses JSON in which every object is written as one. The error says what is wrong, in a line.
pub fn parse<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let parsed = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let read = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    with_one_reading(parsed, &read)
}

/// What was parsed, if every object of it was written as an object in what was read.
pub fn with_one_reading<T: Serialize>(parsed: T, read: &Value) -> Result<T, String> {
    let written = serde_json::to_value(&parsed).map_err(|error| error.to_string())?;
    if has_objects_of(read, &written) { Ok(parsed) } else { Err("an array stands where named fields must".into()) }
}

/// Whether every object of what would be written is an object in what was read. Fields that have a default, or that
/// mean nothing here, may differ.
fn has_objects_of(read: &Value, written: &Value) -> bool {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            written.iter().all(|(name, written)| read.get(name).is_none_or(|read| has_objects_of(read, written)))
        }
        (Value::Array(read), Value::Array(written)) => {
            read.len() == written.len() && read.iter().zip(written).all(|(read, written)| has_objects_of(read, written))
        }
        (_, Value::Object(_)) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Outer {
        inner: Vec<Inner>,
        #[serde(default)]
        hint: String,
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Inner {
        a: u8,
    }

    #[test]
    fn an_array_is_no_object() {
        for (text, is_read) in [
            (r#"{"inner": [{"a": 1}], "hint": "x"}"#, true),
            (r#"{"inner": [{"a": 1}], "another": []}"#, true),
            (r#"{"inner": []}"#, true),
            (r#"[[{"a": 1}], "x"]"#, false),
            (r#"{"inner": [[1]]}"#, false),
            (r#"{"inner": [{"a": 1}, [1]]}"#, false),
        ] {
            assert_eq!(parse::<Outer>(text.as_bytes()).is_ok(), is_read, "{text}");
        }
    }
}
