//! The catalogue of attacks on what a run tells: each beside a host that the same attack breaks.
//!
//! One file per class, one test per attack: `atk_`, the attack's id, and what it tries. A test that only ever sees a host
//! that withstands proves little, so each also mounts its attack on a deliberately vulnerable reference, written here in
//! a few lines, and measures what that leaks. Each prints one line for `cargo xtask audit`, which makes a table of them.
//! Attacks that other tests mount already are named there and not repeated here. Class H, on trained models, begins with
//! the first question that trains one.

mod a_isolation;
mod b_termination;
mod c_encodings;
mod d_statistics;
mod e_lists;
mod f_formats;
mod g_side_inputs;
mod i_ledger;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::ArrayRef;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{floats, ints, write_parquet};
use crate::support::{Fixture, Ran, Released, checkout, text};

/// Says what an attack came to, in the one line that `cargo xtask audit` reads.
pub(crate) fn report(id: &str, what: &str, reference: impl Display, glovebox: impl Display) {
    println!("\nATTACK | {id} | {what} | {reference} | {glovebox}");
}

/// The attacker's victim, and the number of it that nobody may learn.
pub(crate) const TARGET: i64 = 7;
pub(crate) const SECRET: f64 = 77.0;

/// Exact numbers of groups of 50, without rounding: only the rules that an attack is aimed at are in its way.
pub(crate) const EXACT: &str = "mode = 'sealed-k', k_min = 50, round_to = 1, dominance = { n = 1, p = 0.9 }";

/// Noise for epsilon = 1 in every run, and no group left out.
pub(crate) const NOISY: &str = "epsilon = 1.0, k_min = 1, noise = 'laplace', lifetime = { epsilon = 100.0 }";

/// One row of the retailer's table: whose it is, in which group it counts, and with how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) household: i64,
    pub(crate) number: i64,
    pub(crate) amount: f64,
}

/// So many households of group 1, with amounts that everybody may know but for the target's.
pub(crate) fn households(count: i64) -> Vec<Row> {
    (1..=count).map(|household| Row { household, number: 1, amount: amount_of(household) }).collect()
}

pub(crate) fn amount_of(household: i64) -> f64 {
    if household == TARGET { SECRET } else { (household % 10) as f64 }
}

/// A room of a retailer with `people` and a price list, and a brand that marks the households that it knows; the census
/// is what is asked. A household that the brand knows counts in the group of its number with a minus before it.
pub(crate) struct Market {
    pub(crate) room: Fixture,
}

impl Market {
    /// The brand knows all households of up to this number.
    pub(crate) const KNOWN: i64 = 1_000;

    pub(crate) fn new(controls: &str, people: &[Row]) -> Self {
        let room = Fixture::new();
        let market = Self { room };
        let head = market.room.read_text("room.toml");
        let parties = "version = 1\nid = \"grocery\"\nunit = \"household\"\n".to_owned()
            + &["retailer", "brand"].map(|party| party_terms(party, controls)).concat();
        let destinations = &head[head.find("[[destination]]").expect("destinations")..];
        market.room.write("room.toml", format!("{parties}{destinations}").as_bytes());
        market.write_people(people);
        let known: Vec<i64> = (1..=Self::KNOWN).collect();
        market.write_table("brand/marks", &[("household_id", ints(known.clone())), ("mark", ints(known))]);
        market.write_table("retailer/prices", &[("price", floats([0.0].into_iter()))]);
        market.offer("people", "SELECT household_id, number, amount FROM people");
        market.add_view("marks", "brand", "unit = \"household_id\"", "marks", "SELECT household_id, mark FROM marks");
        market.add_view("prices", "retailer", "learnable_by = [\"brand\"]", "prices", "SELECT price FROM prices");
        market
    }

    pub(crate) fn write_people(&self, people: &[Row]) {
        self.write_table(
            "retailer/people",
            &[
                ("household_id", ints(people.iter().map(|row| row.household).collect())),
                ("number", ints(people.iter().map(|row| row.number).collect())),
                ("amount", floats(people.iter().map(|row| row.amount))),
            ],
        );
    }

