//! Finds a compiler, a standard library and a linker for WebAssembly among what the machine has.
//!
//! rustup's way is `rustup target add`; where that is out of reach, a toolchain with the library's source builds it,
//! and on Debian such a toolchain is one package away. It never edits a configuration file.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::TARGET;

/// What Debian calls a toolchain with the library's source.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Names the compiler to use, instead of all that are found.
const CHOICE: &str = "GLOVEBOX_RUSTC";

/// Variables that may stay: where cargo keeps its files and how it reaches its registry, never how it compiles.
const HARMLESS: [&str; 6] =
    ["CARGO_HOME", "CARGO_BUILD_JOBS", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "RUSTUP_HOME"];

/// Everything a build needs.
#[derive(Debug)]
pub(super) struct Toolchain {
    pub(super) rustc: PathBuf,
    pub(super) cargo: PathBuf,
    pub(super) std: Std,
    pub(super) linker: Linker,
    sysroot: PathBuf,
    /// What `rustc -vV` says.
    version: String,
}

/// Where the standard library for the target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Std {
    Prebuilt,
    FromSource,
}

/// The linker that turns objects into a component, the one that it calls, and that one as the compiler calls it.
#[derive(Clone, Debug)]
pub(super) struct Linker {
    pub(super) component_ld: PathBuf,
    pub(super) wasm_ld: PathBuf,
    pub(super) lld: PathBuf,
}

impl Toolchain {
    /// Where the standard library's source lies, if it is there.
    pub(super) fn library_source(&self) -> PathBuf {
        library_source(&self.sysroot)
    }

    /// For people.
    pub(super) fn summary(&self) -> String {
        let std = match self.std {
            Std::Prebuilt => "its standard library",
            Std::FromSource => "a standard library from source, which takes a minute the first time",
        };
        format!("{} and {std}", self.version.lines().next().unwrap_or_default())
    }

    /// Everything about the tools that may show in the bytes they write.
    pub(super) fn identity(&self) -> Result<String> {
        let Self { rustc: _, cargo, std, linker: Linker { component_ld, wasm_ld, lld: _ }, sysroot: _, version } = self;
        let cargo = output(Command::new(cargo).arg("-vV"))?;
        let component_ld = output(Command::new(component_ld).arg("--version"))?;
        let wasm_ld = output(Command::new(wasm_ld).arg("--version"))?;
        Ok([version, &format!("{std:?}"), &cargo, &component_ld, &wasm_ld].map(String::as_str).join("\n"))
    }
}

/// Finds a toolchain, and on Debian installs one where there is none.
pub(super) fn find() -> Result<Toolchain> {
    if let Some(toolchain) = look()? {
        return Ok(toolchain);
    }
    if let Some(choice) = env::var_os(CHOICE) {
        bail!(
            "{CHOICE} is {}, which has no standard library for {TARGET}\n\
             choose another compiler, or unset it to use any that is found",
            choice.display()
        );
    }
    if is_debian_root() {
        install()?;
        if let Some(toolchain) = look()? {
            return Ok(toolchain);
        }
    }
    bail!(
        "no Rust toolchain here can build for {TARGET}\n\
         run `rustup target add {TARGET}`, or on Debian `apt-get install {}`",
        DEBIAN_PACKAGES.join(" ")
    )
}

/// Takes away every variable that could change what cargo or rustc write, for a child that builds questions.
pub(super) fn clean_environment(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let steers = text.starts_with("CARGO") || text.starts_with("RUST");
        if steers && !HARMLESS.iter().any(|harmless| text.starts_with(harmless)) {
            command.env_remove(name);
        }
    }
}

/// Where cargo unpacks the sources of crates.
pub(super) fn cargo_home() -> Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(home()?.join(".cargo")),
    }
}

fn home() -> Result<PathBuf> {
    env::home_dir().context("no home folder is known\nset HOME")
}

