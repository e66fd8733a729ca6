//! `cargo xtask bench --data`: data of TPC-H and TPC-DS, ten times as much of it, and the same answers by others.
//!
//! What a customer spends, by segment: customers are one party's, what they bought is another's. Nobody's answer is
//! measured that is not also compared with DuckDB's. Rows are generated with the columns that are read, and no more.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use glovebox::bench;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use tpcdsgen::config::SessionBuilder;
use tpcdsgen_arrow::{CustomerArrow as Buyers, StoreSalesArrow};
use tpchgen::generators::{CustomerGenerator, LineItemGenerator, OrderGenerator};
use tpchgen_arrow::{CustomerArrow, LineItemArrow, OrderArrow};

use super::{Result, WORKER, agree_on, high_water_mark, median, ratio, rounded, say, state};

const ROUNDS: usize = 3;
const SORT_MEMORY_MIB: u32 = 256;
const AGREEMENT: &str = "agreements/reach-r1";
const PEOPLE: &str = "data/brand/people.parquet";

/// A benchmark's data, and one question of it in three dialects.
struct Suite {
    name: &'static str,
    /// What the groups of the question are called.
    segments: &'static [&'static str],
    /// Writes the files of a scale factor; returns the bytes of their rows in memory.
    write: fn(&Path, f64) -> Result<u64>,
    /// No customer spends more, and no customer's mean basket is larger.
    max: [f64; 2],
    /// The buyers' tables.
    tables: &'static [&'static str],
    /// SQL for what was bought, of these tables: whose it is, basket and value.
    bought: &'static str,
    /// SQL for whose segment is which, of `people`.
    people: &'static str,
}

const SUITES: [Suite; 2] = [
    Suite {
        name: "tpch",
        segments: &["AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY"],
        write: write_tpch,
        max: [1e7, 1e6],
        tables: &["orders", "lineitem"],
        bought: "SELECT o_custkey AS customer, o_orderkey AS basket_id, CAST(l_extendedprice AS DOUBLE) AS sales_value \
                 FROM orders JOIN lineitem ON o_orderkey = l_orderkey",
        people: "SELECT c_custkey AS customer, c_mktsegment AS campaign_type FROM people",
    },
    Suite {
        name: "tpcds",
        segments: &["Dr.", "Miss", "Mr.", "Mrs.", "Ms.", "Sir"],
        write: write_tpcds,
        max: [1e6, 1e5],
        tables: &["store_sales"],
        bought: "SELECT ss_customer_sk AS customer, ss_ticket_number AS basket_id, \
                 CAST(ss_net_paid AS DOUBLE) AS sales_value FROM store_sales \
                 WHERE ss_customer_sk IS NOT NULL AND ss_net_paid IS NOT NULL",
        people: "SELECT c_customer_sk AS customer, c_salutation AS campaign_type FROM people \
                 WHERE c_salutation IS NOT NULL",
    },
];

/// Of a measure's range, a step of the grid on which the host adds values up is no larger than this part.
const GRID: f64 = 1.0 / (1u64 << 19) as f64;

/// Runs the comparisons of both suites, or the show of one run in little memory.
pub(super) fn bench(json: bool) -> Result<()> {
    let folder = PathBuf::from(std::env::var_os("GLOVEBOX_BENCH").ok_or("run it with `cargo xtask bench --data`")?);
    let data = tempfile::Builder::new().prefix("data-").tempdir_in(&folder)?;
    let figures = match option("--memory=")? {
        Some(memory) => in_little_memory(data.path(), memory)?,
        None => compare_all(&folder, data.path(), option("--scale=")?.unwrap_or(1.0))?,
    };
    super::print(&figures, json);
    Ok(())
}

fn option(name: &str) -> Result<Option<f64>> {
    let found = std::env::args().find_map(|option| option.strip_prefix(name).map(str::to_owned));
    Ok(found.map(|value| value.parse()).transpose()?)
}