    pub(crate) fn write_table(&self, name: &str, columns: &[(&str, ArrayRef)]) {
        write_parquet(&self.room.path(&format!("data/{name}.parquet")), columns);
    }

    /// Adds a view of the retailer over its people.
    pub(crate) fn offer(&self, id: &str, sql: &str) {
        self.add_view(id, "retailer", "unit = \"household_id\"", "people", sql);
    }

    pub(crate) fn add_view(&self, id: &str, owner: &str, terms: &str, table: &str, sql: &str) {
        let view = format!(
            "\n[[view]]\nid = \"{id}\"\nowner = \"{owner}\"\n{terms}\n\
             sources = {{ {table} = \"data/{owner}/{table}.parquet\" }}\nsql = \"{sql}\"\n"
        );
        let room = self.room.read_text("room.toml");
        self.room.write("room.toml", (room + &view).as_bytes());
    }

    /// The census under another name, of these groups and measures.
    pub(crate) fn question(&self, name: &str, groups: &[&str], measures: &str) {
        self.question_of(name, &manifest(name, groups, measures), &census());
    }

    pub(crate) fn question_of(&self, name: &str, manifest: &str, component: &[u8]) {
        self.room.write(&format!("questions/{name}.toml"), manifest.as_bytes());
        self.room.write(&format!("questions/{name}.wasm"), component);
    }

