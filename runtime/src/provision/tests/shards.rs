//! Shards: any groups come to the same, and what is lost, doubled or elsewhere on the way is no smaller answer.

use arrow::compute::{concat_batches, take};

use super::*;
use crate::error::Code;
use crate::privacy::{Setting, ShardKey, Tally};
use crate::provision::{Intake, UnitStream};
use crate::room::{Controls, Manifest, Mode};
use crate::sandbox::{Answer as Told, Contribution, Figures};
use crate::shards::{Answer, Sum, ask};

const ANALYTICAL: &str = r#"
    version = 1
    name = "t"
    kind = "analytical"
    isolation = "sealed"
    description = "t"
    [[view]]
    slot = "left"
    join = "required"
    columns = [{ name = "a", type = "int64" }]
    [[view]]
    slot = "right"
    join = "optional"
    columns = [{ name = "a", type = "int64" }]
    [[group]]
    name = "group"
    [[measure]]
    name = "total"
    reducer = "sum"
    range = [0.0, 100.0]
    [bounds]
    max_rows_per_unit = 100
    max_groups_per_unit = 2
"#;

const LIST: &str = r#"
    version = 1
    name = "t"
    kind = "list"
    isolation = "sealed"
    description = "t"
    [[view]]
    slot = "left"
    join = "required"
    columns = [{ name = "a", type = "int64" }]
    [[view]]
    slot = "right"
    join = "optional"
    columns = [{ name = "a", type = "int64" }]
    [bounds]
    max_rows_per_unit = 100
    [list]
    segments = ["small", "large"]
"#;

fn key() -> ShardKey {
    ShardKey::of_run(&[3; 32])
}

/// A run over two views, without a room or a component: what a unit says follows from its rows.
struct Trial {
    folder: Folder,
    agreed: Vec<(BoundView, Slot)>,
    manifest: Manifest,
    controls: Controls,
}

type Row = (i64, i64);

impl Trial {
    fn new(manifest: &str, controls: Controls, left: &[Row], right: &[Row]) -> Self {
        let folder = Folder::new();
        let mut agreed = Vec::new();
        for (name, join, rows) in [("left", Join::Required, left), ("right", Join::Optional, right)] {
            let (units, values): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
            let file = format!("{name}.parquet");
            folder.parquet(&file, &[("unit", ints(&units)), ("a", ints(&values))]);
            let view = view(name, "SELECT unit, a FROM t", &[("t", &file)]);
            let slot = slot(name, join, &[("a", ColumnType::Int64)]);
            let schema_sha256 = describe(&folder.host(), &view).unwrap().sha256();
            agreed.push((bind(view, &slot, schema_sha256), slot));
        }
        Self { folder, agreed, manifest: Manifest::parse(manifest.as_bytes()).unwrap(), controls }
    }

    fn open(&self, split: Split, threads: usize) -> Result<UnitStream> {
        let agreed: Vec<_> = self.agreed.iter().map(|(bound, slot)| (bound, slot)).collect();
        let mut stream = open(&self.folder.host(), &agreed, 100, &Resources { split, threads, ..MEMORY }, None)?;
        stream.read_ahead()?;
        Ok(stream)
    }

    fn empty(&self) -> Tally {
        Tally::new(&self.manifest, &self.controls, Setting::of_owners(2))
    }

    /// What one group comes to.
    fn group(&self, split: Split, threads: usize) -> Result<(Vec<Answer>, Vec<Intake>)> {
        let (empty, mut answers) = (self.empty(), Vec::new());
        let mut stream = self.open(split, threads)?;
        let intakes = ask(
            &mut stream,
            |units| self.ask_all(units, &empty, threads),
            |answer| {
                answers.push(answer);
                Ok(())
            },
        )?;
        Ok((answers, intakes))
    }

    /// Units go to threads in turn, which meet them in other orders.
    fn ask_all(&self, units: &mut UnitStream, empty: &Tally, threads: usize) -> Result<(Tally, Figures)> {
        let mut tallies = vec![empty.clone(); threads];
        while let Some(mut chunk) = units.next_chunk()? {
            if threads > 1 {
                chunk.reverse();
            }
            for (at, unit) in chunk.iter().enumerate() {
                tallies[at % threads].add(unit, &self.told(unit));
            }
        }
        let mut all = empty.clone();
        tallies.into_iter().rev().for_each(|tally| all.merge(tally));
        Ok((all, Figures::default()))
    }

    fn told(&self, unit: &Unit) -> Told {
        let (_, views) = text(unit);
        let sum = |view: usize| views[view].iter().map(|value| value.parse::<i64>().unwrap()).sum::<i64>();
        if !self.manifest.segments().is_empty() {
            return Told::Selected(u32::try_from(sum(0) % 3).ok());
        }
        let said = |view: usize| Contribution {
            group: vec![format!("g{}", sum(view) % 5)],
            values: vec![f64::from(i32::try_from(sum(view)).unwrap())],
        };
        Told::Contributions(vec![said(0), said(1)])
    }

