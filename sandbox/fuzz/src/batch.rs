//! Batches of units: what is not of the agreed form is refused, and a guest is told what the items say, whatever lies
//! between and around them.

use std::sync::LazyLock;

use glovebox_sandbox::testing::{MEASURE, WIT, encode};
use glovebox_sandbox::{Asked, ColumnType, Kind, Question, Reason, Spec, Value, Writer};

use super::{Memory, Said, Seed, Seen, spec, wasm};

use ColumnType::{Boolean, Date, Dictionary, Float64, Int64, Timestamp, Utf8};

const FUEL: u64 = 1_000_000;

/// Answers with a sum over all that it was given, and how many bytes that was.
const GUEST: &str = r#"
    (memory (export "memory") 4 4)
    (global $end (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $start i32)
        (local.set $start (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
        (global.set $end (i32.add (local.get $start) (local.get 3)))
        (local.get $start))
    (func (export "FUNCTION") (param i32 i32 i32 i32) (result i32)
        (local $at i32) (local $sum i64)
        (local.set $at (i32.const 1024))
        (loop $next
            (local.set $sum (i64.rotl (i64.mul
                (i64.xor (local.get $sum) (i64.load (local.get $at))) (i64.const 0x100000001b3)) (i64.const 29)))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $next (i32.lt_u (local.get $at) (global.get $end))))
        (i32.store (i32.const 0) (i32.const 8))
        (i32.store (i32.const 4) (i32.const 1))
        (i32.store (i32.const 16) (i32.const 32))
        (i32.store (i32.const 20) (i32.const 3))
        (f64.store (i32.const 32) (f64.convert_i32_u (i32.wrap_i64 (local.get $sum))))
        (f64.store (i32.const 40) (f64.convert_i32_u (i32.wrap_i64 (i64.shr_u (local.get $sum) (i64.const 32)))))
        (f64.store (i32.const 48) (f64.convert_i32_u (global.get $end)))
        (i32.const 0))
"#;

/// Every type of a column, slots without columns, several slots, and a seed.
static QUESTIONS: LazyLock<Vec<Question>> = LazyLock::new(|| {
    let module = format!("(module {})", GUEST.replace("FUNCTION", MEASURE));
    let component = encode(WIT, "analytical-question", wasm(&module));
    let asked = |slots: &[&[ColumnType]], parameters: &[Value]| {
        let slots = slots.iter().map(|slot| slot.to_vec()).collect();
        let spec = Spec { parameters: parameters.to_vec(), ..spec(Kind::Analytical, FUEL, slots) };
        Question::new(&component, spec, 1).unwrap()
    };
    let question = |slots: &[&[ColumnType]]| asked(slots, &[]);
    vec![
        question(&[&[Boolean]]),
        question(&[&[Int64, Utf8]]),
        question(&[&[Float64, Date, Timestamp]]),
        question(&[&[Dictionary], &[], &[Utf8, Boolean]]),
        question(&[&[]]),
        question(&[&[Boolean, Int64, Float64, Date, Timestamp, Utf8, Dictionary], &[Int64]]),
        asked(&[&[Int64], &[]], &[Value::Boolean(true), Value::Seed]),
    ]
});

/// The first byte says which question is asked, the second about how many units; the rest is the batch.
pub fn check(data: &[u8]) {
    let [which, units, batch @ ..] = data else { return };
    let question = &QUESTIONS[usize::from(*which) % QUESTIONS.len()];
    let units = if *units == u8::MAX { u32::MAX as usize } else { usize::from(*units) };
    let parsed = Items::parse(batch, units, question.spec());
    let asked = ask(question, &Memory::of(batch, 0, 0), units);
    let Some(items) = parsed else {
        assert!(asked.is_none(), "a batch is read that is not of the agreed form");
        return;
    };
    let asked = asked.expect("a batch of the agreed form is refused");
    assert_eq!(asked.len(), units);
    assert_eq!(ask(question, &Memory::of(batch, 8, u8::MAX), units).as_ref(), Some(&asked), "elsewhere");
    assert_eq!(ask(question, &Memory::of(&items.write(batch.len()), 0, 0), units), Some(asked.clone()), "as written");
    for behind in [1, 4] {
        let elsewhere = ask(question, &Memory::of(batch, behind, 1), units);
        assert!(elsewhere.is_none_or(|elsewhere| elsewhere == asked), "{behind} bytes behind an aligned place");
    }
    for (bytes, units) in [(&batch[..batch.len().saturating_sub(8)], units), (batch, units + 1)] {
        let is_other = batch.len() >= 8;
        assert!(!is_other || ask(question, &Memory::of(bytes, 0, 0), units).is_none(), "another length or number");
    }
}

fn ask(question: &Question, batch: &Memory, units: usize) -> Option<Vec<Seen>> {
    let limits = &question.spec().limits;
    let seen = |asked: Vec<Asked>| -> Vec<Seen> { asked.iter().map(|asked| Seen::of(asked, limits)).collect() };
    match question.ask_all(batch.bytes(), units) {
        Ok(asked) => Some(seen(asked)),
        Err(denial) => {
            assert_eq!(denial.reason(), Reason::SandboxFailed);
            assert!(denial.fact().contains("agreed form"), "{denial}");
            None
        }
    }
}

/// A batch as it says itself: a seed, a number, or a list of items of so many bytes.
enum Item<'a> {
    Seed(i64),
    Number(usize),
    List(usize, &'a [u8]),
}

struct Items<'a>(Vec<Item<'a>>);

