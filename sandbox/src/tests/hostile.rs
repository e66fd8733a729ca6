//! Guests that attack the engine and its host, written by hand, one letter of the catalogue per file.
//!
//! A hostile guest is honest to units of one or two rows, and attacks when it is asked about three. Every test asks it
//! about honest units and attacked ones in turn, and whatever the attack comes to, the honest ones' answers, fuel and
//! memory are, bit by bit, what they are where nobody attacks. Each prints a line for `cargo xtask audit`.

mod a_lifecycle;
mod b_pointers;
mod c_shapes;
mod d_time;
mod e_memory;
mod f_answers;
mod g_state;
mod h_channels;
mod l_host;

use std::fmt::Display;

use wasmtime::{Engine, PoolingAllocationConfig};

use crate::batch::Writer;
use crate::contract::Answer;
use crate::denial::Denial;
use crate::engine::{Asked, Question};
use crate::terms::{ColumnType, Kind, Limits, Spec};
use crate::testing::{MEASURE, SELECT, WIT, encode, said as said_to_the_host, unpooled};

/// The number of rows of a unit that is attacked, and the bytes of such a unit.
const EVIL: usize = 3;
const EVIL_BYTES: usize = VALUES_AT + 8 * EVIL;
/// Where a unit of one slot with one column of numbers has the number of its rows, and its first value.
const ROWS_AT: usize = 16;
const VALUES_AT: usize = 56;
/// Units of which nobody but those with three rows is attacked.
const COMPANY: [usize; 7] = [1, EVIL, 2, EVIL, EVIL, 1, 2];

/// What three honest rows are answered.
const HONEST: &str = "a=[10.0, 1.0]";

/// Says what became of a hostile guest, in the one line that `cargo xtask audit` reads.
fn report(id: &str, what: &str, outcome: impl Display) {
    println!("\nHOSTILE | {id} | {what} | {outcome}");
}

/// A guest, by what it does besides answering.
#[derive(Clone)]
struct Guest {
    kind: Kind,
    limits: Limits,
    /// Minimum and maximum of its memory, in pages.
    pages: (u32, u32),
    /// More of the module.
    fields: String,
    /// When it is asked for room for three rows; locals are those of `cabi_realloc`.
    realloc: String,
    /// When it is asked about three rows; local 2 is a spare.
    evil: String,
    /// Whenever it is asked.
    always: String,
    /// When its answer about three rows has been read.
    post: String,
}

impl Default for Guest {
    fn default() -> Self {
        let [fields, realloc, evil, always, post] = std::array::from_fn(|_| String::new());
        let limits = Limits { fuel_per_unit: 1_000_000, ..Limits::default() };
        Self { kind: Kind::Analytical, limits, pages: (1, 100), fields, realloc, evil, always, post }
    }
}

impl Guest {
    fn evil(body: &str) -> Self {
        Self { evil: body.to_owned(), ..Self::default() }
    }

    fn realloc(body: &str) -> Self {
        Self { realloc: body.to_owned(), ..Self::default() }
    }