    /// An agreement on a census of a view, signed by both.
    #[track_caller]
    pub(crate) fn agreed(&self, question: &str, view: &str) -> String {
        // Every measure here takes a value but the count.
        let values = self.room.read_text(&format!("questions/{question}.toml")).matches("reducer").count() - 1;
        self.room.agreed(question, &Self::terms(view, values).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What an agreement on a census of a view binds; so many measures take a value.
    pub(crate) fn terms(view: &str, values: usize) -> Vec<String> {
        let binding = format!("people={view}");
        let values = format!("values={values}");
        let terms = [
            "--bind",
            &binding,
            "--bind",
            "others=marks",
            "--set",
            &values,
            "--destination",
            "sheets",
            "--runs",
            "2000",
            "--beside",
        ];
        terms.map(str::to_owned).to_vec()
    }

    /// A census of a view that must be released.
    #[track_caller]
    pub(crate) fn asked(&self, question: &str, view: &str) -> Released {
        let released = self.room.released(&self.agreed(question, view));
        self.room.take(&released);
        released
    }
}

fn party_terms(party: &str, controls: &str) -> String {
    let controls = controls.replace('\'', "\"");
    let usual = [
        ("release", "release = { slot = \"100ms\", max_slots = 1_000 }"),
        ("repeat", "repeat = { max_runs_per_day = 10_000, max_failed_runs = 100 }"),
        ("max_param_domain", "max_param_domain = 10_000_000"),
    ];
    let usual = usual.iter().filter(|(name, _)| !controls.contains(name)).map(|(_, text)| format!(", {text}"));
    format!("\n[[party]]\nid = \"{party}\"\ncontrols = {{ {controls}{} }}\n", usual.collect::<String>())
}

/// A census of these groups; of each its count, and what else is asked.
pub(crate) fn manifest(name: &str, groups: &[&str], measures: &str) -> String {
    format!(
        "version = 1\nname = \"{name}\"\nkind = \"analytical\"\nisolation = \"sealed\"\ndescription = \"a census\"\n\
         [[view]]\nslot = \"people\"\njoin = \"required\"\n\
         columns = [{{ name = \"number\", type = \"int64\" }}, {{ name = \"amount\", type = \"float64\" }}]\n\
         [[view]]\nslot = \"others\"\njoin = \"optional\"\ncolumns = [{{ name = \"mark\", type = \"int64\" }}]\n\
         [[view]]\nslot = \"prices\"\njoin = \"lookup\"\ncolumns = [{{ name = \"price\", type = \"float64\" }}]\n\
         [[parameter]]\nname = \"values\"\ntype = \"int64\"\nrange = [0, 16]\n\
         [[group]]\nname = \"number\"\ndomain = {groups:?}\n\
         [[measure]]\nname = \"people\"\nreducer = \"count\"\n{measures}\
         [bounds]\nmax_rows_per_unit = 10\nmax_groups_per_unit = 1\n"
    )
}

/// The sum of what households bring, up to 100 each.
pub(crate) const SUM: &str = "[[measure]]\nname = \"amount\"\nreducer = \"sum\"\nrange = [0.0, 100.0]\n";

/// The census, built from the present tree: a room that was made has built it.
pub(crate) fn census() -> Vec<u8> {
    fs::read(checkout().join("target/questions/census.wasm")).expect("a built census")
}

/// The one cell of a column that has a number.
#[track_caller]
pub(crate) fn number(released: &Released, column: &str) -> f64 {
    let numbers: Vec<f64> = released.numbers(column).into_iter().flatten().collect();
    let [number] = numbers[..] else { panic!("{column}: {numbers:?}") };
    number
}

/// A vulnerable reference: a host that publishes exact sums of every group of at least k rows' households, whoever the
/// households are and whatever it published before.
pub(crate) fn exact_host<'a>(rows: impl IntoIterator<Item = &'a Row>, k: usize) -> Option<(usize, f64)> {
    let mut sums = BTreeMap::<i64, f64>::new();
    for row in rows {
        *sums.entry(row.household).or_default() += row.amount;
    }
    (sums.len() >= k).then(|| (sums.len(), sums.values().sum()))
}

/// Discrete Laplace noise would do; this is the continuous one, drawn anew for every answer by a careless host.
pub(crate) struct FreshNoise(u64);

impl FreshNoise {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform between 0 and 1 (splitmix64).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn laplace(&mut self, scale: f64) -> f64 {
        let uniform = self.uniform() - 0.5;
        -scale * uniform.signum() * (1.0 - 2.0 * uniform.abs()).ln()
    }
}

/// A copy of a room and of what its host remembers of it: another world, in which one thing is different.
pub(crate) struct World {
    _folder: TempDir,
    room: PathBuf,
    state: PathBuf,
}

impl World {
    pub(crate) fn of(room: &Fixture) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (inner, state) = (folder.path().join("room"), folder.path().join("state"));
        copy(&room.root(), &inner);
        copy(&room.state(), &state);
        Self { _folder: folder, room: inner, state }
    }

    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        self.room.join(inner)
    }

    pub(crate) fn run(&self, agreement: &str) -> Ran {
        let mut command = program(&self.room, &self.state);
        Ran::of(command.args(["run", agreement, "--json", "--threads", "1"]).output().expect("the program starts"))
    }

    /// Every file of the room, by its path in it.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        files_below(&self.room)
    }
}

/// The program, in a room of a host.
pub(crate) fn program(room: &Path, state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glovebox"));
    command.current_dir(room).env_remove("GLOVEBOX_LOG").arg("--state").arg(state);
    command
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).expect("copied");
        }
    }
}

/// Every file below a folder, hidden ones too, by its path in it.
pub(crate) fn files_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(&next).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let inner = path.strip_prefix(folder).expect("below").to_str().expect("text").to_owned();
                files.insert(inner, fs::read(&path).expect("readable"));
            }
        }
    }
    files
}

/// What the run's one account has spent of epsilon, in millionths.
pub(crate) fn spent(room: &Fixture) -> u64 {
    room.spent().values().map(|(epsilon, _)| *epsilon).max().unwrap_or(0)
}

/// The one line that says why.
pub(crate) fn fact(ran: &Ran) -> String {
    text(&ran.json()["fact"])
}

/// The charges that a command printed.
pub(crate) fn charges(ran: &Ran) -> Vec<Value> {
    ran.json()["charges"].as_array().cloned().unwrap_or_default()
}
