//! What a command says: JSON with stable keys, or text for people.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use glovebox::{
    Charge, Code, Draft, Enrolled, Explained, Fault, Identified, LedgerLine, LogStatus, MeasureNoise, Outcome, Preview,
    Principal, Quote, RegistryStatus, Rehearsal, ReleasedResult, ShardsDone, Step, Verified,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

/// A command's result, ready to be printed.
#[derive(Debug)]
pub(super) struct Printed {
    exit_code: u8,
    json: Value,
    text: String,
    /// What is wrong, for stderr.
    complaint: Option<String>,
}

/// Prints to stdout and stderr, and gives the exit code.
pub(super) fn print(printed: &Printed, json: bool) -> ExitCode {
    let text = if json { printed.json.to_string() } else { printed.text.clone() };
    if let Some(complaint) = &printed.complaint {
        let _ = writeln!(std::io::stderr(), "{complaint}");
    }
    let written = if text.is_empty() { Ok(()) } else { writeln!(std::io::stdout(), "{}", text.trim_end()) };
    match written {
        // A reader that closes the pipe early has what it wants.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(7),
        _ => ExitCode::from(printed.exit_code),
    }
}

impl Printed {
    pub(super) fn done(mut json: Value, text: String) -> Self {
        json["ok"] = json!(true);
        Self { exit_code: 0, json, text, complaint: None }
    }

    pub(super) fn usage(error: &clap::Error) -> Self {
        let text = error.to_string();
        // The complaint, which may list arguments, stands before the first empty line; then comes help.
        let complaint: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let fact = complaint.join(" ").trim_start_matches("error: ").to_owned();
        Self::fault(&Fault::new(Code::Usage, fact, "see `glovebox --help`"))
    }

    pub(super) fn error(error: &anyhow::Error) -> Self {
        Self::fault(&super::fault_of(error))
    }

    fn fault(fault: &Fault) -> Self {
        Self {
            exit_code: fault.code().stage().exit_code(),
            json: fault_json(fault, json!({"ok": false})),
            text: String::new(),
            complaint: Some(fault.to_string()),
        }
    }

    pub(super) fn outcome(outcome: &Outcome) -> Self {
        let common = json!({"run_id": outcome.run_id, "receipt": outcome.receipt, "charges": outcome.charges});
        match &outcome.result {
            Ok(result) => {
                let mut json = common;
                json["decision"] = json!("released");
                json["output"] = json!(result);
                if let Some(run) = &outcome.repeat_of {
                    json["repeat_of"] = json!(run);
                }
                Self::done(json, released_text(outcome, result))
            }
            Err(fault) => {
                let mut json = fault_json(fault, common);
                json["ok"] = json!(false);
                json["decision"] = json!("refused");
                Self {
                    exit_code: fault.code().stage().exit_code(),
                    json,
                    text: format!("refused: {}\nreceipt: {}", fault.code(), outcome.receipt),
                    complaint: Some(fault.to_string()),
                }
            }
        }
    }

    pub(super) fn verified(verified: &Verified) -> Self {
        let mut text = String::new();
        for check in &verified.checks {
            text += &format!("  {}  {}\n", if check.holds { "ok" } else { "--" }, check.what);
        }
        text += &format!("trusted: registry version 1, sha256 {}\n", verified.registry_sha256);
        let code = verified.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        text += &format!("run {} was {}{code}: the receipt verifies", verified.run_id, verified.decision);
        Self::done(json!(verified), text)
    }

    /// Nothing more to say than what was written already.
    pub(super) fn nothing() -> Self {
        Self { exit_code: 0, json: json!({"ok": true}), text: String::new(), complaint: None }
    }

    pub(super) fn enrolled(enrolled: &Enrolled, what: &str) -> Self {
        let version = enrolled.version;
        Self::done(
            json!({"holder": enrolled.holder.to_string(), "fingerprint": enrolled.fingerprint, "registry_version": version}),
            format!("{what} (in the draft of registry version {version})\nfingerprint {}", enrolled.fingerprint),
        )
    }

    pub(super) fn signed(holder: &Principal, draft: &Draft) -> Self {
        let status = match &draft.lacks {
            None => "it is in force".to_owned(),
            Some(lacks) => lacks.clone(),
        };
        Self::done(
            json!({"signed_by": holder.to_string(), "registry_version": draft.version, "sha256": draft.sha256,
                   "in_force": draft.is_in_force, "lacks": draft.lacks}),
            format!("{holder} signed version {} of the registry\nsha256 {}\n{status}", draft.version, draft.sha256),
        )
    }

