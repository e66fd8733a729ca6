//! Batches of units: what is not of the agreed form is refused, and a guest is told a unit's own words, whatever lies
//! between and around them. What the words say is between the host that wrote them and the guest.

use std::sync::LazyLock;

use glovebox_sandbox::testing::{MEASURE, WIT, encode};
use glovebox_sandbox::{Asked, ColumnType, Kind, Question, Reason, Value, Writer};

use super::{Memory, Said, Seed, Seen, spec, wasm};

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
    (func (export "FUNCTION") (param i32 i32) (result i32)
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

static QUESTION: LazyLock<Question> = LazyLock::new(|| {
    let module = format!("(module {})", GUEST.replace("FUNCTION", MEASURE));
    let component = encode(WIT, "analytical-question", wasm(&module));
    Question::new(&component, spec(Kind::Analytical, FUEL, Vec::new()), 1).unwrap()
});

/// The first byte says about how many units the question is asked; the rest is the batch.
pub fn check(data: &[u8]) {
    let [units, batch @ ..] = data else { return };
    let units = if *units == u8::MAX { u32::MAX as usize } else { usize::from(*units) };
    let asked = ask(&Memory::of(batch, 0, 0), units);
    let Some(words) = parse(batch, units) else {
        assert!(asked.is_none(), "a batch is read that is not of the agreed form");
        return;
    };
    let asked = asked.expect("a batch of the agreed form is refused");
    let expected: Vec<Said> = words.iter().map(|words| sum(words)).collect();
    assert_eq!(asked.iter().map(|seen| seen.said.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(ask(&Memory::of(batch, 8, u8::MAX), units).as_ref(), Some(&asked), "elsewhere");
    for behind in [1, 4] {
        let elsewhere = ask(&Memory::of(batch, behind, 1), units);
        assert!(elsewhere.is_none_or(|elsewhere| elsewhere == asked), "{behind} bytes behind an aligned place");
    }
    for (bytes, units) in [(&batch[..batch.len().saturating_sub(8)], units), (batch, units + 1)] {
        let is_other = batch.len() >= 8;
        assert!(!is_other || ask(&Memory::of(bytes, 0, 0), units).is_none(), "another length or number");
    }
}

fn ask(batch: &Memory, units: usize) -> Option<Vec<Seen>> {
    let limits = &QUESTION.spec().limits;
    let seen = |asked: Vec<Asked>| -> Vec<Seen> { asked.iter().map(|asked| Seen::of(asked, limits)).collect() };
    match QUESTION.ask_all(batch.bytes(), units) {
        Ok(asked) => Some(seen(asked)),
        Err(denial) => {
            assert_eq!(denial.reason(), Reason::SandboxFailed);
            assert!(denial.fact().contains("agreed form"), "{denial}");
            None
        }
    }
}

/// The obvious way to read a batch: each unit is a number of words, and the words.
fn parse(mut bytes: &[u8], units: usize) -> Option<Vec<Vec<u64>>> {
    let mut found = Vec::new();
    for _ in 0..units {
        let count = word(&mut bytes)?;
        if count > bytes.len() as u64 / 8 {
            return None;
        }
        found.push((0..count).map(|_| word(&mut bytes)).collect::<Option<_>>()?);
    }
    bytes.is_empty().then_some(found)
}

fn word(bytes: &mut &[u8]) -> Option<u64> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*word))
}

/// What the guest says of a unit's words. Of no word, it looks at one that is zero.
fn sum(words: &[u64]) -> Said {
    let mix = |sum: u64, word: &u64| (sum ^ word).wrapping_mul(0x100_0000_01b3).rotate_left(29);
    let words_seen = if words.is_empty() { &[0] } else { words };
    let sum = words_seen.iter().fold(0, mix);
    let values = [sum & 0xffff_ffff, sum >> 32, 1024 + 8 * words.len() as u64];
    Said::Contributions(vec![(Vec::new(), values.iter().map(|value| (*value as f64).to_bits()).collect())])
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let seed = |units: u8, write: &dyn Fn(&mut Writer<'_>)| {
        let mut words = vec![0_u64; 512];
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut words));
        write(&mut writer);
        let len = writer.len();
        [&[units], &bytemuck::cast_slice(&words)[..len]].concat()
    };
    let unit = |writer: &mut Writer<'_>, seed: i64| {
        let parameters = [Value::Boolean(true), Value::Seed, Value::Utf8("žlutá".into())];
        let write = |writer: &mut Writer<'_>| {
            writer.slot(2, 2)?;
            writer.column(ColumnType::Int64)?;
            writer.list(&[0b01_u8])?;
            writer.list(&[i64::MIN, 0])?;
            writer.column(ColumnType::Utf8)?;
            writer.list::<u8>(&[])?;
            writer.list(&[0_u32, 3, 3])?;
            writer.list(b"red")
        };
        writer.unit(&parameters, seed, 1, write).unwrap();
    };
    let words = |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|number| number.to_le_bytes()).collect() };
    vec![
        ("one", seed(1, &|writer| unit(writer, 7))),
        ("two", seed(2, &|writer| (0..2).for_each(|seed| unit(writer, i64::MIN + seed)))),
        ("nothing", seed(2, &|writer| (0..2).for_each(|_| writer.unit(&[], 0, 0, |_| Ok(())).unwrap()))),
        ("no-words", [vec![3], words(&[0, 0, 1, 5])].concat()),
        ("no-units", vec![0]),
        ("too-long", [vec![1], words(&[u64::MAX, 0])].concat()),
    ]
}
