//! Rows on a pipe: an Arrow IPC stream, and the line that says how many they were.
//!
//! A pipe that breaks looks like one that ended. So neither the pipe's end nor the stream's own is the end of the rows,
//! but the line that follows; whatever ends otherwise is an error, and never a smaller table.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::StreamWriter;

use crate::{End, Refusal};

/// The most that one message and its body may take.
const MESSAGE_BYTES_MAX: u64 = 16 << 20;
const BODY_BYTES_MAX: u64 = 1 << 30;
/// Four bytes that begin a message, and four of its length.
const HEAD_BYTES: usize = 8;
/// The longest last line.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Writes rows, and how many they were.
#[expect(missing_debug_implementations, reason = "the stream has none")]
pub struct RowsWriter<W: Write> {
    stream: StreamWriter<W>,
    rows: u64,
}

impl<W: Write> RowsWriter<W> {
    /// Begins with the columns.
    pub fn new(to: W, schema: &Schema) -> io::Result<Self> {
        Ok(Self { stream: StreamWriter::try_new(to, schema).map_err(io::Error::other)?, rows: 0 })
    }

    /// Writes some rows.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.rows += batch.num_rows() as u64;
        self.stream.write(batch).map_err(io::Error::other)
    }

    /// Says that these were all.
    pub fn end(self) -> io::Result<()> {
        let mut to = self.stream.into_inner().map_err(io::Error::other)?;
        let end = End { rows: self.rows };
        writeln!(to, "{}", serde_json::to_string(&end)?)?;
        to.flush()
    }
}

/// Reads rows to their end.
#[derive(Debug)]
pub struct RowsReader<R> {
    from: R,
    decoder: StreamDecoder,
    schema: SchemaRef,
    decoded: VecDeque<RecordBatch>,
    stream_ended: bool,
    rows: u64,
    ended: bool,
}

impl<R: BufRead> RowsReader<R> {
    /// Reads until the first row, or what is said instead. Rows of any other schema are an error.
    pub fn new(mut from: R, schema: SchemaRef) -> io::Result<Result<Self, Refusal>> {
        if from.fill_buf()?.first() == Some(&b'{') {
            return Ok(Err(line(&mut from)?));
        }
        let (decoder, decoded) = (StreamDecoder::new(), VecDeque::new());
        Ok(Ok(Self { from, decoder, schema, decoded, stream_ended: false, rows: 0, ended: false }))
    }

    /// The next rows; `None` after the last, if that is said to be the last.
    fn next_batch(&mut self) -> io::Result<Option<RecordBatch>> {
        while self.decoded.is_empty() && !self.stream_ended {
            self.decode_message()?;
        }
        self.check_schema()?;
        let Some(batch) = self.decoded.pop_front() else { return self.end().map(|()| None) };
        self.rows += batch.num_rows() as u64;
        Ok(Some(batch))
    }

    /// A message without a body is decoded when the next one comes, so one may make two batches.
    fn decode_message(&mut self) -> io::Result<()> {
        let (message, body) = self.message()?;
        self.stream_ended = message.len() == HEAD_BYTES;
        for mut part in [message, body] {
            while !part.is_empty() {
                let batch = self.decoder.decode(&mut part).map_err(io::Error::other)?;
                self.decoded.extend(batch);
            }
        }
        Ok(())
    }

    /// The line after the stream's own end.
    fn end(&mut self) -> io::Result<()> {
        let End { rows } = line(&mut self.from)?;
        if rows == self.rows && self.from.fill_buf()?.is_empty() {
            return Ok(());
        }
        Err(io::Error::other("the rows that came are not the rows that were sent"))
    }

    /// Rows of another schema are not decoded into a table of this one, and no schema at all is no table.
    fn check_schema(&self) -> io::Result<()> {
        let found = self.decoder.schema();
        if found.is_some_and(|found| found.fields() == self.schema.fields()) {
            return Ok(());
        }
        Err(io::Error::other("the columns that came are not those that were asked for"))
    }

    /// A message with its length before it, and its body; without both at the end of the stream.
    fn message(&mut self) -> io::Result<(Buffer, Buffer)> {
        let mut head = [0; HEAD_BYTES];
        self.from.read_exact(&mut head)?;
        let length = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        if head[..4] != [0xff; 4] {
            return Err(not_arrow());
        }
        if length == 0 {
            return Ok((Buffer::from_vec(head.to_vec()), Buffer::from_vec(Vec::<u8>::new())));
        }
        let message = take(&mut self.from, length, MESSAGE_BYTES_MAX)?;
        let body = root_as_message(&message).map_err(|_| not_arrow())?.bodyLength();
        let body = take(&mut self.from, u64::try_from(body).map_err(io::Error::other)?, BODY_BYTES_MAX)?;
        Ok((Buffer::from_vec([head.as_slice(), &message].concat()), Buffer::from_vec(body)))
    }
}

