//! Step 3: what the evil question tries, by every unit and by one, and that no unit hears of another.
//!
//! Where one unit attacks, nothing but that unit's own contribution may change: not the decision, not a key of the
//! JSON, not a field of the receipt.

use std::path::Path;
use std::sync::OnceLock;

use glovebox::bench::counted_while_asking;
use glovebox_sandbox::testing::Counting;
use serde_json::Value;
use wasmtime::component::{Component, Func, Instance, Linker, Val};
use wasmtime::{Engine, Store};

use crate::support::data::EVIL_HOUSEHOLDS;
use crate::support::{CONTROLS, Fixture, Released};

/// The unit that attacks where only one does.
const ATTACKER: i64 = 7;

/// Thirty noise scales of the count (0.2) and of the sum (2): an honest run leaves them once in 10^13.
const COUNT_NOISE_MAX: f64 = 6.0;
const SUM_NOISE_MAX: f64 = 60.0;

/// Rows are written where the worker reads them, and answers are read and added up where the last ones were.
#[test]
fn no_unit_costs_the_host_an_allocation() {
    let room = Fixture::new();
    let agreement = room.agreed("reach", &["--destination", "reports"]);
    let program = Path::new(env!("CARGO_BIN_EXE_glovebox"));
    let counted = counted_while_asking(&room.root(), &agreement, program, Counting::allocations).unwrap();
    let [(some, of_some), (all, of_all)] = counted;
    assert!(2 * some <= all && some > 100, "{some} and {all} units");
    assert_eq!(of_some, of_all, "allocations for {some} units, and for {all}");
    assert!(of_some < 10, "{of_some} allocations for a batch");
}

#[test]
fn attack_unreachable() {
    is_silence("unreachable");
}

#[test]
fn attack_spin() {
    is_silence("spin");
}

/// Fuel is what stops a loop, silently. Where the parties agree to so much that the clock strikes first, the run ends:
/// whether it strikes depends on the machine's load, and so on other units. It has been paid for by then, and why it
/// ended is for the auditor.
#[test]
fn attack_spin_against_the_clock() {
    let room = Fixture::audited(CONTROLS);
    let agreement = agreed(&room, "spin", ATTACKER);
    room.forge(&agreement, |terms| {
        terms["limits"]["fuel_per_unit"] = (1u64 << 50).into();
        terms["limits"]["milliseconds_per_unit"] = 100.into();
    });
    room.withheld(&agreement, "TIMED_OUT");
}

#[test]
fn attack_divide() {
    is_silence("divide");
}

#[test]
fn attack_recurse() {
    is_silence("recurse");
}

#[test]
fn attack_allocate() {
    is_silence("allocate");
}

#[test]
fn attack_long_key() {
    is_silence("long_key");
}

#[test]
fn attack_flood() {
    is_silence("flood");
}

#[test]
fn attack_nan() {
    is_silence("nan");
}

#[test]
fn attack_nan_payload() {
    is_silence("nan_payload");
}

#[test]
fn attack_wrong_width() {
    is_silence("wrong_width");
}

#[test]
fn attack_wrong_group() {
    is_silence("wrong_group");
}

/// Infinity is a number beyond the range: it counts as the range's end.
#[test]
fn attack_infinity() {
    is_bounded("infinity", 10.0);
}

/// So is everything else that is beyond the range, however far.
#[test]
fn attack_numbers_out_of_range() {
    is_bounded("max", 10.0);
    is_bounded("minus_infinity", 0.0);
    is_bounded("whole", 0.0);
}

/// What is finer than the grid of the sums is not told apart from what it is next to.
#[test]
fn attack_low_bits() {
    is_bounded("denormal", 0.0);
    is_bounded("low_bits", 1.0);
}

/// A thousand contributions of one unit are a longer answer than is agreed. Where they are not, they count once.
#[test]
fn attack_duplicate() {
    is_silence("duplicate");
    let room = Fixture::new();
    let agreement = agreed(&room, "duplicate", -1);
    room.forge(&agreement, |terms| terms["limits"]["answer_bytes_per_unit"] = (1 << 20).into());
    is_near(&room.released(&agreement), EVIL_HOUSEHOLDS, EVIL_HOUSEHOLDS as f64);
}

#[test]
fn attack_negative_zero() {
    is_bounded("negative_zero", 0.0);
}

/// Every unit finds the counter at zero: it contributes 1, as if no one had been asked before.
#[test]
fn attack_counter() {
    is_bounded("counter", 1.0);
}

