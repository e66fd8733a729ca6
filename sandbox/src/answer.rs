//! Units' answers as they go through the pipe: numbers of eight bytes, little-endian, and texts behind their lengths.
//!
//! The writer may be under a guest's control, so the reader takes memory as there are bytes, and every byte must have its
//! meaning. It reads each answer into the room of the one before, so that a unit costs the host no allocation.

use std::fmt;
use std::io::{self, BufRead, Write};

use crate::contract::{Answer, Contribution};
use crate::denial::Reason;
use crate::engine::Asked;

const NOTHING: u64 = 0;
const OUT: u64 = 1;
const IN: u64 = 2;
const CONTRIBUTIONS: u64 = 3;
const TIMED_OUT: u64 = 4;
const FAILED: u64 = 5;

/// Writes answers, each behind its length.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// A unit's answer.
    pub(crate) fn asked(&mut self, asked: &Asked, to: &mut impl Write) -> io::Result<()> {
        let Asked { answer, fuel, memory_bytes } = asked;
        self.0.clear();
        match answer {
            Answer::Nothing => self.numbers(&[NOTHING, *fuel, *memory_bytes]),
            Answer::Selected(None) => self.numbers(&[OUT, *fuel, *memory_bytes]),
            Answer::Selected(Some(segment)) => self.numbers(&[IN, *fuel, *memory_bytes, (*segment).into()]),
            Answer::Contributions(list) => {
                self.numbers(&[CONTRIBUTIONS, *fuel, *memory_bytes, list.len() as u64]);
                list.iter().for_each(|contribution| self.contribution(contribution));
            }
        }
        self.send(to)
    }

    /// Why there is no answer about this unit, nor about those after it.
    pub(crate) fn ended(&mut self, reason: Reason, to: &mut impl Write) -> io::Result<()> {
        self.0.clear();
        self.numbers(&[if reason == Reason::TimedOut { TIMED_OUT } else { FAILED }]);
        self.send(to)
    }

    fn contribution(&mut self, Contribution { group, values }: &Contribution) {
        self.numbers(&[group.len() as u64]);
        for part in group {
            self.numbers(&[part.len() as u64]);
            self.0.extend_from_slice(part.as_bytes());
        }
        self.numbers(&[values.len() as u64]);
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.0.extend_from_slice(&number.to_le_bytes()));
    }

    fn send(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&(self.0.len() as u64).to_le_bytes())?;
        to.write_all(&self.0)
    }
}

