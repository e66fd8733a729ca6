//! A CSV file whose records have an end: no reader of it can be made to hold a longer one in memory.
//!
//! A decoder keeps a record until it has all of it, and one quote that is never closed makes one record of all the rest.

use std::io::{self, Read};

use csv_core::{ReadRecordResult, Reader};

use super::source::COLUMNS_MAX;

/// Bytes of a record, without its quotes and separators.
pub(super) const RECORD_BYTES_MAX: usize = 256 << 10;

/// Passes a file on, and fails before a record that is too long has been passed on in whole.
pub(super) struct Records<R> {
    file: R,
    parser: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    /// How much of `text` and of `ends` the record at hand has taken.
    at: (usize, usize),
    is_beyond: bool,
}

impl<R> Records<R> {
    pub(super) fn new(file: R) -> Self {
        let (text, ends) = (vec![0; RECORD_BYTES_MAX], vec![0; COLUMNS_MAX]);
        Self { file, parser: Reader::new(), text, ends, at: (0, 0), is_beyond: false }
    }

    /// Whether it has failed for a record's sake.
    pub(super) const fn is_beyond(&self) -> bool {
        self.is_beyond
    }

    fn pass(&mut self, mut input: &[u8]) -> io::Result<()> {
        while !input.is_empty() {
            let (text, ends) = (&mut self.text[self.at.0..], &mut self.ends[self.at.1..]);
            let (result, read, written, ended) = self.parser.read_record(input, text, ends);
            input = &input[read..];
            self.at = (self.at.0 + written, self.at.1 + ended);
            match result {
                ReadRecordResult::Record => self.at = (0, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    self.is_beyond = true;
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Records<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.pass(&buffer[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads to the end, in pieces of so many bytes; counts what was passed on.
    fn passed(file: impl Read, piece: usize) -> (usize, bool) {
        let (mut records, mut buffer, mut count) = (Records::new(file), vec![0; piece], 0);
        loop {
            match records.read(&mut buffer) {
                Ok(0) => return (count, true),
                Ok(read) => count += read,
                Err(_) => return (count, !records.is_beyond()),
            }
        }
    }

    #[test]
    fn records_of_any_number_pass_whatever_the_pieces() {
        let text = "id,text\n1,\"a, \"\"b\"\"\nc\"\r\n2,5\" wide\n\n3,\n".repeat(20_000);
        for piece in [1, 7, 8_192, 1 << 20] {
            assert_eq!(passed(text.as_bytes(), piece), (text.len(), true), "{piece}");
        }
        let longest = format!("a\n{}\n", "x".repeat(RECORD_BYTES_MAX - 1));
        assert_eq!(passed(longest.as_bytes(), 1 << 20), (longest.len(), true));
        let widest = format!("{}\n1\n", ",".repeat(COLUMNS_MAX - 2));
        assert_eq!(passed(widest.as_bytes(), 1 << 20), (widest.len(), true));
    }

    /// However long the file is: a line without an end, one quote, a line of commas, and lines within quotes.
    #[test]
    fn a_record_without_end_is_not_read_to_its_end() {
        let line: &[u8] = b"id,text\n1,";
        let quote: &[u8] = b"id,text\n1,\"";
        let lines: Vec<u8> = b"2,b\n".repeat(1 << 20);
        let endless = [
            Box::new(line.chain(io::repeat(b'x'))) as Box<dyn Read>,
            Box::new(line.chain(io::repeat(0))),
            Box::new(line.chain(io::repeat(b','))),
            Box::new(quote.chain(io::repeat(b'\n'))),
            Box::new(quote.chain(lines.as_slice())),
        ];
        for file in endless {
            let (count, is_whole) = passed(file, 8_192);
            assert!(!is_whole && count <= RECORD_BYTES_MAX + 8_192, "{count}");
        }
    }
}
