//! Rows as PostgreSQL's binary COPY sends them, and what makes Arrow columns of their values.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch,
    RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use glovebox_source_protocol::ColumnType;

/// What every stream begins with: eleven bytes of signature, flags, and the length of nothing.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The longest value that is read.
const VALUE_BYTES_MAX: u64 = 16 << 20;

/// PostgreSQL counts from 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROSECONDS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// A stream of rows, one at a time.
pub(super) struct Rows<R> {
    from: R,
    /// The row as it was sent.
    row: Vec<u8>,
}

impl<R: BufRead> Rows<R> {
    pub(super) fn new(mut from: R) -> io::Result<Self> {
        let mut header = [0; HEADER.len()];
        from.read_exact(&mut header)?;
        if header == *HEADER { Ok(Self { from, row: Vec::new() }) } else { Err(broken("it is no stream of rows")) }
    }

    /// The next row; none after the last, if the stream says that it is the last.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.row.clear();
        self.take(2)?;
        let count = i16::from_be_bytes([self.row[0], self.row[1]]);
        if count == -1 {
            // Whatever comes after the end, an error of the server for one, is none of a table that was sent whole.
            return if self.from.fill_buf()?.is_empty() { Ok(None) } else { Err(broken("it goes on after its end")) };
        }
        for _ in 0..count {
            let at = self.row.len();
            self.take(4)?;
            let length = length(&self.row[at..])?.unwrap_or_default();
            self.take(length)?;
        }
        Ok(Some(&self.row))
    }

    fn take(&mut self, length: u64) -> io::Result<()> {
        if length > VALUE_BYTES_MAX {
            return Err(broken("a value is too long"));
        }
        let read = self.from.by_ref().take(length).read_to_end(&mut self.row)? as u64;
        if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The length that stands before a value; none of a null.
fn length(bytes: &[u8]) -> io::Result<Option<u64>> {
    let head = bytes.first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
    match i32::from_be_bytes(*head) {
        -1 => Ok(None),
        length => Ok(Some(u64::try_from(length).map_err(|_| broken("a length is below zero"))?)),
    }
}

/// What is sent of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Boolean,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Texts of any length limit.
    Text,
    /// A text that its type fills with spaces.
    Padded,
    Uuid,
    Date,
    Timestamp,
    Instant,
    Numeric(u8, i8),
}

impl Sent {
    pub(super) const fn kind(self) -> ColumnType {
        match self {
            Self::Boolean => ColumnType::Boolean,
            Self::Int2 | Self::Int4 | Self::Int8 => ColumnType::Int64,
            Self::Float4 | Self::Float8 => ColumnType::Float64,
            Self::Text | Self::Padded | Self::Uuid => ColumnType::Utf8,
            Self::Date => ColumnType::Date,
            Self::Timestamp => ColumnType::Timestamp,
            Self::Instant => ColumnType::Instant,
            Self::Numeric(digits, scale) => ColumnType::Decimal(digits, scale),
        }
    }
}

/// Rows that become a batch.
pub(super) struct Columns {
    schema: SchemaRef,
    columns: Vec<(Sent, Builder)>,
    rows: usize,
    bytes: usize,
}

impl Columns {
    pub(super) fn new(schema: SchemaRef, sent: &[Sent]) -> Self {
        let columns = sent.iter().map(|&sent| (sent, Builder::new(sent))).collect();
        Self { schema, columns, rows: 0, bytes: 0 }
    }

