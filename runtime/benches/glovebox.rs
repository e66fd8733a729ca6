//! `cargo xtask bench`: what the sealed path costs, as ratios within one run.
//!
//! Machines are noisy, so each figure is a median over rounds in which both sides take turns. Nothing is asserted:
//! the table is for people and the object of `--json` keeps its keys.

mod data;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use glovebox::{
    Clock, Holder, MemberKind, Principal, Proposal, Random, Request, agree, approve, bench, load_key, new_key,
    open_room, registry_status, run, sign_registry, trust_room,
};
use glovebox_sandbox::testing::{MEASURE, WIT, encode, module};
use glovebox_sandbox::{Kind, Limits, Program, Spec, Worker, compile};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const WORKER: &str = env!("CARGO_BIN_EXE_glovebox");
const ROUNDS: usize = 5;
/// A round of a kernel takes milliseconds.
const KERNEL_ROUNDS: usize = 101;
const UNITS: usize = 100_000;
/// Rows of one unit in each view: a handful, as in the overlap of two customer files.
const ROWS_PER_UNIT: usize = 10;
const SORT_MEMORY_MIB: usize = 64;

const NATIVE: &str = "
    WITH unit AS (
        SELECT household_id, MAX(income_band) AS income_band, SUM(sales_value) AS spend,
               SUM(sales_value) / COUNT(DISTINCT basket_id) AS mean_basket
        FROM purchases GROUP BY household_id),
    exposed AS (SELECT DISTINCT household_id, campaign_type FROM campaigns)
    SELECT campaign_type, income_band, COUNT(*), SUM(LEAST(spend, 10000.0)), AVG(LEAST(mean_basket, 200.0))
    FROM unit JOIN exposed ON unit.household_id = exposed.household_id
    GROUP BY campaign_type, income_band ORDER BY campaign_type, income_band";