    /// All groups' answers, through the sum that checks them.
    fn run(&self, shards: u16, groups: u16, threads: usize) -> Result<Tally> {
        let split = |group| Split::whole(key(), shards).of_group(group, groups);
        let mut sum = Sum::new(split(0), self.empty());
        for group in (0..groups).rev() {
            let (answers, intakes) = self.group(split(group), threads)?;
            answers.into_iter().try_for_each(|answer| sum.add(&split(group), answer))?;
            sum.end(&split(group), &intakes)?;
        }
        sum.finish().map(|(tally, _)| tally)
    }
}

fn bytes(tally: &Tally) -> Vec<u8> {
    let mut bytes = Vec::new();
    tally.write(&mut bytes).unwrap();
    bytes
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec((0..40_i64, 0..20_i64), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn any_groups_come_to_the_same(left in rows(), right in rows()) {
        let exact = Controls { mode: Mode::SealedK, ..Controls::default() };
        for (manifest, controls) in [(ANALYTICAL, Controls::default()), (ANALYTICAL, exact), (LIST, Controls::default())] {
            let trial = Trial::new(manifest, controls, &left, &right);
            let whole = trial.run(1, 1, 1).unwrap();
            for (shards, groups, threads) in [(1, 1, 2), (1, 2, 1), (2, 1, 2), (2, 2, 1), (2, 3, 2), (16, 1, 1), (16, 3, 2), (16, 16, 1)] {
                let parts = trial.run(shards, groups, threads).unwrap();
                prop_assert_eq!(bytes(&parts), bytes(&whole), "{} shards, {} groups, {} threads", shards, groups, threads);
                prop_assert_eq!(parts.sha256().unwrap(), whole.sha256().unwrap());
            }
            prop_assert_eq!(bytes(&trial.empty().read(&bytes(&whole)).unwrap()), bytes(&whole));
        }
    }
}

fn trial() -> Trial {
    let rows = |from: i64| (0..200).map(|at| (from + at % 70, at % 9)).collect::<Vec<_>>();
    Trial::new(ANALYTICAL, Controls::default(), &rows(0), &rows(30))
}

/// Other data comes to another digest, so that equal ones say something.
#[test]
fn other_data_comes_to_something_else() {
    let (trial, other) = (trial(), Trial::new(ANALYTICAL, Controls::default(), &[(1, 2)], &[(1, 2)]));
    assert_ne!(trial.run(2, 1, 1).unwrap().sha256().unwrap(), other.run(2, 1, 1).unwrap().sha256().unwrap());
}

/// Three groups of six shards; the tampering is with what the groups say, in their order.
fn tampered(tamper: impl FnOnce(&mut Vec<(Split, Vec<Answer>, Vec<Intake>)>)) -> Result<Tally> {
    let trial = trial();
    let split = |group| Split::whole(key(), 6).of_group(group, 3);
    let said = |group| trial.group(split(group), 1).map(|(answers, intakes)| (split(group), answers, intakes));
    let mut said: Vec<_> = (0..3).map(said).collect::<Result<_>>()?;
    tamper(&mut said);
    let mut sum = Sum::new(split(0), trial.empty());
    for (split, answers, intakes) in said {
        answers.into_iter().try_for_each(|answer| sum.add(&split, answer))?;
        sum.end(&split, &intakes)?;
    }
    sum.finish().map(|(tally, _)| tally)
}

fn is_noticed(outcome: Result<Tally>, fact: &str) {
    let fault = outcome.err().expect("the fault shows");
    assert_eq!((fault.code(), fault.fact()), (Code::ShardsDiffer, fact));
}

#[test]
fn a_shard_that_is_missing_doubled_or_anothers_is_noticed() {
    assert!(tampered(|_| ()).is_ok());
    is_noticed(tampered(|said| drop(said[1].1.pop())), "a shard is missing");
    let twice = "a shard came twice, or from a group that it is not in";
    is_noticed(tampered(|said| said[1].1[0].shard = said[1].1[1].shard), twice);
    is_noticed(
        tampered(|said| {
            let stolen = said[1].1.pop().unwrap();
            said[2].1.push(stolen);
        }),
        twice,
    );
    is_noticed(tampered(|said| drop(said.remove(2))), "a shard is missing");
    is_noticed(tampered(|said| said[0].1[0].shard = 6), twice);
}

#[test]
fn rows_that_do_not_add_up_are_noticed() {
    let lost = "the rows of all shards are not those that were read";
    // The answers stay: what the groups kept is not all.
    is_noticed(tampered(|said| assert!(said[1].2[0].kept.as_mut().unwrap().pop_first().is_some())), lost);
    is_noticed(
        tampered(|said| {
            let kept = said[1].2[1].kept.as_mut().unwrap().values_mut().next().unwrap();
            kept.add(*kept);
        }),
        lost,
    );
    // One group read another file than the others.
    is_noticed(
        tampered(|said| {
            let rows = said[0].2[1].read;
            said[2].2[0].read.add(rows);
        }),
        "two groups read other rows",
    );
    is_noticed(tampered(|said| drop(said[2].2.pop())), "two groups read other slots");
    is_noticed(
        tampered(|said| {
            let kept = said[1].2[0].kept.clone();
            said[2].2[0].kept = kept;
        }),
        "a group kept rows of another group's shard",
    );
}

/// What an engine might do to sorted rows without an error: the rows to take, by number.
fn engine(tamper: impl Fn(&mut Vec<u32>)) -> Result<Intake> {
    let trial = trial();
    let (bound, slot) = &trial.agreed[0];
    let folder = trial.folder.host();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let scratch = super::super::session::Scratch::new()?;
        let share = Share::new(&MEMORY, 1, &scratch);
        let planned = PlannedView::new(&folder, &bound.view, &share, None).await?;
        let (sorted, mut recheck) = planned.sorted(slot, KeyType::Int64, Split::whole(key(), 4)).await?;
        let schema = sorted.schema();
        let batches: Vec<_> = sorted.map(std::result::Result::unwrap).collect().await;
        let batch = concat_batches(&schema, &batches).unwrap();
        let mut rows: Vec<u32> = (0..u32::try_from(batch.num_rows()).unwrap()).collect();
        tamper(&mut rows);
        let columns =
            batch.columns().iter().map(|column| take(column, &UInt32Array::from(rows.clone()), None).unwrap());
        recheck.take(&RecordBatch::try_new(schema, columns.collect()).unwrap())?;
        Ok(recheck.end())
    })
}

