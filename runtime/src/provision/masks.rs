//! Functions by which a view's SQL gives away less of a value. They are what the agreement shows in the SQL, and nothing
//! else: pure functions of their arguments, and of the room's key where they say so.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::schema::is_text;
use crate::privacy::RoomKey;
use crate::room::sha256_hex;

/// All masks, with the key of the room in which they are used.
pub(super) fn masks(key: RoomKey) -> impl Iterator<Item = Arc<ScalarUDF>> {
    [Kind::Sha256Hex, Kind::Pseudonym(key), Kind::Bucket, Kind::Generalise].into_iter().map(|kind| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Mask { kind, signature }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mask {
    kind: Kind,
    signature: Signature,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Kind {
    Sha256Hex,
    Pseudonym(RoomKey),
    Bucket,
    Generalise,
}

impl Kind {
    const fn takes(&self) -> &'static str {
        match self {
            Self::Sha256Hex | Self::Pseudonym(_) => "a text or a whole number",
            Self::Bucket => "a number and a width, both integers of at most 64 signed bits or floats",
            Self::Generalise => "a text and how many characters to keep",
        }
    }

    /// The types that the arguments are widened to; none where they do not fit.
    fn arguments(&self, given: &[DataType]) -> Option<Vec<DataType>> {
        let is_named = |kind: &DataType| is_text_like(kind) || kind.is_integer();
        match (self, given) {
            (Self::Sha256Hex | Self::Pseudonym(_), [value]) if is_named(value) => Some(vec![DataType::Utf8]),
            (Self::Bucket, [number, width]) if is_int(number) && is_int(width) => Some(vec![DataType::Int64; 2]),
            (Self::Bucket, [number, width]) if is_number(number) && is_number(width) => {
                Some(vec![DataType::Float64; 2])
            }
            (Self::Generalise, [text, keep]) if is_text_like(text) && is_int(keep) => {
                Some(vec![DataType::Utf8, DataType::Int64])
            }
            _ => None,
        }
    }

    fn apply(&self, arguments: &[ArrayRef]) -> Option<ArrayRef> {
        match (self, arguments) {
            (Self::Sha256Hex, [values]) => of_texts(values, |value| sha256_hex(value.as_bytes())),
            (Self::Pseudonym(key), [values]) => of_texts(values, |value| key.pseudonym(value)),
            (Self::Generalise, [texts, keep]) => {
                let both = texts.as_string_opt::<i32>()?.iter().zip(keep.as_primitive_opt::<Int64Type>()?);
                let kept: StringArray = both.map(|(text, keep)| Some(generalise(text?, keep?))).collect();
                Some(Arc::new(kept))
            }
            (Self::Bucket, [numbers, widths]) => match numbers.as_primitive_opt::<Int64Type>() {
                Some(numbers) => {
                    let both = numbers.iter().zip(widths.as_primitive_opt::<Int64Type>()?);
                    let buckets: Int64Array = both.map(|(number, width)| bucket(number?, width?)).collect();
                    Some(Arc::new(buckets))
                }
                None => {
                    let numbers = numbers.as_primitive_opt::<Float64Type>()?;
                    let both = numbers.iter().zip(widths.as_primitive_opt::<Float64Type>()?);
                    let buckets: Float64Array = both.map(|(number, width)| bucket_of_float(number?, width?)).collect();
                    Some(Arc::new(buckets))
                }
            },
            _ => None,
        }
    }
}

impl ScalarUDFImpl for Mask {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Sha256Hex => "sha256_hex",
            Kind::Pseudonym(_) => "pseudonym",
            Kind::Bucket => "bucket",
            Kind::Generalise => "generalise",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let refused = || DataFusionError::Plan(format!("{} takes {}", self.name(), self.kind.takes()));
        self.kind.arguments(given).ok_or_else(refused)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match (&self.kind, arguments) {
            (Kind::Bucket, [number, ..]) => number.clone(),
            _ => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let masked = self.kind.apply(&arrays);
        let unplanned = || DataFusionError::Internal("a mask got other arguments than were planned".into());
        masked.map(ColumnarValue::Array).ok_or_else(unplanned)
    }
}

fn of_texts(values: &dyn Array, mask: impl Fn(&str) -> String) -> Option<ArrayRef> {
    let masked: StringArray = values.as_string_opt::<i32>()?.iter().map(|value| value.map(&mask)).collect();
    Some(Arc::new(masked))
}

/// The lower end of the number's bucket; none where there are no such buckets, or it is out of range.
fn bucket(number: i64, width: i64) -> Option<i64> {
    (width > 0).then(|| number.div_euclid(width).checked_mul(width)).flatten()
}

fn bucket_of_float(number: f64, width: f64) -> Option<f64> {
    let lower = (number / width).floor() * width;
    // Without a sign of zero, which would tell that the number was above it.
    (width > 0.0 && lower.is_finite()).then_some(lower + 0.0)
}

/// The first characters, and a star for each of the others.
fn generalise(text: &str, keep: i64) -> String {
    let keep = usize::try_from(keep).unwrap_or(0);
    text.chars().enumerate().map(|(at, c)| if at < keep { c } else { '*' }).collect()
}

fn is_text_like(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_text(values),
        other => is_text(other) || *other == DataType::Null,
    }
}

fn is_int(kind: &DataType) -> bool {
    *kind == DataType::Null || kind.is_integer() && *kind != DataType::UInt64
}

fn is_number(kind: &DataType) -> bool {
    is_int(kind) || kind.is_floating()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_by_its_lower_end() {
        for (number, width, expected) in [
            (0, 10, Some(0)),
            (9, 10, Some(0)),
            (10, 10, Some(10)),
            (-1, 10, Some(-10)),
            (i64::MAX, 1, Some(i64::MAX)),
            (i64::MIN, 10, None),
            (5, 0, None),
            (5, -10, None),
        ] {
            assert_eq!(bucket(number, width), expected, "{number} by {width}");
        }
        for (number, width, expected) in [
            (9.99, 10.0, Some(0.0)),
            (-0.5, 0.5, Some(-0.5)),
            (0.75, 0.5, Some(0.5)),
            (f64::NAN, 1.0, None),
            (f64::INFINITY, 1.0, None),
            (1.0, f64::INFINITY, None),
            (1.0, 0.0, None),
            (1.0, -1.0, None),
            (1.0, f64::NAN, None),
        ] {
            let found = bucket_of_float(number, width);
            assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits), "{number} by {width}");
        }
    }

    #[test]
    fn what_is_not_kept_is_a_star_for_each_character() {
        for (text, keep, expected) in [
            ("60314", 3, "603**"),
            ("60314", 0, "*****"),
            ("60314", -1, "*****"),
            ("60314", 9, "60314"),
            ("60314", i64::MAX, "60314"),
            ("\u{c4}rzte", 1, "\u{c4}****"),
            ("e\u{301}", 1, "e*"),
            ("", 2, ""),
        ] {
            assert_eq!(generalise(text, keep), expected, "{text} {keep}");
        }
    }
}