/// No unit finds a mark of another's.
#[test]
fn attack_residue() {
    is_bounded("residue", 0.0);
}

/// The sum hangs on every unit's seed: the auditor gets it again, on any number of threads.
#[test]
fn seeds_come_again_in_a_replay() {
    let room = Fixture::audited(CONTROLS);
    let released = room.released(&agreed(&room, "seed", -1));
    // Units are drawn between 0 and 10 each; seven standard deviations, and the noise.
    let [Some(sum)] = released.numbers("value")[..] else { panic!("suppressed") };
    let middle = 5.0 * EVIL_HOUSEHOLDS as f64;
    let deviation = 10.0 * (EVIL_HOUSEHOLDS as f64 / 12.0).sqrt();
    assert!((sum - middle).abs() <= 7.0 * deviation + SUM_NOISE_MAX, "{sum}");
    let commitment = &released.record["predicate"]["released"]["output_commitment"];
    for threads in ["1", "2"] {
        let replay = ["replay", &released.receipt, "--identity", "keys/auditor.txt", "--threads", threads, "--json"];
        assert_eq!(&room.glovebox(&replay).succeeded()["output_commitment"], commitment);
    }
    // Whoever asks again is told what was said before: there is no drawing until it fits.
    room.take(&released);
    let repeat = room.released(&agreed(&room, "seed", -1));
    assert_eq!((&repeat.json["charges"], repeat.table.rows), (&serde_json::json!([]), released.table.rows));
}

/// A trial makes up seeds as it makes up units: the same number makes up the same.
#[test]
fn a_trial_has_seeds() {
    let room = Fixture::new();
    let agreement = agreed(&room, "seed", -1);
    let tried = |seed: &str| {
        let json = room.glovebox(&["try", &agreement, "--units", "50", "--seed", seed, "--json"]).succeeded();
        assert_eq!(json["trapped"], 0);
        json["exact"].clone()
    };
    assert_eq!(tried("1"), tried("1"));
    assert_ne!(tried("1"), tried("2"));
}

/// The attack is alive: where one instance is shown to several units, the counter goes up.
#[test]
fn the_counter_goes_up_in_a_shared_instance() {
    let room = Fixture::new();
    let engine = Engine::default();
    let component = Component::from_binary(&engine, &room.component("evil")).unwrap();
    let linker = Linker::new(&engine);

    let mut store = Store::new(&engine, ());
    let shared = linker.instantiate(&mut store, &component).unwrap();
    let together: Vec<f64> = (0..3).map(|_| count_up(&mut store, &shared)).collect();
    assert_eq!(together, [1.0, 2.0, 3.0]);

    let apart = (0..3).map(|_| {
        let mut store = Store::new(&engine, ());
        let own = linker.instantiate(&mut store, &component).unwrap();
        count_up(&mut store, &own)
    });
    assert_eq!(apart.collect::<Vec<_>>(), [1.0, 1.0, 1.0]);
}

/// On more threads than there are cores, instances still share nothing, and no unit is lost or asked twice.
#[test]
fn many_threads_answer_alike() {
    let room = Fixture::new();
    let agreement = agreed(&room, "counter", -1);
    let ran = room.glovebox(&["run", &agreement, "--json", "--threads", "7"]);
    let output = ran.succeeded()["output"]["path"].as_str().unwrap().to_owned();
    let table = glovebox::preview(&room.path(&output), 10).unwrap();
    let number = |column: usize| table.rows[0][column].as_ref().unwrap().parse::<f64>().unwrap();
    let expected = EVIL_HOUSEHOLDS as f64;
    assert!((number(1) - expected).abs() <= COUNT_NOISE_MAX && (number(2) - expected).abs() <= SUM_NOISE_MAX);
}

/// With so much noise that every group is suppressed, nothing is left that could vary: the outputs are equal bytes.
#[test]
fn under_suppression_an_attack_changes_no_byte() {
    let little = "epsilon = 0.01, lifetime = { epsilon = 1.0 }, k_min = 20";
    let room = Fixture::with_controls(little);
    let outputs = ["none", "unreachable", "flood", "infinity"].map(|attack| {
        let released = room.released(&agreed(&room, attack, ATTACKER));
        (room.read(&released.output), public(&released.record), public(&released.json))
    });
    assert!(outputs.iter().all(|output| *output == outputs[0]), "{outputs:?}");
}

