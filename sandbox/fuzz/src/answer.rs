//! What comes back: from a guest, whatever its memory holds, exactly what the contract's types say of it and no more
//! than agreed; from a worker, whatever it writes, nothing that the host would not say again in the same way.

use std::cell::Cell;
use std::ops::Range;
use std::sync::LazyLock;

use glovebox_sandbox::testing::{MEASURE, SELECT, WIT, encode, heard, not_loaded, replied, said};
use glovebox_sandbox::{Answer, Asked, ColumnType, Contribution, Denial, Kind, Question, Reason, Writer};

use super::{Memory, Said, Seed, Seen, spec, wasm};

const FUEL: u64 = 10_000_000;
/// The guest's memory, of which the second half is zeros.
const MEMORY_BYTES: usize = 128 << 10;
/// What one contribution and one text take in this host besides their content.
const CONTRIBUTION_BYTES: usize = size_of::<Contribution>();
const TEXT_BYTES: usize = size_of::<String>();
/// The most that a worker may write.
const REPLY_BYTES_MAX: u64 = 2_000;

/// Takes its column of booleans as an address and as what its memory is to hold from 0 on, and answers with the
/// address.
const GUEST: &str = r#"
    (memory (export "memory") 2 2)
    (global $end (mut i32) (i32.const 65536))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $start i32)
        (local.set $start (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
        (global.set $end (i32.add (local.get $start) (local.get 3)))
        (local.get $start))
    (func (export "FUNCTION") (param $unit i32) (param i32) (result i32)
        (local $bytes i32) (local $answer i32)
        (local.set $bytes (i32.add (local.get $unit) (i32.const 56)))
        (local.set $answer (i32.load (local.get $bytes)))
        (memory.copy
            (i32.const 0)
            (i32.add (local.get $bytes) (i32.const 4))
            (i32.sub (i32.load offset=48 (local.get $unit)) (i32.const 4)))
        (memory.fill (i32.const 65536) (i32.const 0) (i32.const 65536))
        (local.get $answer))
"#;

static QUESTIONS: LazyLock<[Question; 2]> = LazyLock::new(|| {
    let question = |kind, world, function| {
        let module = format!("(module {})", GUEST.replace("FUNCTION", function));
        let spec = spec(kind, FUEL, vec![vec![ColumnType::Boolean]]);
        Question::new(&encode(WIT, world, wasm(&module)), spec, 1).unwrap()
    };
    [question(Kind::Analytical, "analytical-question", MEASURE), question(Kind::List, "list-question", SELECT)]
});

/// Reads the data as a worker's reply, and as the address of an answer and the memory that it points into.
pub fn check(data: &[u8]) {
    check_reply(data);
    if !(4..=60_000).contains(&data.len()) {
        return;
    }
    let (address, content) = data.split_first_chunk().unwrap();
    let address = u32::from_le_bytes(*address) as usize;
    let [analytical, list] = &*QUESTIONS;
    let most = usize::try_from(analytical.spec().limits.answer_bytes_per_unit).unwrap();
    let memory = Image::of(content, most);
    let contributions = ask(analytical, data);
    assert_eq!(contributions, memory.contributions(address).map_or(Said::Nothing, Said::Contributions));
    assert!(size(&contributions) <= most, "{} bytes", size(&contributions));
    assert_eq!(ask(list, data), memory.segment(address).map_or(Said::Nothing, Said::Selected));
}

fn ask(question: &Question, data: &[u8]) -> Said {
    let batch = batch(data);
    let asked = question.ask_all(batch.bytes(), 1).expect("an answer is no failure of the host");
    Seen::of(&asked[0], &question.spec().limits).said
}

/// One unit, whose one column holds the data.
fn batch(data: &[u8]) -> Memory {
    let mut words = vec![0_u64; data.len() / 8 + 16];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut words));
    let write = |writer: &mut Writer<'_>| {
        writer.slot(1, 1)?;
        writer.column(ColumnType::Boolean)?;
        writer.list::<u8>(&[])?;
        writer.list(data)
    };
    writer.unit(&[], 0, 1, write).unwrap();
    let len = writer.len();
    Memory::of(&bytemuck::cast_slice(&words)[..len], 0, 0)
}

/// What an answer takes in this host.
fn size(said: &Said) -> usize {
    let Said::Contributions(contributions) = said else { return 0 };
    let text = |text: &String| TEXT_BYTES + text.len();
    let one = |(group, values): &(Vec<String>, Vec<u64>)| {
        CONTRIBUTION_BYTES + group.iter().map(text).sum::<usize>() + 8 * values.len()
    };
    contributions.iter().map(one).sum()
}

/// A guest's memory, read in the obvious way by the rules of the canonical ABI, until the answer is too large.
struct Image {
    bytes: Vec<u8>,
    bytes_left: Cell<usize>,
}

impl Image {
    fn of(content: &[u8], most: usize) -> Self {
        let mut bytes = content.to_vec();
        bytes.resize(MEMORY_BYTES, 0);
        Self { bytes, bytes_left: Cell::new(most) }
    }

    fn bytes(&self, address: usize, len: usize, alignment: usize) -> Option<&[u8]> {
        let is_aligned = address.is_multiple_of(alignment);
        self.bytes.get(address..address.checked_add(len)?).filter(|_| is_aligned)
    }