fn compare_all(folder: &Path, data: &Path, scale: f64) -> Result<serde_json::Value> {
    let mut figures = serde_json::Map::new();
    for suite in &SUITES {
        for (name, figure) in compare(suite, folder, data, scale)? {
            figures.insert(format!("{}_{name}", suite.name), figure.into());
        }
    }
    figures.insert("scale".into(), scale.into());
    Ok(figures.into())
}

fn compare(suite: &Suite, folder: &Path, data: &Path, scale: f64) -> Result<Vec<(&'static str, f64)>> {
    let threads = std::thread::available_parallelism()?.get();
    let room = data.join(suite.name);
    let decoded = lay_room(suite, &room, scale)?;
    say(&format!("{}: the same answer as DuckDB's", suite.name));
    let native = Native { python: folder.join("venv/bin/python"), room: &room, suite, threads };
    native.compare(&bench::exact_answer(&room, AGREEMENT, Path::new(WORKER), threads)?)?;

    let (mut provision, mut joined, mut runs, mut duckdb, mut peaks) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 1..=ROUNDS {
        say(&format!("{} at scale {scale}: round {round} of {ROUNDS}", suite.name));
        let (units, seconds) = bench::provision_seconds(&room, AGREEMENT, threads)?;
        provision.push(seconds);
        joined.push(native.join_and_sort(units)?);
        let run = Run::measure(&room, SORT_MEMORY_MIB)?;
        runs.push(run.seconds);
        peaks.push(run.peak_mib);
        duckdb.push(native.duckdb()?.0);
    }
    fs::remove_dir_all(&room)?;

    let tenfold = data.join(format!("{}-10x", suite.name));
    lay_room(suite, &tenfold, 10.0 * scale)?;
    say(&format!("{} at scale {}", suite.name, 10.0 * scale));
    let large = Run::measure(&tenfold, SORT_MEMORY_MIB)?;
    fs::remove_dir_all(&tenfold)?;
    Ok(vec![
        ("decoded_mib", mib(decoded)),
        ("provision_seconds", rounded(median(&provision))),
        ("provision_vs_datafusion", ratio(&provision, &joined)),
        ("run_seconds", rounded(median(&runs))),
        ("run_vs_duckdb", ratio(&runs, &duckdb)),
        ("growth_time_10x", rounded(large.seconds / median(&runs))),
        ("peak_mib", rounded(median(&peaks))),
        ("growth_memory_10x", rounded(large.peak_mib / median(&peaks))),
        ("spilled_10x_mib", large.spilled_mib),
    ])
}

/// One run over at least ten times as much data as the limit, with an eighth of the limit for sorts.
fn in_little_memory(data: &Path, limit_mib: f64) -> Result<serde_json::Value> {
    let suite = &SUITES[1];
    let room = data.join(suite.name);
    let sample = lay_room(suite, &room, SAMPLE)?;
    fs::remove_dir_all(&room)?;
    let scale = (SAMPLE * 11.0 * limit_mib / mib(sample)).ceil();
    let decoded = lay_room(suite, &room, scale)?;
    say(&format!("a run over {} MiB in {limit_mib} MiB", mib(decoded)));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "MiB from the command line")]
    let run = Run::measure(&room, (limit_mib / 8.0).max(SORT_MEMORY_MIN_MIB) as u32)?;
    let is_within = run.peak_mib <= limit_mib && mib(decoded) >= 10.0 * limit_mib;
    Ok(serde_json::json!({
        "scale": scale,
        "limit_mib": limit_mib,
        "decoded_mib": mib(decoded),
        "peak_mib": run.peak_mib,
        "spilled_mib": run.spilled_mib,
        "left_in_spill_folder": run.left,
        "is_within_limit": is_within,
        "seconds": rounded(run.seconds),
    }))
}

/// The least that the program sorts in.
const SORT_MEMORY_MIN_MIB: f64 = 16.0;

/// The scale factor from which the size of others is told.
const SAMPLE: f64 = 1.0;