fn agreed(room: &Fixture, attack: &str, only_unit_with: i64) -> String {
    let (attack, unit) = (format!("attack={attack}"), format!("only_unit_with={only_unit_with}"));
    room.agreed("evil", &["--set", &attack, "--set", &unit, "--destination", "sheets"])
}

/// A unit that attacks contributes nothing. If all do, there is no group.
#[track_caller]
fn is_silence(attack: &str) {
    let room = Fixture::new();
    let all = room.released(&agreed(&room, attack, -1));
    assert_eq!(all.table.rows, [[Some("all".to_owned()), None, None]], "{attack}");
    same_but_for_noise(&all);
    let one = room.released(&agreed(&room, attack, ATTACKER));
    is_near(&one, EVIL_HOUSEHOLDS - 1, EVIL_HOUSEHOLDS as f64 - 1.0);
    same_but_for_noise(&one);
}

/// A unit that attacks contributes a legal value. It counts once.
#[track_caller]
fn is_bounded(attack: &str, value: f64) {
    let room = Fixture::new();
    let all = room.released(&agreed(&room, attack, -1));
    is_near(&all, EVIL_HOUSEHOLDS, EVIL_HOUSEHOLDS as f64 * value);
    same_but_for_noise(&all);
    let one = room.released(&agreed(&room, attack, ATTACKER));
    is_near(&one, EVIL_HOUSEHOLDS, EVIL_HOUSEHOLDS as f64 - 1.0 + value);
    same_but_for_noise(&one);
}

#[track_caller]
fn is_near(released: &Released, units: i64, sum: f64) {
    let [Some(noisy_units)] = released.numbers("units")[..] else { panic!("suppressed") };
    let [Some(noisy_sum)] = released.numbers("value")[..] else { panic!("suppressed") };
    assert!((noisy_units - units as f64).abs() <= COUNT_NOISE_MAX, "{noisy_units} units, expected {units}");
    assert!((noisy_sum - sum).abs() <= SUM_NOISE_MAX, "sum {noisy_sum}, expected {sum}");
}

/// Whatever else a run tells is what an honest one tells.
#[track_caller]
fn same_but_for_noise(released: &Released) {
    static HONEST: OnceLock<(Value, Value)> = OnceLock::new();
    let honest = HONEST.get_or_init(|| {
        let room = Fixture::new();
        let released = room.released(&agreed(&room, "none", -1));
        is_near(&released, EVIL_HOUSEHOLDS, EVIL_HOUSEHOLDS as f64);
        (public(&released.json), public(&released.record))
    });
    assert_eq!((&public(&released.json), &public(&released.record)), (&honest.0, &honest.1));
}

/// JSON without what names a run: ids, times, numbers, paths, and digests of what the run's own parameters stand in.
fn public(json: &Value) -> Value {
    const OWN: [&str; 11] = [
        "run_id",
        "receipt",
        "started_at",
        "finished_at",
        "agreement_path",
        "certificate_sha256",
        "sequence",
        "sha256",
        "path",
        "output_path",
        "output_commitment",
    ];
    match json {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                (name.clone(), if OWN.contains(&name.as_str()) { Value::Null } else { public(value) })
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Array(values) => values.iter().map(public).collect(),
        other => other.clone(),
    }
}

/// Asks the evil question about one unit, in whatever instance it is given; returns the value it contributes.
fn count_up(store: &mut Store<()>, instance: &Instance) -> f64 {
    let interface = instance.get_export_index(&mut *store, None, "glovebox:question/analytical@0.2.0").unwrap();
    let measure = instance.get_export_index(&mut *store, Some(&interface), "measure").unwrap();
    let measure: Func = instance.get_func(&mut *store, measure).unwrap();

    // The attack and the unit that it is for, and one slot with one row of one number.
    let attack = u64::from_le_bytes(*b"counter\0");
    let parameters = [2, 6, 7, attack, 2, u64::MAX];
    let unit: Vec<Val> = parameters.into_iter().chain([1, 1, 1, 3, 0, 1, 1.0_f64.to_bits()]).map(Val::U64).collect();

    let mut answer = [Val::Bool(false)];
    measure.call(&mut *store, &[Val::List(unit)], &mut answer).unwrap();
    let [Val::List(contributions)] = answer else { panic!("not a list") };
    let [Val::Record(contribution)] = contributions.as_slice() else { panic!("not one contribution") };
    let Val::List(values) = &contribution[1].1 else { panic!("no values") };
    let [Val::Float64(value)] = values.as_slice() else { panic!("not one value") };
    *value
}
