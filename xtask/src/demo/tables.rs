//! The first question again, over tables as companies have them: a Delta table in the room, and one that is shared.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Shell, budget, clear, data::Data, found_room, heading, lay_room, say};
use crate::{clients, sources};

/// What the brand shares with the host on which the questions run.
const SHARED_ROOM: &str = r#"version = 1
id = "brand-warehouse"
unit = "household"

[[party]]
id = "brand"

[[view]]
id = "campaigns"
owner = "brand"
unit = "household_id"
sources = { campaigns = "data/brand/campaigns.ENDING", descriptions = "data/brand/campaign_descriptions.ENDING" }
sql = """
SELECT c.household_id, d.campaign_type
FROM campaigns c JOIN descriptions d ON c.campaign_id = d.campaign_id
"""
"#;

const SHARES: &str = r#"version = 1
party = "brand"
endpoint = "ENDPOINT"

[[share]]
name = "media"
[[share.schema]]
name = "audience"
[[share.schema.view]]
name = "campaigns"
view = "campaigns"
recipients = ["clean-room"]
"#;

/// A room of its own, so that the other one's budget and memory stay as they were shown.
pub(super) fn show(repository: &Path, glovebox: &Path, questions: &Path, data: &Data) -> Result<()> {
    if let Err(error) = sources::build(repository).and_then(|()| clients::install(repository)) {
        say(&format!("the programs that write tables and read shares cannot be had: {error:#}"));
        say("hint: install python3-venv and check the network; this part is left out");
        return Ok(());
    }
    let beside = |name: &str| repository.join("target").join(name);
    let shell =
        Shell { glovebox: glovebox.to_owned(), room: beside("demo-tables"), state: beside("demo-tables-state") };
    lay_room(&shell.room, questions, data)?;
    clear(&shell.state)?;

    heading("The retailer's purchases are a Delta table");
    let python = sources::target(repository).join("venv/bin/python");
    let (file, table) =
        (format!("data/retailer/transactions.{}", data.ending()), "data/retailer/transactions".to_owned());
    let script = include_str!("tables.py");
    succeeded(Command::new(python).args(["-c", script, &file, &table]).current_dir(&shell.room))?;

    heading("The brand shares its campaigns from its own machine, over Delta Sharing");
    let brand = Provider::start(&beside("demo-share"), glovebox, data)?;
    println!("the official client, with the profile that the brand handed over:");
    let python = repository.join("target/sharing/venv/bin/python");
    succeeded(Command::new(python).args(["-c", include_str!("share.py")]).arg(brand.profile()))?;
    let connection = format!(
        "[brand]\nowner = \"brand\"\nkind = \"delta-sharing\"\nsecrets = {{ profile = {{ file = \"{}\" }} }}\n",
        brand.profile().display()
    );
    println!("\nconnections.toml\n{connection}");

    heading("The same question over both");
    lead_to_tables(&shell.room.join("room.toml"), data.ending())?;
    found_room(&shell)?;
    private(&shell.state.join("glovebox/connections.toml"), &connection)?;
    shell.agree_and_approve("reach-r1", &["questions/reach.wasm", "--destination", "brand-reports"])?;
    let receipt = shell.run_question("reach", "out/reports/reach-r1.parquet")?;
    shell.run(&["verify", &receipt])?;
    budget::compare_with_exact(repository, &shell, data.ending())?;
    shell.run(&["replay", &receipt, "--identity", "keys/auditor.txt"])
}

/// The views of the same room over other sources.
fn lead_to_tables(room: &Path, ending: &str) -> Result<()> {
    let mut text = fs::read_to_string(room)?;
    for (from, to) in [
        (
            format!("transactions = \"data/retailer/transactions.{ending}\", demographics"),
            "transactions = \"delta:data/retailer/transactions\", demographics".to_owned(),
        ),
        (
            format!("sources = {{ campaigns = \"data/brand/campaigns.{ending}\", descriptions = \"data/brand/campaign_descriptions.{ending}\" }}\n"),
            "sources = { campaigns = \"brand:media.audience.campaigns\" }\n".to_owned(),
        ),
        (
            "SELECT c.household_id, d.campaign_type\nFROM campaigns c JOIN descriptions d ON c.campaign_id = d.campaign_id".to_owned(),
            "SELECT household_id, campaign_type FROM campaigns".to_owned(),
        ),
    ] {
        if !text.contains(&from) {
            bail!("the demo's room has no `{from}`");
        }
        text = text.replacen(&from, &to, 1);
    }
    fs::write(room, text)?;
    Ok(())
}

/// The brand's machine: its data, and the server of its shares. The server ends with its handle.
struct Provider {
    folder: PathBuf,
    server: Child,
}

impl Provider {
    fn start(folder: &Path, glovebox: &Path, data: &Data) -> Result<Self> {
        clear(folder)?;
        let brand = folder.join("room/data/brand");
        fs::create_dir_all(&brand)?;
        for table in ["campaigns", "campaign_descriptions"] {
            let file = format!("{table}.{}", data.ending());
            fs::copy(data.folder().join(&file), brand.join(&file))?;
        }
        fs::write(folder.join("room/room.toml"), SHARED_ROOM.replace("ENDING", data.ending()))?;
        let shares = |endpoint: &str| private(&folder.join("shares.toml"), &SHARES.replace("ENDPOINT", endpoint));
        shares("http://127.0.0.1:1")?;
        let program = glovebox.with_file_name("glovebox-share");
        let mut serve = Command::new(&program);
        serve.args(["serve", "--room", "room", "--shares", "shares.toml", "--state", "state"]);
        let serve = serve.args(["--listen", "127.0.0.1:0"]).current_dir(folder).stdout(Stdio::piped());
        let mut server = serve.spawn().context("glovebox-share does not start")?;
        let said = BufReader::new(server.stdout.take().context("it has no stdout")?);
        let provider = Self { folder: folder.to_owned(), server };
        let mut endpoint = None;
        for line in said.lines() {
            let line = line?;
            println!("{line}");
            endpoint = line.strip_prefix("listening on ").map(str::to_owned);
            if endpoint.is_some() {
                break;
            }
        }
        // What is in it is read anew for each request.
        shares(&endpoint.context("glovebox-share does not listen")?)?;
        let new = ["recipient", "new", "clean-room", "--days", "1", "--shares", "shares.toml"];
        succeeded(Command::new(&program).args(new).current_dir(folder))?;
        Ok(provider)
    }

    fn profile(&self) -> PathBuf {
        self.folder.join("clean-room.share")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn succeeded(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} does not start", command.get_program().display()))?;
    if status.success() { Ok(()) } else { bail!("{} ended with {status}", command.get_program().display()) }
}