impl<R: BufRead> Iterator for RowsReader<R> {
    type Item = io::Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_batch();
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

fn not_arrow() -> io::Error {
    io::Error::other("what came is no Arrow stream")
}

/// Memory is taken as bytes come, not as they are announced.
fn take(from: &mut impl Read, length: u64, most: u64) -> io::Result<Vec<u8>> {
    if length > most {
        return Err(io::Error::other("a message is too long"));
    }
    let mut bytes = Vec::new();
    let read = from.take(length).read_to_end(&mut bytes)? as u64;
    if read == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn line<T: serde::de::DeserializeOwned>(from: &mut impl BufRead) -> io::Result<T> {
    let mut text = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut text)?;
    if text.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatchOptions, StringArray};

    use super::*;
    use crate::{Column, ColumnType, RefusalCode, schema};

    fn columns() -> SchemaRef {
        let column = |name: &str, kind| Column { name: name.into(), kind, nullable: true };
        schema(&[column("id", ColumnType::Int64), column("name", ColumnType::Utf8)])
    }

    fn batch(ids: &[i64]) -> RecordBatch {
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("n{id}"))));
        RecordBatch::try_new(columns(), vec![Arc::new(Int64Array::from(ids.to_vec())), names]).unwrap()
    }

    fn written(batches: &[RecordBatch]) -> Vec<u8> {
        let mut pipe = Vec::new();
        let mut rows = RowsWriter::new(&mut pipe, &columns()).unwrap();
        batches.iter().for_each(|batch| rows.write(batch).unwrap());
        rows.end().unwrap();
        pipe
    }

    fn read(pipe: &[u8]) -> io::Result<Vec<RecordBatch>> {
        RowsReader::new(pipe, columns())?.map_err(|refusal| io::Error::other(refusal.fact))?.collect()
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let batches = [batch(&[1, 2, 3]), batch(&[]), batch(&[4])];
        assert_eq!(read(&written(&batches)).unwrap(), batches);
        assert_eq!(read(&written(&[])).unwrap(), []);
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let none = Arc::new(Schema::empty());
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&none), Vec::new(), &options).unwrap();
        let mut pipe = Vec::new();
        let mut writer = RowsWriter::new(&mut pipe, &none).unwrap();
        writer.write(&rows).unwrap();
        writer.end().unwrap();
        let read: Vec<_> = RowsReader::new(pipe.as_slice(), none).unwrap().unwrap().collect::<io::Result<_>>().unwrap();
        assert_eq!(read, [rows]);
    }

    /// Wherever a pipe breaks: at a message's end too, and between the stream's own end and the last line.
    #[test]
    fn rows_that_end_early_are_an_error() {
        let whole = written(&[batch(&[1, 2, 3]), batch(&[4])]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} of {} bytes pass for all", whole.len());
        }
    }

    #[test]
    fn a_wrong_number_of_rows_is_an_error() {
        let bytes = written(&[batch(&[1, 2, 3])]);
        let stream = &bytes[..bytes.len() - "{\"rows\":3}\n".len()];
        for (line, passes) in [("{\"rows\":3}\n", true), ("{\"rows\":2}\n", false), ("{\"rows\":3}\n{}", false)] {
            let pipe = [stream, line.as_bytes()].concat();
            assert_eq!(read(&pipe).is_ok(), passes, "{line}");
        }
    }

    #[test]
    fn other_columns_and_forged_lengths_are_errors() {
        let pipe = written(&[batch(&[1])]);
        let other = schema(&[Column { name: "id".into(), kind: ColumnType::Int64, nullable: true }]);
        let mut rows = RowsReader::new(pipe.as_slice(), other).unwrap().unwrap();
        assert!(rows.next().unwrap().is_err());
        assert!(rows.next().is_none());
        for forged in [[0xff; 64].as_slice(), &[0; 64], b"PAR1", b"[]\n"] {
            assert!(read(forged).is_err());
        }
    }

    #[test]
    fn what_is_refused_is_told() {
        let refusal = Refusal { code: RefusalCode::SourceChanged, fact: "gone".into(), remedy: "look".into() };
        let pipe = format!("{}\n", serde_json::to_string(&refusal).unwrap());
        assert_eq!(RowsReader::new(pipe.as_bytes(), columns()).unwrap().unwrap_err(), refusal);
        for unknown in ["{}\n", "{\"code\":\"OTHER\",\"fact\":\"\",\"remedy\":\"\"}\n", "{\"code\""] {
            assert!(RowsReader::new(unknown.as_bytes(), columns()).is_err(), "{unknown}");
        }
    }
}