fn main() -> Result<()> {
    let options: Vec<String> = std::env::args().skip(1).collect();
    let json = options.iter().any(|option| option == "--json");
    if options.iter().any(|option| option == "--data") {
        return data::bench(json);
    }
    let questions = PathBuf::from(std::env::var_os("GLOVEBOX_QUESTIONS").ok_or("run it with `cargo xtask bench`")?);
    let folder = tempfile::tempdir()?;
    let (once, tenfold) = (folder.path().join("1x"), folder.path().join("10x"));
    say("laying a room of 100,000 units and one of 1,000,000");
    lay_room(&once, &questions, UNITS)?;
    lay_room(&tenfold, &questions, 10 * UNITS)?;

    say("the sealed path against bare instances, on one core");
    let mut sealed = Vec::new();
    let mut in_two = Vec::new();
    let mut bare = Vec::new();
    for _ in 0..ROUNDS {
        sealed.push(sealed_in(&once, 1)?);
        in_two.push(sealed_in(&once, 2)?);
        bare.push(bench::bare_instances_per_second(&once, "agreements/nothing-r1", UNITS)?);
    }
    say("a register kernel against the same in native code, on one core");
    let kernel = bench::KernelBench::new(&fs::read(questions.join("spend.wasm"))?)?;
    let kernel: Vec<[f64; 2]> = (0..KERNEL_ROUNDS).map(|_| kernel.rows_per_second()).collect::<Result<_, _>>()?;
    let [kernel, natively] = [0, 1].map(|which| kernel.iter().map(|rates| rates[which]).collect::<Vec<_>>());
    say("loops of a guest, plain and in blocks, metered and not");
    let loops = bench::LoopBench::new(&fs::read(questions.join("sums.wasm"))?)?;
    let loops: Vec<bench::LoopSeconds> = (0..KERNEL_ROUNDS).map(|_| loops.seconds()).collect::<Result<_, _>>()?;
    let of_loops =
        |figure: fn(&bench::LoopSeconds) -> f64| rounded(median(&loops.iter().map(figure).collect::<Vec<_>>()));
    say("whole runs against plain DataFusion, on all cores");
    let threads = std::thread::available_parallelism()?.get();
    let rows = (UNITS * (ROWS_PER_UNIT + 2)) as f64;
    let mut whole = Vec::new();
    let mut native = Vec::new();
    for _ in 0..ROUNDS {
        whole.push(rows / run_in_process(&once, UNITS, threads)?.as_secs_f64());
        native.push(rows / run_natively(&once, threads)?.as_secs_f64());
    }
    say("peak memory at 1x and at 10x input");
    let memory = [peak_memory_mib(&once, UNITS)?, peak_memory_mib(&tenfold, 10 * UNITS)?];

    say("guests that touch 1, 16 and 256 pages");
    let touched = touched_pages()?;
    say("short runs, with and without compiled code at hand");
    let [cold, warm] = cold_runs(&folder.path().join("small"), &questions)?;
    say("noise, on one core");
    let noise: Vec<[f64; 2]> = (0..ROUNDS).map(|_| bench::noise_samples_per_second()).collect();
    let of = |which: usize| median(&noise.iter().map(|rates| rates[which]).collect::<Vec<_>>()).round();

    let figures = serde_json::json!({
        "laplace_samples_per_second": of(0),
        "gaussian_samples_per_second": of(1),
        "sealed_units_per_second_per_core": median(&sealed).round(),
        "bare_instances_per_second_per_core": median(&bare).round(),
        "sealed_vs_bare_instantiate": ratio(&sealed, &bare),
        "scaling_2_cores": ratio(&in_two, &sealed),
        "touched_pages": touched,
        "cold_run_ms": cold.round(),
        "cold_run_ms_warm_cache": warm.round(),
        "kernel_rows_per_second_per_core": median(&kernel).round(),
        "kernel_vs_native": ratio(&kernel, &natively),
        "blocked_vs_plain": of_loops(bench::LoopSeconds::blocked_vs_plain),
        "blocked_metering": of_loops(bench::LoopSeconds::blocked_metering),
        "plain_metering": of_loops(bench::LoopSeconds::plain_metering),
        "run_rows_per_second": median(&whole).round(),
        "datafusion_rows_per_second": median(&native).round(),
        "run_vs_datafusion": ratio(&whole, &native),
        "peak_memory_mib": memory[0],
        "peak_memory_10x_mib": memory[1],
        "peak_memory_10x_ratio": rounded(memory[1] / memory[0]),
    });
    print(&figures, json);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are the program's output")]
fn print(figures: &serde_json::Value, json: bool) {
    if json {
        println!("{figures}");
        return;
    }
    println!("{:<38} {:>14}", "figure", "median");
    for (name, value) in figures.as_object().into_iter().flatten() {
        println!("{name:<38} {value:>14}");
    }
}

fn lay_room(room: &Path, questions: &Path, units: usize) -> Result<()> {
    fs::create_dir_all(room.join("questions"))?;
    for file in ["reach.wasm", "reach.toml", "nothing.wasm", "nothing.toml"] {
        fs::copy(questions.join(file), room.join("questions").join(file))?;
    }
    fs::write(room.join("room.toml"), include_str!("room.toml"))?;
    for party in ["retailer", "brand"] {
        fs::create_dir_all(room.join("data").join(party))?;
    }
    write_purchases(&room.join("data/retailer/purchases.parquet"), units)?;
    write_campaigns(&room.join("data/brand/campaigns.parquet"), units)?;
    agree_on(room, &[("reach", &[]), ("nothing", &[("rows".to_owned(), "values".to_owned())])])
}

/// Makes keys, and agreements that both parties have approved on questions with their bindings.
fn agree_on(room: &Path, questions: &[(&str, &[(String, String)])]) -> Result<()> {
    let dir = open_room(room)?;
    let mut random = Random::from_os()?;
    let now = Clock::System.now();
    for (party, member, kind, key) in [
        ("retailer", "ana", MemberKind::Person, "retailer.pem"),
        ("brand", "ana", MemberKind::Person, "brand.pem"),
        ("retailer", "host", MemberKind::Service, "runtime.pem"),
    ] {
        let holder = Holder { principal: Principal::new(party, member), kind, scopes: Vec::new() };
        new_key(&dir, &holder, &room.join(key), now, &mut random)?;
    }
    for key in ["retailer.pem", "brand.pem"] {
        sign_registry(&dir, None, &load_key(&room.join(key))?, now)?;
    }
    trust_room(&dir, &state(room), &registry_status(&dir)?.first_sha256.ok_or("the registry is not signed")?)?;
    for (question, bindings) in questions {
        let proposal = Proposal {
            component: &format!("questions/{question}.wasm"),
            manifest: &format!("questions/{question}.toml"),
            bindings,
            parameters: &[],
            destination: "reports",
            days: 1,
            runs_max: 1_000,
            beside: false,
            state: &state(room),
        };
        let composed = agree(&dir, &proposal, Clock::System.now(), &mut random)?;
        for key in ["retailer.pem", "brand.pem"] {
            approve(&dir, &composed.folder, None, &load_key(&room.join(key))?, now, &mut random)?;
        }
    }
    Ok(())
}

/// Units per second through so many workers.
fn sealed_in(room: &Path, workers: usize) -> Result<f64> {
    Ok(bench::sealed_units_per_second(room, "agreements/reach-r1", Path::new(WORKER), workers)?)
}

/// Units per second and core of guests that write to so many pages of 4 KiB, through a worker.
fn touched_pages() -> Result<serde_json::Value> {
    const CHUNK: usize = 256;
    let spec = Spec { kind: Kind::Analytical, limits: Limits::default(), parameters: Vec::new(), slots: vec![vec![]] };
    let program = Program::at(WORKER);
    let mut rates = serde_json::Map::new();
    for pages in [1, 16, 256] {
        let code = compile(&program, &toucher(pages)?, &spec.limits, &[])?;
        let mut worker = Worker::start(&program, &spec.limits, 3_600)?;
        worker.load(&code, &spec, &[])?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let chunks = if pages > 16 { 8 } else { 80 };
            for _ in 0..chunks {
                let mut batch = worker.batch();
                (0..CHUNK)
                    .try_for_each(|_| batch.unit(&[], 0, 1, |batch| batch.slot(1, 0)))
                    .map_err(|_| "the batch is full")?;
                let bytes = batch.len();
                worker.ask(CHUNK, bytes, |_| ())?;
            }
            rounds.push((chunks * CHUNK) as f64 / start.elapsed().as_secs_f64());
        }
        rates.insert(pages.to_string(), median(&rounds).round().into());
    }
    Ok(rates.into())
}