    pub(super) fn registry(status: &RegistryStatus) -> Self {
        let mut text = String::new();
        if let (Some(first), Some(current)) = (&status.first_sha256, &status.current) {
            text += &format!("version {} is in force until {}\n", current.version, current.expires);
            text += &format!("first version, by which the parties know the room: sha256 {first}\n");
            let mut table = new_table(&["who", "kind", "scopes", "status", "until", "custody"]);
            for (party, member) in
                current.parties.iter().flat_map(|party| party.members.iter().map(move |m| (party, m)))
            {
                for key in &member.keys {
                    let scopes = key.scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                    table.add_row([
                        format!("{}/{}", party.id, member.id),
                        member.kind.to_string(),
                        scopes,
                        key.status.to_string(),
                        key.not_after.clone(),
                        key.custody.to_string(),
                    ]);
                }
            }
            text += &format!("{table}\n{}\n", current.quorum.join("\n"));
            text += &format!(
                "auditor {}\n",
                current.auditor.as_deref().unwrap_or("none: nothing is sealed, no run can be replayed")
            );
        } else {
            text += "no version is in force\n";
        }
        if let Some(draft) = &status.draft {
            text += &format!("draft of version {}: sha256 {}\n", draft.version, draft.sha256);
            text += &format!("{}\n", draft.lacks.as_deref().unwrap_or("in force"));
        }
        let draft = status.draft.as_ref().map(|draft| {
            json!({"version": draft.version, "sha256": draft.sha256, "in_force": draft.is_in_force, "lacks": draft.lacks})
        });
        Self::done(json!({"first_sha256": status.first_sha256, "current": status.current, "draft": draft}), text)
    }

    pub(super) fn log(status: &LogStatus) -> Self {
        let witnesses = if status.witnesses.is_empty() { "no witness".into() } else { status.witnesses.join(", ") };
        let text = format!(
            "the log {} verifies: {} records, root {}\nkeys: {}\nwitnessed by: {witnesses}\nruns without an end: {}",
            status.origin,
            status.size,
            status.root,
            status.vkeys.join(", "),
            status.open_runs
        );
        Self::done(json!(status), text)
    }

    pub(super) fn table(preview: &Preview) -> Self {
        let mut table = new_table(&preview.columns);
        for row in &preview.rows {
            table.add_row(row.iter().map(|cell| match cell {
                Some(text) if text.parse::<f64>().is_ok() => {
                    Cell::new(rounded(text)).set_alignment(CellAlignment::Right)
                }
                Some(text) => Cell::new(text),
                None => Cell::new("suppressed").set_alignment(CellAlignment::Right),
            }));
        }
        let more = preview.total - preview.rows.len();
        let rest = if more > 0 { format!("\n… and {more} rows more") } else { String::new() };
        Self::done(
            json!({"columns": preview.columns, "rows": preview.rows, "total": preview.total}),
            format!("{table}{rest}"),
        )
    }

    pub(super) fn ledger(lines: &[LedgerLine]) -> Self {
        let mut table = new_table(&["account", "epsilon spent", "composed", "delta spent", "bits per id"]);
        for line in lines {
            table.add_row([
                line.account.clone(),
                line.epsilon_micros.to_string(),
                format!("{:.3}", line.composed_epsilon),
                line.delta_femtos.to_string(),
                line.bits_per_id.to_string(),
            ]);
        }
        Self::done(json!({"accounts": lines}), table.to_string())
    }

    pub(super) fn quote(quote: &Quote) -> Self {
        let mut text = format!("one run in mode {}, with {} noise, would charge:\n", quote.mode, noise_name(quote));
        for (charge, left) in quote.charges.iter().zip(&quote.runs_left) {
            let left = match left {
                None => "as often as agreed".to_owned(),
                Some(1) => "enough is left for one such run".to_owned(),
                Some(runs @ 0..1_000) => format!("enough is left for {runs} such runs"),
                Some(_) => "enough is left for a thousand such runs or more".to_owned(),
            };
            text += &format!("  {}: {}; {left}\n", charge.account, charge_text(charge));
        }
        text += &noise_text(quote.k_min, quote.threshold, &quote.noise);
        text +=
            &format!("{}\nNothing was spent. A run that repeats another on the same data is free.", quote.guarantee);
        Self::done(json!(quote), text)
    }

    pub(super) fn plan(explained: &Explained) -> Self {
        let Explained { slots, shards, max_rows_per_unit, memory_bytes, threads } = explained;
        let mut text = String::new();
        for plan in slots {
            text += &format!("{}: view {}, {}\n", plan.slot, plan.view, plan.join);
            for scan in &plan.scans {
                let (read, all) = (scan.row_groups - scan.row_groups_skipped, scan.row_groups);
                let condition = scan.condition.as_deref().unwrap_or("true");
                text +=
                    &format!("  reads {} of {} files, {read} of {all} row groups", scan.columns.join(", "), scan.files);
                text += &format!(", where {condition}\n");
            }
            text += &plan.steps.iter().map(|step| format!("    {step}\n")).collect::<String>();
        }
        text += &format!(
            "Rows are sorted by shard ({shards} of them), unit and columns, in {} MiB on {threads} cores; a unit has at most \
             {max_rows_per_unit} rows in a slot.\nNothing was run or spent, and no row was read.",
            memory_bytes >> 20
        );
        Self::done(json!(explained), text)
    }