    /// The bytes of the list whose address and length lie here. An item has so many in the guest, and takes so many in
    /// the host.
    fn list(&self, at: usize, item: usize, alignment: usize, in_host: usize) -> Option<Range<usize>> {
        let number = |at| Some(u32::from_le_bytes(self.bytes(at, 4, 4)?.try_into().unwrap()) as usize);
        let (address, count) = (number(at)?, number(at + 4)?);
        self.bytes_left.set(self.bytes_left.get().checked_sub(count.checked_mul(in_host)?)?);
        let len = count.checked_mul(item)?;
        self.bytes(address, len, alignment).map(|_| address..address + len)
    }

    fn contributions(&self, at: usize) -> Option<Vec<(Vec<String>, Vec<u64>)>> {
        self.list(at, 16, 4, CONTRIBUTION_BYTES)?.step_by(16).map(|at| self.contribution(at)).collect()
    }

    fn contribution(&self, at: usize) -> Option<(Vec<String>, Vec<u64>)> {
        let group = self.list(at, 8, 4, TEXT_BYTES)?.step_by(8).map(|at| self.text(at)).collect::<Option<_>>()?;
        let values = self.list(at + 8, 8, 8, 8)?;
        Some((group, self.bytes[values].as_chunks().0.iter().map(|bits| u64::from_le_bytes(*bits)).collect()))
    }

    fn text(&self, at: usize) -> Option<String> {
        let bytes = self.list(at, 1, 1, 1)?;
        String::from_utf8(self.bytes[bytes].to_vec()).ok()
    }

    fn segment(&self, at: usize) -> Option<Option<u32>> {
        match self.bytes(at, 8, 4)? {
            [0, ..] => Some(None),
            [1, _, _, _, segment @ ..] => Some(Some(u32::from_le_bytes(segment.try_into().unwrap()))),
            _ => None,
        }
    }
}

/// What is heard is said again in the very same bytes, whatever was heard before; and a reply that is no answer is heard
/// and said as before. Of a denial, only a plain line is left.
fn check_reply(data: &[u8]) {
    let answer = heard(&[], data, REPLY_BYTES_MAX);
    assert!(answer.iter().all(|again| data.starts_with(again)), "an answer with bytes that say nothing");
    for before in [contributions(), said(Ok(&Asked::default()))] {
        assert_eq!(heard(&before, data, REPLY_BYTES_MAX), answer, "after another answer");
    }
    let Some((again, denial)) = replied(data, REPLY_BYTES_MAX) else { return };
    assert!(data.len() >= 17, "a reply without a message");
    let (third, _) = replied(&again, u64::MAX).expect("what the host says it hears");
    assert_eq!(third, again);
    for text in denial.iter().flat_map(|denial| [denial.fact(), denial.remedy()]) {
        assert!(text.chars().count() <= 400 && !text.contains(char::is_control), "{text:?}");
    }
}

fn asked(answer: Answer) -> Vec<u8> {
    said(Ok(&Asked { answer, fuel: 300, memory_bytes: 1 << 17 }))
}

fn contributions() -> Vec<u8> {
    let contribution = |part: &str| Contribution { group: vec![part.into()], values: vec![1.0, f64::INFINITY] };
    asked(Answer::Contributions(vec![contribution("red"), contribution("")]))
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let words = |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|number| number.to_le_bytes()).collect() };
    let texts = |numbers: &[u32], texts: &[u8]| [words(numbers), texts.to_vec()].concat();
    let float = |value: f64| value.to_le_bytes();
    // An address, then memory from 0 on: the list of contributions, each of two lists.
    let one = texts(&[0, 8, 1, 24, 1, 32, 1, 40, 3], &[&float(1.5)[..], "rø".as_bytes()].concat());
    let two = texts(
        &[0, 8, 2, 40, 2, 56, 1, 40, 1, 56, 2, 72, 3, 75, 2],
        &[&float(-0.0)[..], &float(f64::NAN), b"redab"].concat(),
    );
    // The guest says what it is given to say.
    for (data, count) in [(&one, 1), (&two, 2)] {
        let said = ask(&QUESTIONS[0], data);
        assert!(matches!(&said, Said::Contributions(said) if said.len() == count), "{said:?}");
    }
    let many = [words(&[0, 8, 4_000]), vec![0; 64]].concat();
    let not_utf8 = texts(&[0, 8, 1, 24, 1, 0, 0, 32, 2], &[0xff, 0xfe]);
    let outside = words(&[0, 8, 1, 24, 1, 0, 0, 131_071, 2]);
    vec![
        ("empty", words(&[0, 0, 0])),
        ("one", one),
        ("two", two),
        ("many", many),
        ("not-utf8", not_utf8),
        ("outside", outside),
        ("not-aligned", words(&[2, 0, 0, 0])),
        ("selected", words(&[0, 1, 7])),
        ("neither", words(&[0, 2, 7])),
        ("reply-contributions", contributions()),
        ("reply-selected", asked(Answer::Selected(Some(7)))),
        ("reply-nothing", asked(Answer::Nothing)),
        ("reply-ended", said(Err(Reason::TimedOut))),
        ("reply-denial", not_loaded(denial())),
    ]
}

/// A refusal such as a worker's.
fn denial() -> Denial {
    Question::new(b"", QUESTIONS[0].spec().clone(), 1).unwrap_err()
}