/// Grows to hold so many pages, and writes to each.
fn toucher(pages: usize) -> Result<Vec<u8>> {
    let body = format!(
        "(local $at i32)
         (drop (memory.grow (i32.const {})))
         (local.set $at (i32.const 4096))
         (loop $on
             (i32.store (local.get $at) (i32.const 1))
             (local.set $at (i32.add (local.get $at) (i32.const 4096)))
             (br_if $on (i32.le_u (local.get $at) (i32.const {}))))",
        pages * 4096 / 65_536,
        pages * 4096
    );
    Ok(encode(WIT, "analytical-question", wat::parse_str(module(MEASURE, &body))?))
}

/// A component of at least 200 KiB, most of which is code that no call reaches.
fn large() -> Result<Vec<u8>> {
    let work = "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 31)) (i32.const 7)))".repeat(20);
    let functions: String =
        (0..1_000).map(|_| format!("(func (param i32) (result i32) {work} (local.get 0))")).collect();
    let module = module(MEASURE, "");
    let module = format!("{} {functions})", module.strip_suffix(')').ok_or("the module ends")?);
    let component = encode(WIT, "analytical-question", wat::parse_str(module)?);
    if component.len() < 200 << 10 { Err(format!("{} bytes", component.len()).into()) } else { Ok(component) }
}

/// Milliseconds of the whole program over a thousand units, from its start to its end: with nothing compiled, and with
/// compiled code at hand. A run ends with its release slot, a tenth of a second here.
fn cold_runs(room: &Path, questions: &Path) -> Result<[f64; 2]> {
    const UNITS: usize = 1_000;
    let own = room.with_extension("questions");
    fs::create_dir_all(&own)?;
    for file in ["reach.wasm", "reach.toml", "nothing.toml"] {
        fs::copy(questions.join(file), own.join(file))?;
    }
    fs::write(own.join("nothing.wasm"), large()?)?;
    lay_room(room, &own, UNITS)?;
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        match fs::remove_dir_all(state(room).join("compiled")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        for times in [&mut cold, &mut warm] {
            // Other bytes, or the answer would be that of the run before.
            write_purchases(&room.join("data/retailer/purchases.parquet"), UNITS)?;
            let start = Instant::now();
            let mut program = Command::new(WORKER);
            program
                .args(["--json", "run", "agreements/nothing-r1", "--key", "runtime.pem", "--state"])
                .arg(state(room));
            let ended = program.current_dir(room).stdout(Stdio::null()).status()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            if !ended.success() {
                return Err(format!("the measured run ended with {ended}").into());
            }
            fs::remove_dir_all(room.join("out"))?;
        }
    }
    Ok([median(&cold), median(&warm)])
}

/// What the host remembers of a room, beside it.
fn state(room: &Path) -> PathBuf {
    room.with_extension("state")
}

/// Units come in an order of their own, so that sorting has something to do.
fn shuffled(index: usize, units: usize) -> i64 {
    let step = 7_919;
    i64::try_from(index * step % units).unwrap_or(0)
}

fn write_purchases(path: &Path, units: usize) -> Result<()> {
    const BANDS: [&str; 4] = ["under 35K", "35-74K", "75K+", "unknown"];
    write_batches(path, units * ROWS_PER_UNIT, |row| {
        let unit = shuffled(row, units);
        let (basket, cents) = (unit * 100 + (row / units / 3) as i64, (row * 37 % 2_000) as f64);
        (unit, basket, cents / 100.0, BANDS[unit.unsigned_abs() as usize % 4])
    })
}