/// Writes the data, the question with the suite's segments, and everybody's consent.
fn lay_room(suite: &Suite, room: &Path, scale: f64) -> Result<u64> {
    say(&format!("{} at scale {scale}: generating", suite.name));
    for folder in ["questions", "data/retailer", "data/brand"] {
        fs::create_dir_all(room.join(folder))?;
    }
    let questions = PathBuf::from(std::env::var_os("GLOVEBOX_QUESTIONS").ok_or("run it with `cargo xtask bench`")?);
    fs::copy(questions.join("reach.wasm"), room.join("questions/reach.wasm"))?;
    let manifest = fs::read_to_string(questions.join("reach.toml"))?;
    let segments = format!("{:?}", suite.segments);
    let [spend, basket] = suite.max;
    let replaced = [
        ("[\"Type A\", \"Type B\", \"Type C\"]", segments.as_str()),
        ("[\"under 35K\", \"35-74K\", \"75K+\", \"unknown\"]", "[\"all\"]"),
        ("range = [0.0, 10000.0]", &format!("range = [0.0, {spend:?}]")),
        ("range = [0.0, 200.0]", &format!("range = [0.0, {basket:?}]")),
    ];
    let manifest = replaced.iter().fold(manifest, |text, (from, to)| text.replace(from, to));
    fs::write(room.join("questions/reach.toml"), manifest)?;
    fs::write(room.join("room.toml"), room_toml(suite))?;
    let decoded = (suite.write)(room, scale)?;
    agree_on(room, &[("reach", &[])])?;
    Ok(decoded)
}

fn room_toml(suite: &Suite) -> String {
    let (head, _) = include_str!("room.toml").split_once("[[view]]").unwrap_or_default();
    let (_, destination) = include_str!("room.toml").split_once("[[destination]]").unwrap_or_default();
    let sources = suite.tables.iter().map(|table| format!("{table} = \"data/retailer/{table}.parquet\""));
    format!(
        "{head}\n[[view]]\nid = \"purchases\"\nowner = \"retailer\"\nunit = \"customer\"\nsources = {{ {} }}\n\
         sql = \"SELECT *, 'all' AS income_band FROM ({})\"\n\n\
         [[view]]\nid = \"campaigns\"\nowner = \"brand\"\nunit = \"customer\"\nsources = {{ people = \"{PEOPLE}\" }}\n\
         sql = \"{}\"\n\n[[destination]]{destination}",
        sources.collect::<Vec<_>>().join(", "),
        suite.bought,
        suite.people,
    )
}

fn write_tpch(room: &Path, scale: f64) -> Result<u64> {
    let bought = room.join("data/retailer");
    let people = write(
        &room.join(PEOPLE),
        CustomerArrow::new(CustomerGenerator::new(scale, 1, 1)),
        &["c_custkey", "c_mktsegment"],
    )?;
    let orders = OrderArrow::new(OrderGenerator::new(scale, 1, 1));
    let orders = write(&bought.join("orders.parquet"), orders, &["o_orderkey", "o_custkey"])?;
    let lines = LineItemArrow::new(LineItemGenerator::new(scale, 1, 1));
    let lines = write(&bought.join("lineitem.parquet"), lines, &["l_orderkey", "l_extendedprice"])?;
    Ok(people + orders + lines)
}

fn write_tpcds(room: &Path, scale: f64) -> Result<u64> {
    let session = || SessionBuilder::new().with_scale_factor(scale).build();
    let people = write(&room.join(PEOPLE), Buyers::new(session()?), &["c_customer_sk", "c_salutation"])?;
    let columns = ["ss_customer_sk", "ss_ticket_number", "ss_net_paid"];
    let lines = write(&room.join("data/retailer/store_sales.parquet"), StoreSalesArrow::new(session()?), &columns)?;
    Ok(people + lines)
}