    pub(super) fn add(&mut self, row: &[u8]) -> io::Result<()> {
        (self.rows, self.bytes) = (self.rows + 1, self.bytes + row.len());
        let mut rest = row.get(2..).ok_or(io::ErrorKind::UnexpectedEof)?;
        for (sent, builder) in &mut self.columns {
            let length = length(rest)?;
            let (value, after) = rest[4..].split_at(usize::try_from(length.unwrap_or(0)).map_err(io::Error::other)?);
            builder.add(*sent, length.map(|_| value))?;
            rest = after;
        }
        Ok(())
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows so far; from here on there are none.
    pub(super) fn finish(&mut self) -> io::Result<RecordBatch> {
        let arrays = self.columns.iter_mut().map(|(_, builder)| builder.finish()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options).map_err(io::Error::other)
    }
}

enum Builder {
    Boolean(BooleanBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Utf8(StringBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Decimal(Decimal128Builder),
}

impl Builder {
    fn new(sent: Sent) -> Self {
        let kind = sent.kind();
        match kind {
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Int64 => Self::Int64(Int64Builder::new()),
            ColumnType::Float64 => Self::Float64(Float64Builder::new()),
            ColumnType::Utf8 => Self::Utf8(StringBuilder::new()),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Timestamp | ColumnType::Instant => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(kind.data_type()))
            }
            ColumnType::Decimal(..) => Self::Decimal(Decimal128Builder::new().with_data_type(kind.data_type())),
        }
    }

