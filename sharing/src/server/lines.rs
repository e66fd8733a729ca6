//! A version as lines of JSON, in the two formats of the protocol.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use crate::cache::{Part, Version};
use crate::protocol::{CAPABILITIES, Capabilities, EndStreamAction, Format, NDJSON, TABLE_VERSION};
use crate::shares::Shared;

/// In which format, and whether its end shows.
#[derive(Debug)]
pub(super) struct Lines {
    format: Format,
    end_stream_action: bool,
}

impl Lines {
    /// Of what the client can read, the older format first: a view needs nothing of the newer one.
    pub(super) fn new(asked: Capabilities) -> Result<Self, Refusal> {
        let format = match asked.formats.as_slice() {
            formats if formats.contains(&Format::Parquet) => Format::Parquet,
            [Format::Delta, ..] => Format::Delta,
            _ => return Err(Refusal::Malformed("the formats of this server are parquet and delta")),
        };
        Ok(Self { format, end_stream_action: asked.end_stream_action })
    }

    pub(super) fn metadata(&self, shared: &Shared, version: &Version) -> Result<Answer, Refusal> {
        let end = self.end_stream_action.then(EndStreamAction::default);
        Ok(self.answer(version, self.head(shared, version), end))
    }

    /// The files that hold at least as many rows as the client means to read.
    pub(super) fn query(
        &self,
        shared: &Shared,
        version: &Version,
        limit: Option<u64>,
        expires: i64,
        address: &dyn Fn(&str) -> String,
    ) -> Result<Answer, Refusal> {
        let mut lines = self.head(shared, version);
        let mut rows = 0;
        for part in &version.files {
            if limit.is_some_and(|limit| rows >= limit) {
                break;
            }
            rows += part.rows;
            lines.push(self.file(version, part, expires, &address(&part.id)));
        }
        let end = EndStreamAction { min_url_expiration_timestamp: Some(expires), ..EndStreamAction::default() };
        Ok(self.answer(version, lines, self.end_stream_action.then_some(end)))
    }

    fn head(&self, shared: &Shared, version: &Version) -> Vec<Value> {
        let size: u64 = version.files.iter().map(|part| part.size).sum();
        let count = version.files.len();
        let table = json!({
            "id": version.table,
            "name": shared.name,
            "format": { "provider": "parquet", "options": {} },
            "schemaString": version.schema,
            "partitionColumns": [],
            "configuration": {},
            "createdTime": version.made,
        });
        match self.format {
            Format::Parquet => {
                let mut table = table;
                table["size"] = size.into();
                table["numFiles"] = count.into();
                table["version"] = version.number.into();
                vec![json!({ "protocol": { "minReaderVersion": 1 } }), json!({ "metaData": table })]
            }
            Format::Delta => vec![
                json!({ "protocol": { "deltaProtocol": { "minReaderVersion": 1, "minWriterVersion": 2 } } }),
                json!({ "metaData": {
                    "version": version.number, "size": size, "numFiles": count, "deltaMetadata": table,
                } }),
            ],
        }
    }

    fn file(&self, version: &Version, part: &Part, expires: i64, url: &str) -> Value {
        let stats = json!({ "numRecords": part.rows }).to_string();
        let made = version.made;
        let mut file = json!({
            "id": part.id,
            "size": part.size,
            "version": version.number,
            "timestamp": made,
            "expirationTimestamp": expires,
        });
        match self.format {
            Format::Parquet => {
                file["url"] = url.into();
                file["partitionValues"] = json!({});
                file["stats"] = stats.into();
            }
            Format::Delta => {
                file["deltaSingleAction"] = json!({ "add": {
                    "path": url, "partitionValues": {}, "size": part.size,
                    "modificationTime": made, "dataChange": true, "stats": stats,
                } });
            }
        }
        json!({ "file": file })
    }

    fn answer(&self, version: &Version, mut lines: Vec<Value>, end: Option<EndStreamAction>) -> Answer {
        lines.extend(end.map(|end| json!({ "endStreamAction": end })));
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let said = Capabilities { formats: vec![self.format], end_stream_action: self.end_stream_action };
        Answer::new(StatusCode::OK, NDJSON, text)
            .with_header(TABLE_VERSION, version.number)
            .with_header(CAPABILITIES, said.to_header())
    }
}