impl<'a> Items<'a> {
    /// The obvious way to read a batch.
    fn parse(mut bytes: &'a [u8], units: usize, spec: &Spec) -> Option<Self> {
        let mut items = Vec::new();
        for _ in 0..units {
            if spec.parameters.contains(&Value::Seed) {
                let (seed, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                items.push(Item::Seed(i64::from_ne_bytes(*seed)));
            }
            for columns in &spec.slots {
                items.push(Item::Number(number(&mut bytes)?));
                for size in columns.iter().flat_map(|column| sizes(*column)) {
                    let count = number(&mut bytes)?;
                    let len = u64::try_from(count).unwrap() * *size as u64;
                    let padded = len.next_multiple_of(8);
                    if padded > bytes.len() as u64 {
                        return None;
                    }
                    items.push(Item::List(*size, &bytes[..usize::try_from(len).unwrap()]));
                    bytes = &bytes[usize::try_from(padded).unwrap()..];
                }
            }
        }
        bytes.is_empty().then_some(Self(items))
    }

    /// The same as the host writes it, in so many bytes.
    fn write(&self, len: usize) -> Vec<u8> {
        let mut words = vec![u64::MAX; len / 8];
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut words));
        for item in &self.0 {
            match item {
                Item::Seed(seed) => writer.seed(*seed),
                Item::Number(count) => writer.rows(*count),
                Item::List(1, bytes) => writer.list(bytes),
                Item::List(4, bytes) => writer.list(&numbers(bytes, u32::from_ne_bytes)),
                Item::List(_, bytes) => writer.list(&numbers(bytes, u64::from_ne_bytes)),
            }
            .expect("what was read has room where it was read from");
        }
        assert_eq!(writer.len(), len);
        bytemuck::cast_slice(&words).to_vec()
    }
}

fn number(bytes: &mut &[u8]) -> Option<usize> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    u32::try_from(u64::from_ne_bytes(*number)).ok().map(|number| number as usize)
}

fn numbers<T, const N: usize>(bytes: &[u8], of: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|bytes| of(*bytes)).collect()
}

/// The bytes of an item in each list of a column, its validity first.
const fn sizes(column: ColumnType) -> &'static [usize] {
    match column {
        Boolean => &[1, 1],
        Date => &[1, 4],
        Int64 | Float64 | Timestamp => &[1, 8],
        Utf8 => &[1, 4, 1],
        Dictionary => &[1, 4, 4, 1],
    }
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let seed = |which: u8, units: u8, write: &dyn Fn(&mut Writer<'_>)| {
        let mut words = vec![0_u64; 512];
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut words));
        write(&mut writer);
        let len = writer.len();
        [&[which, units], &bytemuck::cast_slice(&words)[..len]].concat()
    };
    let seeds = vec![
        ("booleans", seed(0, 1, &|writer| column(writer, 3, &[], &[0b101_u8]))),
        (
            "numbers-and-texts",
            seed(1, 2, &|writer| {
                for unit in 0..2_i64 {
                    column(writer, 2, &[0b01], &[unit, i64::MIN]);
                    texts(writer, &["red", "žlutá"]);
                }
            }),
        ),
        (
            "floats-and-times",
            seed(2, 1, &|writer| {
                column(writer, 1, &[], &[f64::NAN.to_bits()]);
                column_more(writer, &[], &[-1_i32]);
                column_more(writer, &[], &[1_i64 << 50]);
            }),
        ),
        (
            "three-slots",
            seed(3, 1, &|writer| {
                column(writer, 1, &[1], &[0_u32]);
                writer.list(&[0_u32, 3]).unwrap();
                writer.list(b"red").unwrap();
                writer.rows(7).unwrap();
                writer.rows(1).unwrap();
                texts(writer, &["x"]);
                column_more(writer, &[], &[1_u8]);
            }),
        ),
        ("no-columns", seed(4, 3, &|writer| (0..3).for_each(|count| writer.rows(count).unwrap()))),
        ("no-units", seed(5, 0, &|_| ())),
        (
            "seeds",
            seed(6, 2, &|writer| {
                for unit in 0..2 {
                    writer.seed(i64::MIN + unit).unwrap();
                    column(writer, 1, &[], &[7_i64]);
                    writer.rows(0).unwrap();
                }
            }),
        ),
        ("too-long", seed(0, 1, &|writer| [1, 0, u32::MAX as usize].iter().for_each(|n| writer.rows(*n).unwrap()))),
    ];
    // The guest is there and answers: what it says of other rows, or of another seed alone, is another sum.
    let says = |data: &[u8]| ask(&QUESTIONS[usize::from(data[0])], &Memory::of(&data[2..], 0, 0), data[1].into());
    for which in [1, 6] {
        let said = says(&seeds[which].1).unwrap();
        assert!(said[0].said != said[1].said && said.iter().all(|seen| seen.said != Said::Nothing), "{said:?}");
    }
    seeds
}

fn column<T: bytemuck::Pod>(writer: &mut Writer<'_>, count: usize, validity: &[u8], values: &[T]) {
    writer.rows(count).unwrap();
    column_more(writer, validity, values);
}

fn column_more<T: bytemuck::Pod>(writer: &mut Writer<'_>, validity: &[u8], values: &[T]) {
    writer.list(validity).unwrap();
    writer.list(values).unwrap();
}

fn texts(writer: &mut Writer<'_>, texts: &[&str]) {
    let ends = texts.iter().scan(0, |end, text| {
        *end += u32::try_from(text.len()).unwrap();
        Some(*end)
    });
    let offsets: Vec<u32> = std::iter::once(0).chain(ends).collect();
    column_more(writer, &[], &offsets);
    writer.list(texts.concat().as_bytes()).unwrap();
}