    fn add(&mut self, sent: Sent, value: Option<&[u8]>) -> io::Result<()> {
        match self {
            Self::Boolean(to) => to.append_option(value.map(boolean).transpose()?),
            Self::Int64(to) => to.append_option(value.map(|value| integer(sent, value)).transpose()?),
            Self::Float64(to) => to.append_option(value.map(|value| float(sent, value)).transpose()?),
            Self::Utf8(to) if sent == Sent::Uuid => to.append_option(value.map(uuid).transpose()?),
            Self::Utf8(to) => {
                let text = value.map(std::str::from_utf8).transpose();
                to.append_option(text.map_err(|_| broken("a text is not UTF-8"))?);
            }
            Self::Date(to) => to.append_option(value.map(date).transpose()?),
            Self::Timestamp(to) => to.append_option(value.map(timestamp).transpose()?),
            Self::Decimal(to) => {
                let Sent::Numeric(digits, scale) = sent else { return Err(broken("it is no number")) };
                to.append_option(value.map(|value| numeric(value, digits, scale)).transpose()?);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(from) => Arc::new(from.finish()),
            Self::Int64(from) => Arc::new(from.finish()),
            Self::Float64(from) => Arc::new(from.finish()),
            Self::Utf8(from) => Arc::new(from.finish()),
            Self::Date(from) => Arc::new(from.finish()),
            Self::Timestamp(from) => Arc::new(from.finish()),
            Self::Decimal(from) => Arc::new(from.finish()),
        }
    }
}

fn sized<const N: usize>(value: &[u8]) -> io::Result<[u8; N]> {
    value.try_into().map_err(|_| broken("a value is not as long as its type is"))
}

fn boolean(value: &[u8]) -> io::Result<bool> {
    sized(value).map(|[byte]| byte != 0)
}

fn integer(sent: Sent, value: &[u8]) -> io::Result<i64> {
    Ok(match sent {
        Sent::Int2 => i16::from_be_bytes(sized(value)?).into(),
        Sent::Int4 => i32::from_be_bytes(sized(value)?).into(),
        _ => i64::from_be_bytes(sized(value)?),
    })
}

fn float(sent: Sent, value: &[u8]) -> io::Result<f64> {
    Ok(match sent {
        Sent::Float4 => f32::from_be_bytes(sized(value)?).into(),
        _ => f64::from_be_bytes(sized(value)?),
    })
}

/// As the server writes it.
fn uuid(value: &[u8]) -> io::Result<String> {
    let digits = data_encoding::HEXLOWER.encode(&sized::<16>(value)?);
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

/// The first and the last number stand for infinities, of which Arrow has none.
fn date(value: &[u8]) -> io::Result<i32> {
    let days = Some(i32::from_be_bytes(sized(value)?)).filter(|days| ![i32::MIN, i32::MAX].contains(days));
    days.and_then(|days| days.checked_add(EPOCH_DAYS)).ok_or_else(|| broken("a date is infinite"))
}

fn timestamp(value: &[u8]) -> io::Result<i64> {
    let time = Some(i64::from_be_bytes(sized(value)?)).filter(|time| ![i64::MIN, i64::MAX].contains(time));
    time.and_then(|time| time.checked_add(EPOCH_MICROSECONDS)).ok_or_else(|| broken("a timestamp is infinite"))
}

/// Groups of four digits, the first of which counts 10,000 to the power of `weight`.
fn numeric(value: &[u8], digits: u8, scale: i8) -> io::Result<i128> {
    let unfit = || broken("a number does not fit its type");
    let words: Vec<[u8; 2]> = value.chunks(2).map(sized).collect::<io::Result<_>>()?;
    let [count, weight, sign, _shown, groups @ ..] = words.as_slice() else { return Err(unfit()) };
    if usize::from(u16::from_be_bytes(*count)) != groups.len() {
        return Err(unfit());
    }
    let mut unscaled: i128 = 0;
    let mut power = i32::from(i16::from_be_bytes(*weight)) * 4 + i32::from(scale);
    for group in groups {
        let group = i128::from(i16::from_be_bytes(*group));
        let ten_to = |power: u32| 10_i128.checked_pow(power);
        let part = match (u32::try_from(power), ten_to(power.unsigned_abs())) {
            (Ok(_), Some(factor)) => group.checked_mul(factor),
            // Digits after the last that the type has are zeros.
            (Err(_), Some(divisor)) if group % divisor == 0 => Some(group / divisor),
            _ => (group == 0).then_some(0),
        };
        unscaled = part.and_then(|part| unscaled.checked_add(part)).ok_or_else(unfit)?;
        power -= 4;
    }
    let fits = 10_i128.checked_pow(digits.into()).is_some_and(|end| unscaled < end);
    match u16::from_be_bytes(*sign) {
        0 if fits => Ok(unscaled),
        0x4000 if fits => Ok(-unscaled),
        // Neither a number nor an infinity.
        _ => Err(unfit()),
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::other(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(weight: i16, sign: u16, groups: &[i16]) -> Vec<u8> {
        let head = [groups.len() as u16, weight as u16, sign, 2];
        head.into_iter().chain(groups.iter().map(|&group| group as u16)).flat_map(u16::to_be_bytes).collect()
    }

    #[test]
    fn numbers_are_exact_or_none() {
        let cases = [
            (groups(0, 0, &[12, 3400]), Some(1234)),
            (groups(0, 0x4000, &[12, 3400]), Some(-1234)),
            (groups(1, 0, &[1]), Some(1_000_000)),
            (groups(-1, 0, &[500]), Some(5)),
            (groups(0, 0, &[]), Some(0)),
            (groups(0, 0, &[1, 1]), None),
            (groups(-1, 0, &[1]), None),
            (groups(0, 0xC000, &[]), None),
            (groups(0, 0xD000, &[]), None),
            (groups(2, 0, &[1]), None),
            (groups(i16::MAX, 0, &[1]), None),
            (groups(0, 0, &[1])[..9].to_vec(), None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(numeric(&bytes, 9, 2).ok(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_infinite_has_no_place() {
        assert_eq!(date(&0_i32.to_be_bytes()).unwrap(), EPOCH_DAYS);
        assert_eq!(timestamp(&(-1_i64).to_be_bytes()).unwrap(), EPOCH_MICROSECONDS - 1);
        for days in [i32::MIN, i32::MAX, i32::MAX - 1] {
            assert!(date(&days.to_be_bytes()).is_err(), "{days}");
        }
        for time in [i64::MIN, i64::MAX, i64::MAX - 1] {
            assert!(timestamp(&time.to_be_bytes()).is_err(), "{time}");
        }
    }

    #[test]
    fn a_stream_that_does_not_end_is_no_table() {
        let row = [0, 1, 0, 0, 0, 1, 7];
        let whole = [HEADER.as_slice(), &row, &row, &[0xff, 0xff]].concat();
        let count = |bytes: &[u8]| -> io::Result<usize> {
            let mut rows = Rows::new(bytes)?;
            let mut count = 0;
            while rows.next()?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        assert_eq!(count(&whole).unwrap(), 2);
        for length in 0..whole.len() {
            assert!(count(&whole[..length]).is_err(), "{length}");
        }
        assert!(count(&[whole, vec![0]].concat()).is_err());
        let long = [HEADER.as_slice(), &[0, 1, 0x7f, 0xff, 0xff, 0xff]].concat();
        assert!(count(&long).is_err());
    }
}