fn look() -> Result<Option<Toolchain>> {
    let found: Vec<Candidate> = compilers()?.iter().filter_map(|rustc| Candidate::ask(rustc)).collect();
    let choice = env::var_os(CHOICE).map(PathBuf::from);
    let allowed = |candidate: &&Candidate| choice.as_ref().is_none_or(|choice| *choice == candidate.asked);
    let with = |std: Std| found.iter().filter(allowed).find(|candidate| candidate.has(std)).map(|found| (found, std));
    let Some((candidate, std)) = with(Std::Prebuilt).or_else(|| with(Std::FromSource)) else { return Ok(None) };
    // Debian's toolchain has none, but that of any rustup toolchain works with it.
    let linker = found.iter().find_map(Candidate::linker).context(
        "no linker for components (wasm-component-ld) comes with the Rust toolchains here\n\
         run `rustup toolchain install stable`",
    )?;
    Ok(Some(Toolchain {
        rustc: candidate.rustc.clone(),
        cargo: candidate.cargo(),
        std,
        linker,
        sysroot: candidate.sysroot.clone(),
        version: candidate.version.clone(),
    }))
}

/// Every compiler of the machine, the preferred ones first.
fn compilers() -> Result<Vec<PathBuf>> {
    let mut compilers: Vec<PathBuf> = env::var_os(CHOICE).map(PathBuf::from).into_iter().collect();
    let path = env::var_os("PATH").unwrap_or_default();
    compilers.extend(env::split_paths(&path).map(|folder| folder.join("rustc")));
    let rustup =
        env::var_os("RUSTUP_HOME").map_or_else(|| home().map(|home| home.join(".rustup")), |home| Ok(home.into()))?;
    if let Ok(entries) = fs::read_dir(rustup.join("toolchains")) {
        let toolchains: BTreeSet<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        compilers.extend(toolchains.into_iter().map(|toolchain| toolchain.join("bin/rustc")));
    }
    compilers.push("/usr/bin/rustc".into());
    let mut seen = BTreeSet::new();
    compilers.retain(|rustc| rustc.is_file() && seen.insert(rustc.clone()));
    Ok(compilers)
}

/// A compiler that answers.
struct Candidate {
    /// By the path under which it was found, which may be rustup's proxy.
    asked: PathBuf,
    /// Without a proxy in between, which could pick another toolchain in the child.
    rustc: PathBuf,
    sysroot: PathBuf,
    version: String,
}

impl Candidate {
    fn ask(asked: &Path) -> Option<Self> {
        let mut command = Command::new(asked);
        clean_environment(&mut command);
        let version = output(command.arg("-vV")).ok()?;
        let mut command = Command::new(asked);
        clean_environment(&mut command);
        let sysroot = PathBuf::from(output(command.args(["--print", "sysroot"])).ok()?.trim());
        let rustc = sysroot.join("bin/rustc");
        let candidate = Self { asked: asked.to_owned(), rustc, sysroot, version };
        candidate.cargo().is_file().then_some(candidate)
    }

    /// The cargo beside the compiler: another version may not know the layout of its standard library.
    fn cargo(&self) -> PathBuf {
        self.rustc.with_file_name("cargo")
    }

    fn has(&self, std: Std) -> bool {
        match std {
            Std::Prebuilt => has_core(&self.sysroot.join("lib/rustlib").join(TARGET).join("lib")),
            Std::FromSource => library_source(&self.sysroot).join("library/Cargo.lock").is_file(),
        }
    }

    fn linker(&self) -> Option<Linker> {
        let host = self.version.lines().find_map(|line| line.strip_prefix("host: "))?;
        let tools = self.sysroot.join("lib/rustlib").join(host).join("bin");
        let linker = Linker {
            component_ld: tools.join("wasm-component-ld"),
            wasm_ld: tools.join("gcc-ld/wasm-ld"),
            lld: tools.join("rust-lld"),
        };
        let is_whole = [&linker.component_ld, &linker.wasm_ld, &linker.lld].iter().all(|tool| tool.is_file());
        is_whole.then_some(linker)
    }
}

fn library_source(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust")
}

fn has_core(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

fn is_debian_root() -> bool {
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    is_root && Path::new("/etc/debian_version").exists() && Path::new("/usr/bin/apt-get").exists()
}

fn install() -> Result<()> {
    eprintln!("no toolchain for {TARGET} found; installing Debian's {}", DEBIAN_PACKAGES.join(", "));
    apt_get(&["update"])?;
    apt_get(&[&["install", "-y", "--no-install-recommends"], DEBIAN_PACKAGES.as_slice()].concat())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("apt-get does not run")?;
    if !output.status.success() {
        bail!(
            "`apt-get {}` failed: {}\ninstall {} by hand, or run `rustup target add {TARGET}`",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim(),
            DEBIAN_PACKAGES.join(" ")
        );
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} does not run"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
