//! Columns of a shared table: their types as Delta writes them, and the values that stand in no file.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, UInt64Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::error::ArrowError;
use glovebox_source_protocol::{Column, ColumnType, Refusal, RefusalCode};
use serde::Deserialize;
use serde_json::Value;

use crate::client::Pin;

#[derive(Deserialize)]
struct Struct {
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    #[serde(rename = "type")]
    kind: Value,
    nullable: bool,
}

/// The columns that cross: those of lists, maps, structs and bytes do not.
pub(super) fn read(schema: &str) -> Result<Vec<Column>, Refusal> {
    let schema: Struct = serde_json::from_str(schema).map_err(|_| {
        Refusal::new(RefusalCode::SourceUnreadable, "the table's schema is not one of Delta's", "ask the provider")
    })?;
    let column = |Field { name, kind, nullable }: Field| {
        let kind = column_type(kind.as_str()?)?;
        Some(Column { name, kind, nullable })
    };
    Ok(schema.fields.into_iter().filter_map(column).collect())
}

fn column_type(kind: &str) -> Option<ColumnType> {
    match kind {
        "boolean" => Some(ColumnType::Boolean),
        "byte" | "short" | "integer" | "long" => Some(ColumnType::Int64),
        "float" | "double" => Some(ColumnType::Float64),
        "string" => Some(ColumnType::Utf8),
        "date" => Some(ColumnType::Date),
        "timestamp" => Some(ColumnType::Instant),
        "timestamp_ntz" => Some(ColumnType::Timestamp),
        _ => {
            let (digits, scale) = kind.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            let (digits, scale) = (digits.trim().parse().ok()?, scale.trim().parse().ok()?);
            (1..=38).contains(&digits).then_some(ColumnType::Decimal(digits, scale))
        }
    }
}

/// The value of each column in a file, where it does not stand in the file: an array of one.
pub(super) fn partition(pin: &Pin, file: usize, columns: &[Column]) -> Result<Vec<Option<ArrayRef>>, Refusal> {
    let values = &pin.files[file].partition_values;
    let value = |column: &Column| -> Result<Option<ArrayRef>, ArrowError> {
        if !pin.partition_columns.contains(&column.name) {
            return Ok(None);
        }
        match values.get(&column.name).and_then(Option::as_deref).filter(|text| !text.is_empty()) {
            Some(text) => strictly(&(Arc::new(StringArray::from(vec![text])) as ArrayRef), column.kind).map(Some),
            None => Ok(Some(new_null_array(&column.kind.data_type(), 1))),
        }
    };
    columns.iter().map(value).collect::<Result<_, _>>().map_err(|_| {
        let fact = "a partition's value is not of its column's type";
        Refusal::new(RefusalCode::SourceUnreadable, fact, "ask the provider")
    })
}

/// One value for so many rows.
pub(super) fn repeated(value: &dyn Array, rows: usize) -> Result<ArrayRef, ArrowError> {
    take(value, &UInt64Array::from(vec![0; rows]), None)
}

/// As the type in which it crosses. What does not fit is an error, and not a null.
pub(super) fn strictly(array: &dyn Array, kind: ColumnType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, &kind.data_type(), &CastOptions { safe: false, ..CastOptions::default() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{AsArray, Date32Array};
    use arrow::datatypes::{Date32Type, Int64Type};

    use super::*;
    use crate::client::{PinnedFile, Table};

    const SCHEMA: &str = r#"{"type":"struct","fields":[
        {"name":"id","type":"integer","nullable":false,"metadata":{}},
        {"name":"day","type":"date","nullable":true,"metadata":{}},
        {"name":"price","type":"decimal(9,2)","nullable":true,"metadata":{}},
        {"name":"at","type":"timestamp","nullable":true,"metadata":{}},
        {"name":"tags","type":{"type":"array","elementType":"string","containsNull":true},"nullable":true,"metadata":{}},
        {"name":"blob","type":"binary","nullable":true,"metadata":{}}]}"#;

    fn pin(day: Option<&str>) -> Pin {
        let table = Table { share: "s".into(), schema: "c".into(), name: "t".into() };
        let partition_values = BTreeMap::from([("day".into(), day.map(str::to_owned))]);
        let files = vec![PinnedFile { id: "1".into(), size: 1, partition_values }];
        let (table_id, schema) = ("t".into(), SCHEMA.into());
        Pin { table, table_id, version: 0, min_reader_version: 1, schema, partition_columns: vec!["day".into()], files }
    }

    #[test]
    fn columns_of_other_types_are_not_offered() {
        let columns = read(SCHEMA).unwrap();
        let known = columns.iter().map(|column| (column.name.as_str(), column.kind, column.nullable));
        let expected = [
            ("id", ColumnType::Int64, false),
            ("day", ColumnType::Date, true),
            ("price", ColumnType::Decimal(9, 2), true),
            ("at", ColumnType::Instant, true),
        ];
        assert_eq!(known.collect::<Vec<_>>(), expected);
        for kind in ["decimal(39,2)", "decimal(0,0)", "decimal(9)", "interval", ""] {
            assert_eq!(column_type(kind), None, "{kind}");
        }
    }

    #[test]
    fn values_of_partitions_are_columns() {
        let columns = read(SCHEMA).unwrap();
        let values = |day| partition(&pin(day), 0, &columns);
        let read = values(Some("1970-01-03")).unwrap();
        assert!(read[0].is_none() && read[2].is_none());
        let repeated = repeated(read[1].as_ref().unwrap(), 3).unwrap();
        assert_eq!(repeated.as_primitive::<Date32Type>(), &Date32Array::from(vec![2, 2, 2]));
        for nothing in [None, Some("")] {
            assert!(values(nothing).unwrap()[1].as_ref().unwrap().is_null(0));
        }
        assert_eq!(values(Some("soon")).unwrap_err().code, RefusalCode::SourceUnreadable);
    }

    #[test]
    fn what_does_not_fit_its_type_is_an_error() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["7", "x"]));
        assert!(strictly(&texts, ColumnType::Int64).is_err());
        assert_eq!(strictly(&texts.slice(0, 1), ColumnType::Int64).unwrap().as_primitive::<Int64Type>().value(0), 7);
    }
}