/// Reads answers, one after the other.
#[derive(Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    asked: Asked,
    /// Room for the next list, and for what is in it.
    list: Vec<Contribution>,
    contributions: Vec<Contribution>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// The next answer, of at most so many bytes, or why there is none.
    pub(crate) fn next(&mut self, from: &mut impl BufRead, most: u64) -> io::Result<Result<&mut Asked, Reason>> {
        let mut length = [0; 8];
        from.read_exact(&mut length)?;
        let length = Some(u64::from_le_bytes(length)).filter(|length| *length <= most);
        let length = length.and_then(|length| usize::try_from(length).ok());
        self.receive(from, length.ok_or_else(|| io::Error::other("an answer is too long"))?)?;
        match self.parse().ok_or_else(|| io::Error::other("an answer is of no form"))? {
            Ok(()) => Ok(Ok(&mut self.asked)),
            Err(reason) => Ok(Err(reason)),
        }
    }

    fn receive(&mut self, from: &mut impl BufRead, length: usize) -> io::Result<()> {
        self.bytes.clear();
        while self.bytes.len() < length {
            let bytes = from.fill_buf()?;
            let taken = bytes.len().min(length - self.bytes.len());
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.bytes.extend_from_slice(&bytes[..taken]);
            from.consume(taken);
        }
        Ok(())
    }

    fn parse(&mut self) -> Option<Result<(), Reason>> {
        let mut list = std::mem::take(&mut self.list);
        if let Answer::Contributions(last) = std::mem::take(&mut self.asked.answer) {
            list = last;
        }
        self.contributions.append(&mut list);
        let mut bytes = Bytes(&self.bytes);
        let kind = bytes.number()?;
        let ended = match kind {
            TIMED_OUT => Some(Reason::TimedOut),
            FAILED => Some(Reason::SandboxFailed),
            _ => None,
        };
        if let Some(reason) = ended {
            return bytes.0.is_empty().then_some(Err(reason));
        }
        let Asked { answer, fuel, memory_bytes } = &mut self.asked;
        (*fuel, *memory_bytes) = (bytes.number()?, bytes.number()?);
        match kind {
            NOTHING => {}
            OUT => *answer = Answer::Selected(None),
            IN => *answer = Answer::Selected(Some(bytes.number()?.try_into().ok()?)),
            CONTRIBUTIONS => {
                for _ in 0..bytes.number()? {
                    let mut contribution = self.contributions.pop().unwrap_or_default();
                    bytes.contribution(&mut contribution)?;
                    list.push(contribution);
                }
                *answer = Answer::Contributions(std::mem::take(&mut list));
            }
            _ => return None,
        }
        self.list = list;
        bytes.0.is_empty().then_some(Ok(()))
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn contribution(&mut self, Contribution { group, values }: &mut Contribution) -> Option<()> {
        let parts = self.count(size_of::<u64>())?;
        group.resize_with(parts, String::new);
        for part in group {
            let length = self.count(1)?;
            part.clear();
            part.push_str(str::from_utf8(self.take(length)?).ok()?);
        }
        let count = self.count(size_of::<f64>())?;
        let bits = self.take(count * size_of::<f64>())?.as_chunks().0;
        values.clear();
        values.extend(bits.iter().map(|bits| f64::from_le_bytes(*bits)));
        Some(())
    }

    /// A number of items that take at least so many bytes each, and are there.
    fn count(&mut self, item: usize) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len() / item).then_some(count)
    }

    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 200;

    fn contribution(group: &[&str], values: &[f64]) -> Contribution {
        Contribution { group: group.iter().map(|part| (*part).to_owned()).collect(), values: values.to_vec() }
    }

    fn asked(answer: Answer) -> Asked {
        Asked { answer, fuel: 7, memory_bytes: u64::MAX }
    }

    fn answers() -> Vec<Asked> {
        let long = contribution(&["red", "žlutá"], &[1.0, f64::from_bits(0x7ff8_dead_beef_cafe)]);
        let lists = [vec![long.clone(), contribution(&[], &[])], Vec::new(), vec![contribution(&[""], &[-0.0]), long]];
        let lists = lists.into_iter().map(Answer::Contributions);
        let others = [Answer::Nothing, Answer::Selected(None), Answer::Selected(Some(u32::MAX))];
        lists.zip(others).flat_map(|(list, other)| [list, other]).map(asked).collect()
    }

    fn said(asked: &Asked) -> Vec<u8> {
        let mut pipe = Vec::new();
        Writer::default().asked(asked, &mut pipe).unwrap();
        pipe
    }

    /// What the reader makes of bytes, as the writer would say it.
    fn heard(reader: &mut Reader, mut bytes: &[u8], most: u64) -> Option<Result<Vec<u8>, Reason>> {
        let heard = reader.next(&mut bytes, most).ok()?;
        Some(heard.map(|asked| said(asked)))
    }

    /// Whatever was read before: of a longer answer nothing stays, and room that was given up is there again.
    #[test]
    fn answers_are_heard_as_they_were_said() {
        let mut reader = Reader::default();
        for _ in 0..2 {
            for first in &answers() {
                for second in &answers() {
                    assert_eq!(heard(&mut reader, &said(first), MOST), Some(Ok(said(first))));
                    assert_eq!(heard(&mut reader, &said(second), MOST), Some(Ok(said(second))));
                }
            }
        }
        for reason in [Reason::TimedOut, Reason::SandboxFailed] {
            let mut pipe = Vec::new();
            Writer::default().ended(reason, &mut pipe).unwrap();
            assert_eq!(heard(&mut reader, &pipe, MOST), Some(Err(reason)));
        }
    }

    #[test]
    fn nothing_else_is_an_answer() {
        let words = |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|number| number.to_le_bytes()).collect() };
        let answer = |numbers: &[u64]| words(&[&[8 * numbers.len() as u64], numbers].concat());
        let hears = |bytes: &[u8], most| heard(&mut Reader::default(), bytes, most).is_some();
        // As controls: a segment, a contribution without anything, and one of a group and a value.
        assert!(hears(&answer(&[IN, 0, 0, 7]), MOST) && hears(&answer(&[3, 0, 0, 1, 0, 0]), MOST));
        assert!(hears(&answer(&[3, 0, 0, 1, 1, 8, 0, 1, 0]), MOST) && !hears(&answer(&[IN, 0, 0, 7]), 31));
        for (what, numbers) in [
            ("no kind", &[][..]),
            ("another kind", &[6, 0, 0]),
            ("a segment beyond 32 bits", &[IN, 0, 0, 1 << 32]),
            ("a segment that is missing", &[IN, 0, 0]),
            ("more behind it", &[OUT, 0, 0, 0]),
            ("more behind nothing", &[NOTHING, 0, 0, 0]),
            ("what it took is missing", &[OUT, 0]),
            ("more behind its end", &[FAILED, 0]),
            ("more contributions than there are", &[3, 0, 0, 2, 0, 0]),
            ("contributions without end", &[3, 0, 0, u64::MAX]),
            ("more parts than there are", &[3, 0, 0, 1, 2, 0]),
            ("parts without end", &[3, 0, 0, 1, u64::MAX, 0]),
            ("a longer part than there is", &[3, 0, 0, 1, 1, 9, 0]),
            ("a part without end", &[3, 0, 0, 1, 1, u64::MAX, 0]),
            ("a part that is not UTF-8", &[3, 0, 0, 1, 1, 8, u64::MAX, 0]),
            ("more values than there are", &[3, 0, 0, 1, 0, 2, 0]),
            ("values without end", &[3, 0, 0, 1, 0, 1 << 61]),
        ] {
            assert!(!hears(&answer(numbers), MOST), "{what}");
        }
        let whole = said(&answers()[0]);
        assert!((0..whole.len()).all(|end| !hears(&whole[..end], MOST)), "cut off");
        assert!(!hears(&words(&[u64::MAX, 0, 0, 0]), MOST), "without end");
    }
}