fn write_campaigns(path: &Path, units: usize) -> Result<()> {
    const TYPES: [&str; 3] = ["Type A", "Type B", "Type C"];
    write_batches(path, units * 2, |row| {
        let unit = shuffled(row, units);
        (unit, row as i64, 0.0, TYPES[(unit.unsigned_abs() as usize + row / units) % 3])
    })
}

fn write_batches<'a>(path: &Path, rows: usize, row: impl Fn(usize) -> (i64, i64, f64, &'a str)) -> Result<()> {
    const BATCH: usize = 65_536;
    let batch = |from: usize| {
        let rows: Vec<_> = (from..rows.min(from + BATCH)).map(&row).collect();
        let household: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
        let basket: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
        let value: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)));
        let word: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.3)));
        RecordBatch::try_from_iter([
            ("household_id", household),
            ("basket_id", basket),
            ("value", value),
            ("word", word),
        ])
    };
    // Decoding holds a row group per core, outside of the memory for sorts; this is the size that databases write.
    let word = format!("{:?}", Instant::now());
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(122_880))
        .set_key_value_metadata(Some(vec![KeyValue::new("written".to_owned(), word)]))
        .build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch(0)?.schema(), Some(properties))?;
    for from in (0..rows).step_by(BATCH) {
        writer.write(&batch(from)?)?;
    }
    writer.close()?;
    Ok(())
}

fn run_in_process(room: &Path, units: usize, threads: usize) -> Result<Duration> {
    clear(room, units)?;
    let key = load_key(&room.join("runtime.pem"))?;
    let request = Request {
        room,
        agreement: "agreements/reach-r1",
        key: &key,
        threads,
        groups: 1,
        sort_memory_bytes: 1 << 30,
        state: &state(room),
        store: None,
        nonce: None,
        minutes: 60,
        clock: Clock::System,
        worker: Some(Path::new(WORKER)),
    };
    let start = Instant::now();
    run(&request, &|_| ())?.result?;
    Ok(start.elapsed())
}

fn run_natively(room: &Path, threads: usize) -> Result<Duration> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build()?;
    let start = Instant::now();
    runtime.block_on(async {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
        for (party, table) in [("retailer", "purchases"), ("brand", "campaigns")] {
            let path = room.join(format!("data/{party}/{table}.parquet"));
            let raw = format!("{table}_raw");
            context.register_parquet(&raw, path.to_string_lossy(), ParquetReadOptions::default()).await?;
        }
        context.sql("CREATE VIEW purchases AS SELECT household_id, basket_id, value AS sales_value, word AS income_band FROM purchases_raw").await?;
        context.sql("CREATE VIEW campaigns AS SELECT household_id, word AS campaign_type FROM campaigns_raw").await?;
        let answer = context.sql(NATIVE).await?.collect().await?;
        assert_eq!(answer.iter().map(RecordBatch::num_rows).sum::<usize>(), 12);
        Ok::<_, datafusion::error::DataFusionError>(())
    })?;
    Ok(start.elapsed())
}

/// Peak resident memory of the program itself, in a process of its own under the stated limit for sorts.
fn peak_memory_mib(room: &Path, units: usize) -> Result<f64> {
    clear(room, units)?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_glovebox"))
        .args(["--json", "run", "agreements/reach-r1", "--key", "runtime.pem"])
        .args(["--sort-memory", &SORT_MEMORY_MIB.to_string()])
        .arg("--state")
        .arg(state(room))
        .current_dir(room)
        .stdout(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0f64;
    let exit = loop {
        // The kernel's own high-water mark never falls, so a late look misses little.
        if let Some(kib) = fs::read_to_string(&status).ok().and_then(|text| high_water_mark(&text)) {
            peak = peak.max(kib / 1024.0);
        }
        if let Some(exit) = child.try_wait()? {
            break exit;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if exit.success() { Ok(rounded(peak)) } else { Err(format!("the measured run ended with {exit}").into()) }
}

fn high_water_mark(status: &str) -> Option<f64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A result is never written over, so each run begins without the one before; and on files of other bytes, for a run
/// on the same ones would repeat its answer. The budget lasts for all of them.
fn clear(room: &Path, units: usize) -> Result<()> {
    write_campaigns(&room.join("data/brand/campaigns.parquet"), units)?;
    match fs::remove_dir_all(room.join("out")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let pairs: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    rounded(median(&pairs))
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[expect(clippy::print_stderr, reason = "progress of a long program")]
fn say(text: &str) {
    eprintln!("{text} …");
}