/// Writes some columns; returns the bytes that they have in memory.
fn write(path: &Path, rows: impl Iterator<Item = Result<RecordBatch, ArrowError>>, columns: &[&str]) -> Result<u64> {
    let mut rows = rows.map(|batch| {
        let batch = batch?;
        let places = columns.iter().map(|name| batch.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
        batch.project(&places)
    });
    let first = rows.next().ok_or("a table has no rows")??;
    let mut bytes = 0;
    // The size of row groups that databases write: decoding holds one per core.
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(122_880)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, first.schema(), Some(properties))?;
    for batch in std::iter::once(Ok(first)).chain(rows) {
        let batch = batch?;
        bytes += batch.columns().iter().map(|column| column.get_array_memory_size() as u64).sum::<u64>();
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(bytes)
}

/// A whole run of the program in a process of its own.
struct Run {
    seconds: f64,
    peak_mib: f64,
    /// The most that lay in the folder for spilled rows at any time.
    spilled_mib: f64,
    /// What was left there.
    left: usize,
}

impl Run {
    fn measure(room: &Path, sort_memory_mib: u32) -> Result<Self> {
        touch(&room.join(PEOPLE))?;
        match fs::remove_dir_all(room.join("out")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let spill = tempfile::tempdir_in(room.parent().ok_or("a room lies in a folder")?)?;
        let start = Instant::now();
        let mut child = Command::new(WORKER)
            .args(["--json", "run", AGREEMENT, "--key", "runtime.pem", "--sort-memory", &sort_memory_mib.to_string()])
            .arg("--state")
            .arg(state(room))
            .env("TMPDIR", spill.path())
            .current_dir(room)
            .stdout(Stdio::null())
            .spawn()?;
        let status = format!("/proc/{}/status", child.id());
        let (mut peak, mut spilled) = (0.0f64, 0);
        let exit = loop {
            // The kernel's own high-water mark never falls, so a late look misses little.
            if let Some(kib) = fs::read_to_string(&status).ok().and_then(|text| high_water_mark(&text)) {
                peak = peak.max(kib / 1024.0);
            }
            spilled = spilled.max(bytes_below(spill.path()));
            if let Some(exit) = child.try_wait()? {
                break exit;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if !exit.success() {
            return Err(format!("the measured run ended with {exit}").into());
        }
        let left = fs::read_dir(spill.path())?.count();
        Ok(Self { seconds: start.elapsed().as_secs_f64(), peak_mib: rounded(peak), spilled_mib: mib(spilled), left })
    }
}

/// Other bytes, the same rows: a run on the same bytes would repeat its answer.
fn touch(path: &Path) -> Result<()> {
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
    let word = KeyValue::new("written".to_owned(), format!("{:?}", Instant::now()));
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![word])).build();
    let written = path.with_extension("new");
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let mut writer = ArrowWriter::try_new(File::create(&written)?, schema, Some(properties))?;
    for batch in reader {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(fs::rename(written, path)?)
}

/// Files come and go meanwhile; those that are gone count nothing.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// The same without a sandbox, by other engines.
struct Native<'a> {
    python: PathBuf,
    room: &'a Path,
    suite: &'a Suite,
    threads: usize,
}

/// What DuckDB is asked in a process of its own; the time is that of the query alone.
const PYTHON: &str = "
import duckdb, json, sys, time
duckdb.sql(f'SET threads = {sys.argv[1]}')
start = time.perf_counter()
rows = duckdb.sql(sys.argv[2]).fetchall()
print(json.dumps({'seconds': time.perf_counter() - start, 'rows': rows}))
";

impl Native<'_> {
    /// Seconds of DuckDB, and its answer: per segment how many, their spend and their mean basket.
    fn duckdb(&self) -> Result<(f64, BTreeMap<String, [f64; 3]>)> {
        let Suite { tables, bought, people, max: [spend, basket], .. } = self.suite;
        let file = |table: &str| format!("{table} AS (SELECT * FROM '{}')", self.file(table).display());
        let files = tables.iter().map(|table| file(table)).chain([file("people")]).collect::<Vec<_>>().join(", ");
        let query = format!(
            "WITH {files}, bought AS ({bought}), segment AS ({people}), unit AS (SELECT customer, \
             least(sum(sales_value), {spend}) AS spend, \
             least(sum(sales_value) / count(DISTINCT basket_id), {basket}) AS basket FROM bought GROUP BY customer) \
             SELECT campaign_type, count(*), sum(spend), avg(basket) FROM unit JOIN segment USING (customer) GROUP BY 1"
        );
        let output = Command::new(&self.python).args(["-c", PYTHON, &self.threads.to_string(), &query]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let number = |row: &serde_json::Value, at: usize| row[at].as_f64().unwrap_or(f64::NAN);
        let row = |row: &serde_json::Value| {
            Some((row[0].as_str()?.to_owned(), [number(row, 1), number(row, 2), number(row, 3)]))
        };
        let rows = answer["rows"].as_array().into_iter().flatten().filter_map(row).collect();
        Ok((answer["seconds"].as_f64().ok_or("DuckDB tells no time")?, rows))
    }

    /// Asserts that an exact answer is DuckDB's, but for the grid on which values are added up.
    fn compare(&self, ours: &glovebox::Preview) -> Result<()> {
        let (_, theirs) = self.duckdb()?;
        let mut found = BTreeMap::new();
        for row in &ours.rows {
            let cell = |name: &str| {
                let place = ours.columns.iter().position(|column| column == name);
                place.and_then(|place| row[place].clone()).ok_or(format!("the answer has no {name}"))
            };
            let numbers = [cell("buyers")?.parse()?, cell("spend")?.parse()?, cell("mean_basket")?.parse::<f64>()?];
            found.insert(cell("campaign_type")?, numbers);
        }
        let [spend, basket] = self.suite.max;
        let is_same = |(segment, ours): (&String, &[f64; 3])| {
            let Some(theirs) = theirs.get(segment) else { return false };
            let off = [GRID * spend * ours[0], GRID * basket];
            ours[0] == theirs[0] && (0..2).all(|at| (ours[at + 1] - theirs[at + 1]).abs() <= off[at])
        };
        if found.len() == theirs.len() && theirs.len() == self.suite.segments.len() && found.iter().all(is_same) {
            return Ok(());
        }
        Err(format!("the answers differ: {found:?}, and DuckDB's {theirs:?}").into())
    }

    /// Seconds in which DataFusion reads, joins and sorts the same rows, and hands them out in order.
    fn join_and_sort(&self, units: usize) -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(self.threads).build()?;
        let start = Instant::now();
        let rows = runtime.block_on(async {
            let config = SessionConfig::new().with_target_partitions(self.threads);
            let context = SessionContext::new_with_config(config);
            for table in self.suite.tables.iter().copied().chain(["people"]) {
                let path = self.file(table);
                context.register_parquet(table, path.to_string_lossy(), ParquetReadOptions::default()).await?;
            }
            let Suite { bought, people, .. } = self.suite;
            let query = format!(
                "SELECT b.customer, basket_id, sales_value, 'all' AS income_band, campaign_type FROM ({bought}) b \
                 JOIN ({people}) p ON b.customer = p.customer ORDER BY 1, 2, 3, 4, 5"
            );
            let mut sorted = context.sql(&query).await?.execute_stream().await?;
            let mut rows = 0;
            while let Some(batch) = sorted.try_next().await? {
                rows += batch.num_rows();
            }
            Ok::<_, datafusion::error::DataFusionError>(rows)
        })?;
        if rows < units {
            Err("DataFusion joins fewer rows than there are units".into())
        } else {
            Ok(start.elapsed().as_secs_f64())
        }
    }

    fn file(&self, table: &str) -> PathBuf {
        let path = if table == "people" { PEOPLE.to_owned() } else { format!("data/retailer/{table}.parquet") };
        self.room.join(path)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn mib(bytes: u64) -> f64 {
    rounded(bytes as f64 / f64::from(1 << 20))
}
