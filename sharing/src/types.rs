//! A view's columns as types of a Delta table.
//!
//! Values keep their meaning: integers without a sign are widened, texts of whatever layout are texts, and a time
//! without a zone is one of UTC. What has no counterpart is refused.

use std::sync::Arc;

use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use serde_json::json;

use crate::error::{Code, Fault, Result};

/// How a view's columns are written and described.
#[derive(Clone, Debug)]
pub(crate) struct SharedSchema {
    /// What is written to files.
    pub(crate) arrow: SchemaRef,
    /// The same, as Delta writes it.
    pub(crate) delta: String,
}

impl SharedSchema {
    /// Finds the type of every column.
    pub(crate) fn of(view: &str, columns: &Schema) -> Result<Self> {
        let (mut fields, mut described) = (Vec::new(), Vec::new());
        for field in columns.fields() {
            let (name, kind) = (field.name(), field.data_type());
            let (written, delta) = shared_type(kind).ok_or_else(|| {
                Fault::new(
                    Code::TypeUnsupported,
                    format!("column `{}` of view {view} is {kind}, which cannot be shared", name.escape_debug()),
                    "CAST it in the view's SQL",
                )
            })?;
            fields.push(Field::new(name, written, true));
            described.push(json!({ "name": name, "type": delta, "nullable": true, "metadata": {} }));
        }
        let delta = json!({ "type": "struct", "fields": described }).to_string();
        Ok(Self { arrow: Arc::new(Schema::new(fields)), delta })
    }

    /// The rows in the types that are written.
    pub(crate) fn cast(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        // What does not fit is an error, and not a null.
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let columns = batch.columns().iter().zip(self.arrow.fields());
        let columns = columns.map(|(column, field)| cast_with_options(column, field.data_type(), &options));
        let columns = columns.collect::<Result<_, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.arrow), columns)
    }
}

/// The Arrow type that is written, and Delta's name of it.
fn shared_type(kind: &DataType) -> Option<(DataType, String)> {
    use DataType as T;
    let (written, name) = match kind {
        T::Boolean => (T::Boolean, "boolean"),
        T::Int8 => (T::Int8, "byte"),
        T::Int16 | T::UInt8 => (T::Int16, "short"),
        T::Int32 | T::UInt16 => (T::Int32, "integer"),
        T::Int64 | T::UInt32 => (T::Int64, "long"),
        T::Float32 => (T::Float32, "float"),
        T::Float64 => (T::Float64, "double"),
        T::Date32 => (T::Date32, "date"),
        T::Timestamp(_, _) => (T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), "timestamp"),
        T::Binary | T::LargeBinary | T::BinaryView => (T::Binary, "binary"),
        T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => (T::Utf8, "string"),
        T::Dictionary(_, values) => return shared_type(values),
        T::Decimal128(precision, scale) if *scale >= 0 => {
            return Some((kind.clone(), format!("decimal({precision},{scale})")));
        }
        _ => return None,
    };
    Some((written, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shared_is_named() {
        let columns = Schema::new(vec![Field::new("n", DataType::UInt64, false)]);
        let fault = SharedSchema::of("v", &columns).unwrap_err();
        assert_eq!(fault.code(), Code::TypeUnsupported);
        assert!(fault.fact().contains("`n` of view v is UInt64"), "{fault}");
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error_and_no_null() {
        let columns = Arc::new(Schema::new(vec![Field::new("t", DataType::Timestamp(TimeUnit::Second, None), false)]));
        let times = arrow::array::TimestampSecondArray::from(vec![i64::MAX]);
        let batch = RecordBatch::try_new(Arc::clone(&columns), vec![Arc::new(times)]).unwrap();
        SharedSchema::of("v", &columns).unwrap().cast(&batch).unwrap_err();
    }

    #[test]
    fn a_time_without_a_zone_is_one_of_utc_and_keeps_its_microseconds() {
        let columns = Schema::new(vec![Field::new("t", DataType::Timestamp(TimeUnit::Nanosecond, None), false)]);
        let shared = SharedSchema::of("v", &columns).unwrap();
        assert_eq!(
            shared.delta,
            r#"{"fields":[{"metadata":{},"name":"t","nullable":true,"type":"timestamp"}],"type":"struct"}"#
        );
        let times = arrow::array::TimestampNanosecondArray::from(vec![1_700_000_000_123_456_789]);
        let batch = RecordBatch::try_new(Arc::new(columns), vec![Arc::new(times)]).unwrap();
        let cast = shared.cast(&batch).unwrap();
        let cast = cast.column(0).as_any().downcast_ref::<arrow::array::TimestampMicrosecondArray>().unwrap();
        assert_eq!(cast.value(0), 1_700_000_000_123_456);
    }
}