    pub(super) fn rehearsal(rehearsal: &Rehearsal) -> Self {
        let mut text = format!(
            "{} made-up units; the question failed for {}\nit {}\n{} of {} fuel per unit on average, {} of {} KiB at most\n",
            rehearsal.units,
            rehearsal.trapped,
            rehearsal.asking,
            rehearsal.fuel[0],
            rehearsal.fuel[1],
            rehearsal.memory_bytes[0] >> 10,
            rehearsal.memory_bytes[1] >> 10
        );
        let mut json = json!(rehearsal);
        for (name, table) in [("exact", &rehearsal.exact), ("released", &rehearsal.released)] {
            let shown = match table {
                Ok(preview) => Self::table(&first_rows(preview)),
                Err(fault) => Self::done(fault_json(fault, json!({})), fault.to_string()),
            };
            text += &format!("{name}:\n{}\n", shown.text);
            json[name] = shown.json;
        }
        text += "Made-up data: nothing was spent, and no owner's file was opened.";
        Self::done(json, text)
    }

    pub(super) fn identified(identified: &Identified) -> Self {
        let Identified { path, found, listed } = identified;
        Self::done(json!(identified), format!("{found} of {listed} listed units are yours: {}", path.display()))
    }

    pub(super) fn codes() -> Self {
        let mut table = new_table(&["code", "exit", "meaning"]);
        for code in Code::ALL {
            table.add_row([code.as_str(), &code.stage().exit_code().to_string(), code.meaning()]);
        }
        let json: Vec<Value> = Code::ALL
            .iter()
            .map(
                |code| json!({"code": code.as_str(), "exit_code": code.stage().exit_code(), "meaning": code.meaning()}),
            )
            .collect();
        Self::done(json!({"codes": json}), table.to_string())
    }
}

/// As many as people look at.
fn first_rows(preview: &Preview) -> Preview {
    let rows = preview.rows.iter().take(20).cloned().collect();
    Preview { columns: preview.columns.clone(), rows, total: preview.total }
}

fn fault_json(fault: &Fault, mut json: Value) -> Value {
    json["code"] = json!(fault.code().as_str());
    json["fact"] = json!(fault.fact());
    json["remedy"] = json!(fault.remedy());
    json
}

fn released_text(outcome: &Outcome, result: &ReleasedResult) -> String {
    let mut text = format!("released {} ({} rows)\n", result.path, result.rows);
    text += &noise_text(result.k_min, result.threshold, &result.noise);
    if let Some(run) = &outcome.repeat_of {
        text += &format!("the answer of run {run}, on the same data: free\n");
    }
    for charge in &outcome.charges {
        text += &format!("charged {}: {}\n", charge.account, charge_text(charge));
    }
    text + &format!("{}\nreceipt: {}", result.guarantee, outcome.receipt)
}

fn noise_name(quote: &Quote) -> &str {
    if quote.mechanism == "none" { "no" } else { quote.mechanism }
}

fn noise_text(k_min: u32, threshold: Option<u64>, noise: &[MeasureNoise]) -> String {
    let mut text = match threshold {
        Some(threshold) => format!("a group is shown if its noisy count above {} reaches {threshold}\n", k_min - 1),
        None => String::new(),
    };
    for noise in noise.iter().filter(|noise| noise.standard_deviation > 0.0) {
        text += &format!("  {:<16} ±{:.2} (standard deviation of the noise)\n", noise.name, noise.standard_deviation);
    }
    text
}

fn charge_text(charge: &Charge) -> String {
    let Charge { cost, lifetime, .. } = charge;
    if cost.bits_per_id > 0 {
        format!("{} of {} bits per identifier", cost.bits_per_id, lifetime.bits_per_id)
    } else if cost.losses.is_empty() {
        "nothing, for there is no noise".to_owned()
    } else {
        format!(
            "epsilon {} of {}, delta {} of {}",
            cost.epsilon_micros, lifetime.epsilon_micros, cost.delta_femtos, lifetime.delta_femtos
        )
    }
}

fn rounded(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(number) if text.contains('.') => format!("{number:.2}"),
        _ => text.to_owned(),
    }
}

fn new_table<T: AsRef<str>>(columns: &[T]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(columns.iter().map(AsRef::as_ref));
    table
}

/// Steps on a terminal; silence everywhere else. It shows nothing that depends on data: how long each step takes does, so
/// from the first row on it shows one thing until the slot ends.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(json: bool) -> Self {
        if json || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    pub(super) fn at(&self, step: Step) {
        self.0.set_message(match step {
            Step::Gate => "checking approvals",
            _ => "running: the result comes at the end of a slot",
        });
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// How far a replay is, for the auditor at a terminal.
pub(super) struct ShardProgress(ProgressBar);

impl ShardProgress {
    pub(super) fn new(json: bool) -> Self {
        if json || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:20} shard {pos} of {len}{msg}, {eta} to go");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    pub(super) fn at(&self, done: ShardsDone) {
        self.0.set_length(done.shards.into());
        self.0.set_position(done.done.into());
        self.0.set_message(format!(", {} rows, {} units", done.rows, done.units));
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
