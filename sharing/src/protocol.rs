//! What client and server of the Delta Sharing protocol both say.

use serde::{Deserialize, Serialize};

/// What the other side can do, or did.
pub(crate) const CAPABILITIES: &str = "delta-sharing-capabilities";
/// Which version an answer is about.
pub(crate) const TABLE_VERSION: &str = "delta-table-version";
/// The name of a signature that clients take for one: without it they take an address for a local path.
pub(crate) const SIGNATURE: &str = "X-Amz-Signature";
/// Lines of JSON.
pub(crate) const NDJSON: &str = "application/x-ndjson; charset=utf-8";

/// How an answer describes a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The protocol's own actions.
    Parquet,
    /// Actions of a Delta log.
    Delta,
}

impl Format {
    /// As it stands in the header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Delta => "delta",
        }
    }
}

/// The header `delta-sharing-capabilities`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) formats: Vec<Format>,
    pub(crate) end_stream_action: bool,
}

impl Capabilities {
    /// Names and values are read without regard to case; what is not known is left aside, as the protocol wants it.
    pub(crate) fn parse(header: Option<&str>) -> Self {
        let header = header.unwrap_or_default().to_ascii_lowercase();
        let value = |name: &str| {
            let pairs = header.split(';').filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        // A side that says nothing knows of nothing but the older format.
        let formats = value("responseformat").unwrap_or("parquet").split(',').filter_map(|name| match name.trim() {
            "parquet" => Some(Format::Parquet),
            "delta" => Some(Format::Delta),
            _ => None,
        });
        Self { formats: formats.collect(), end_stream_action: value("includeendstreamaction") == Some("true") }
    }

    pub(crate) fn to_header(&self) -> String {
        let formats: Vec<&str> = self.formats.iter().map(|format| format.as_str()).collect();
        let end = if self.end_stream_action { ";includeendstreamaction=true" } else { "" };
        format!("responseformat={}{end}", formats.join(","))
    }
}

/// The last line of an answer whose end shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndStreamAction {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_page_token: Option<String>,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_url_expiration_timestamp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error_message: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page<T> {
    #[serde(default = "Vec::new")]
    pub(crate) items: Vec<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_page_token: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_in_any_case_and_order() {
        let read = |header: &str| Capabilities::parse(Some(header));
        let both = read("readerfeatures=deletionvectors; ResponseFormat=delta, parquet;includeEndStreamAction=TRUE");
        assert_eq!(both, Capabilities { formats: vec![Format::Delta, Format::Parquet], end_stream_action: true });
        assert_eq!(read(&both.to_header()), both);
        assert_eq!(Capabilities::parse(None).formats, [Format::Parquet]);
        assert_eq!(read("responseformat=orc").formats, []);
    }
}