fn adds_up(intake: &Intake) -> Result<()> {
    let split = Split::whole(key(), 4);
    let trial = trial();
    let mut sum = Sum::new(split, trial.empty());
    let empty = |shard| Answer { shard, tally: trial.empty(), figures: Figures::default() };
    (0..4).try_for_each(|shard| sum.add(&split, empty(shard)))?;
    sum.end(&split, std::slice::from_ref(intake))?;
    sum.finish().map(drop)
}

#[test]
fn an_engine_that_loses_repeats_or_moves_rows_is_noticed() {
    assert!(adds_up(&engine(|_| ()).unwrap()).is_ok());
    for tamper in [
        (|rows: &mut Vec<u32>| assert_eq!(rows.remove(7), 7)) as fn(&mut Vec<u32>),
        |rows| rows.insert(7, rows[7]),
        // As many rows as before.
        |rows| rows[7] = rows[8],
    ] {
        assert_eq!(adds_up(&engine(tamper).unwrap()).unwrap_err().code(), Code::ShardsDiffer);
    }
    // The last shard first.
    let moved = engine(|rows| rows.reverse()).err().unwrap();
    assert_eq!(moved.fact(), "shards are not in their order, or are another group's");
}

#[test]
fn a_row_in_another_units_shard_is_noticed() {
    let trial = trial();
    // Placed by one key, and looked at by another.
    let (bound, slot) = &trial.agreed[0];
    let folder = trial.folder.host();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let taken = runtime.block_on(async {
        let scratch = super::super::session::Scratch::new().unwrap();
        let share = Share::new(&MEMORY, 1, &scratch);
        let planned = PlannedView::new(&folder, &bound.view, &share, None).await.unwrap();
        let (mut sorted, _) = planned.sorted(slot, KeyType::Int64, Split::whole(key(), 4)).await.unwrap();
        let other = Split::whole(ShardKey::of_run(&[4; 32]), 4);
        let (_, mut recheck) = planned.sorted(slot, KeyType::Int64, other).await.unwrap();
        recheck.take(&sorted.next().await.unwrap().unwrap())
    });
    assert_eq!(taken.err().unwrap().fact(), "a row is not in the shard of its unit");
}

/// Each unit is in one shard alone, shards come in order, and about as many units are in each.
#[test]
fn every_unit_is_in_one_shard() {
    let rows: Vec<Row> = (0..4_000).map(|unit| (unit, 1)).collect();
    let trial = Trial::new(ANALYTICAL, Controls::default(), &rows, &[(1, 1)]);
    let (answers, intakes) = trial.group(Split::whole(key(), 4), 1).unwrap();
    assert_eq!(answers.iter().map(|answer| answer.shard).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let kept = intakes[0].kept.as_ref().unwrap();
    assert!(kept.values().all(|shard| (850..1_150).contains(&shard.rows)), "{kept:?}");
}