    fn component(&self) -> Vec<u8> {
        let Self { pages: (minimum, maximum), fields, realloc, evil, always, post, .. } = self;
        let (world, function) = match self.kind {
            Kind::Analytical => ("analytical-question", MEASURE),
            Kind::List => ("list-question", SELECT),
        };
        // Says one number and how often this instance has been asked: in the group `a`, or as the segment.
        let say = match self.kind {
            Kind::Analytical => {
                "(i64.store (i32.const 512) (i64.const 0x1_0000_0208)) (i64.store (i32.const 520) (i64.const 0x1_0000_0230))
                 (i64.store (i32.const 528) (i64.const 0x2_0000_0240)) (i64.store (i32.const 560) (i64.const 0x1_0000_0238))
                 (i32.store8 (i32.const 568) (i32.const 97)) (f64.store (i32.const 576) (local.get 0))
                 (f64.store (i32.const 584) (f64.convert_i32_u (global.get $calls)))"
            }
            Kind::List => {
                "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 516) (i32.trunc_sat_f64_u (local.get 0)))"
            }
        };
        let text = format!(
            r#"(module
                (type $plain (func))
                {fields}
                (memory (export "memory") {minimum} {maximum})
                (table $table 4 1000 funcref)
                (global $end (mut i32) (i32.const 4096))
                (global $is_evil (mut i32) (i32.const 0))
                (global $calls (mut i32) (i32.const 0))
                (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
                (func $allocate (param i32) (result i32)
                    (local $start i32)
                    (local.set $start (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
                    (global.set $end (i32.add (local.get $start) (local.get 0)))
                    (local.get $start))
                (func $say (param f64) (result i32) {say} (i32.const 512))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (if (i32.eq (local.get 3) (i32.const {EVIL_BYTES})) (then {realloc}))
                    (call $allocate (local.get 3)))
                (func (export "{function}") (param i32 i32) (result i32)
                    (local i32)
                    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                    {always}
                    (if (i32.eq (i32.load offset={ROWS_AT} (local.get 0)) (i32.const {EVIL})) (then (global.set $is_evil (i32.const 1)) {evil}))
                    (call $say (f64.convert_i64_s (i64.load offset={VALUES_AT} (local.get 0)))))
                (func (export "cabi_post_{function}") (param i32)
                    (if (global.get $is_evil) (then {post}))))"#
        );
        let module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
        encode(WIT, world, module)
    }

    fn spec(&self) -> Spec {
        Spec {
            kind: self.kind,
            limits: self.limits.clone(),
            parameters: Vec::new(),
            slots: vec![vec![ColumnType::Int64]],
        }
    }

    fn question(&self) -> Result<Question, Denial> {
        Question::new(&self.component(), self.spec(), 1)
    }

    /// Why no such guest is asked at all.
    #[track_caller]
    fn refused(&self) -> String {
        let denial = self.question().unwrap_err();
        format!("{}: {}", denial.reason().as_str(), denial.fact())
    }

    fn honest(&self) -> Self {
        Self { realloc: String::new(), evil: String::new(), post: String::new(), ..self.clone() }
    }

    /// What became of the attack. All the company is asked in instances from the pool, where each finds what the one
    /// before has left, if anything is left, and in memory that the system has just handed out.
    #[track_caller]
    fn asked(&self) -> Asked {
        let mut pooled = ask(&self.question().unwrap(), &COMPANY);
        let fresh = ask(&unpooled(&self.component(), self.spec()), &COMPANY);
        let innocent = ask(&self.honest().question().unwrap(), &COMPANY);
        for (at, rows) in COMPANY.into_iter().enumerate() {
            let [pooled, fresh, innocent] = [&pooled, &fresh, &innocent].map(|asked| &asked[at]);
            assert!(bits(pooled) == bits(fresh), "{rows} rows: {} and {}", said(pooled), said(fresh));
            if rows != EVIL {
                assert!(said(pooled) == said(innocent), "{rows} rows: {}", said(pooled));
                assert!(!matches!(pooled.answer, Answer::Nothing), "an honest unit is silent");
            }
        }
        pooled.remove(1)
    }
}

/// An engine of the profile, but for how its pool resets memory and tables.
fn resetting(guest: &Guest, how: impl FnOnce(&mut PoolingAllocationConfig)) -> Question {
    let mut config = crate::profile::config(&guest.limits, 1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(1).total_tables(4).total_core_instances(16).total_component_instances(1);
    pool.max_memory_size(usize::try_from(guest.limits.memory_bytes_per_unit).unwrap());
    how(&mut pool);
    config.allocation_strategy(pool);
    Question::on(&Engine::new(&config).unwrap(), &guest.component(), guest.spec()).unwrap()
}

/// Units of so many rows: 10, 20, 30.
fn batch(units: &[usize]) -> Vec<u64> {
    let mut memory = vec![0_u64; 11 * units.len()];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
    for rows in units {
        let write = |writer: &mut Writer<'_>| {
            writer.slot(*rows, 1)?;
            writer.column(ColumnType::Int64)?;
            writer.list::<u8>(&[])?;
            writer.list(&[10_i64, 20, 30][..*rows])
        };
        writer.unit(&[], 0, 1, write).unwrap();
    }
    let words = writer.len() / 8;
    memory.truncate(words);
    memory
}

fn ask(question: &Question, units: &[usize]) -> Vec<Asked> {
    question.ask_all(bytemuck::cast_slice(&batch(units)), units.len()).unwrap()
}

fn bits(asked: &Asked) -> Vec<u8> {
    said_to_the_host(Ok(asked))
}

/// An answer in words.
fn said(asked: &Asked) -> String {
    match &asked.answer {
        Answer::Nothing => "nothing".to_owned(),
        Answer::Selected(segment) => format!("{segment:?}"),
        Answer::Contributions(list) => {
            let texts = list.iter().map(|one| format!("{}={:?}", one.group.join("/"), one.values));
            texts.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Mounts an attack, whose outcome must be this.
#[track_caller]
fn comes_to(id: &str, what: &str, guest: &Guest, expected: &str) -> Asked {
    let asked = guest.asked();
    assert_eq!(said(&asked), expected, "{id}: {what}");
    let short: String = expected.chars().take(60).collect();
    report(id, what, short.escape_debug());
    asked
}

/// Mounts an attack after which its unit contributes nothing.
#[track_caller]
fn is_silent(id: &str, what: &str, guest: &Guest) -> Asked {
    comes_to(id, what, guest, "nothing")
}

/// An attack that never gets to any unit.
#[track_caller]
fn is_refused(id: &str, what: &str, guest: &Guest, expected: &str) {
    assert_eq!(guest.refused(), expected, "{id}: {what}");
    report(id, what, format!("refused: {expected}"));
}

/// Answers with one number.
fn says(number: &str) -> Guest {
    Guest::evil(&format!("(return (call $say {number}))"))
}

/// Answers with what lies at 1024.
fn answers(stores: &str) -> Guest {
    Guest::evil(&format!("{stores} (return (i32.const 1024))"))
}

fn store(place: usize, words: &[u32]) -> String {
    let word = |(at, word): (usize, &u32)| format!("(i32.store (i32.const {}) (i32.const {word}))", place + 4 * at);
    words.iter().enumerate().map(word).collect()
}

/// Turns a loop so often.
fn turns(count: u32) -> String {
    format!(
        "(local.set 2 (i32.const {count}))
         (loop $on (local.set 2 (i32.sub (local.get 2) (i32.const 1))) (br_if $on (local.get 2)))"
    )
}
