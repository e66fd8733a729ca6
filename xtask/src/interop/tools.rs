//! Installs the programs that judge: from Debian, and from PyPI and npm into `target/interop`.
//!
//! Versions from PyPI and npm are fixed, so that a verdict changes only where we change it. It installs nothing that is
//! there already, and asks nobody but the package managers.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 8] = [
    ("openssl", "openssl"),
    ("ssh-keygen", "openssh-client"),
    ("minisign", "minisign"),
    ("curl", "curl"),
    ("go", "golang-go"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3"),
];

/// Go's transparency log is a package of sources.
const GO_SOURCES: &str = "/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog";
const GO_PACKAGE: &str = "golang-golang-x-mod-dev";

const PYTHON: [&str; 3] = ["securesystemslib[crypto]==1.6.0", "in-toto==3.1.0", "cryptography==50.0.2"];

/// These ask for a newer Python than Debian 12 has, and do not use it; the lists above bring what they need.
const PYTHON_ANY: [&str; 2] = ["aics-tlog==0.2.1", "aics-witness==0.1.0"];

const NPM: [&str; 2] = ["@sigstore/bundle@4.0.0", "@sigstore/verify@3.1.1"];

/// Afterwards everything that a check calls is in the search path or below `work`.
pub(super) fn install(work: &Path) -> Result<()> {
    fs::create_dir_all(work)?;
    debian()?;
    python(&work.join("venv"), &PYTHON, &PYTHON_ANY)?;
    npm(&work.join("npm"))?;
    scripts(work)?;
    go(work)
}

fn debian() -> Result<()> {
    let mut missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !in_path(program)).map(|(_, package)| *package).collect();
    if !Path::new(GO_SOURCES).is_dir() {
        missing.push(GO_PACKAGE);
    }
    if !Path::new("/etc/ssl/certs/ca-certificates.crt").is_file() {
        missing.push("ca-certificates");
    }
    if python_with_venv().is_none() {
        missing.push("python3-venv");
    }
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing Debian's {}", missing.join(", "));
    let hint = format!("install {} by hand", missing.join(" "));
    quietly(apt_get().arg("update"), &hint)?;
    quietly(apt_get().args(["install", "-y", "--no-install-recommends"]).args(missing), &hint)
}

/// Installs one of Debian's packages, if what it brings is not there.
pub(crate) fn package(name: &str, brings: &Path) -> Result<()> {
    if brings.exists() {
        return Ok(());
    }
    eprintln!("installing Debian's {name}");
    let hint = format!("install {name} by hand");
    quietly(apt_get().arg("update"), &hint)?;
    quietly(apt_get().args(["install", "-y", "--no-install-recommends", name]), &hint)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Makes a virtual environment of packages from PyPI, the last of which are taken as they are, without what they ask for.
pub(crate) fn python(venv: &Path, packages: &[&str], as_they_are: &[&str]) -> Result<()> {
    let wanted = [packages, as_they_are].concat().join(" ");
    if is_installed(venv, &wanted) {
        return Ok(());
    }
    eprintln!("installing {wanted} from PyPI");
    let python = python_with_venv()
        .context("no python3 here can make a virtual environment\ninstall python3 and python3-venv")?;
    quietly(Command::new(python).args(["-m", "venv", "--clear"]).arg(venv), "install python3-venv")?;
    let pip = || {
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        pip
    };
    let hint = "look whether PyPI can be reached";
    quietly(pip().args(packages), hint)?;
    if !as_they_are.is_empty() {
        quietly(pip().args(["--no-deps", "--ignore-requires-python"]).args(as_they_are), hint)?;
    }
    note_installed(venv, &wanted)
}

/// Debian's python3 may lack a part that others have.
fn python_with_venv() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        Command::new(python).args(["-c", "import ensurepip, venv"]).output().is_ok_and(|output| output.status.success())
    })
}

fn npm(folder: &Path) -> Result<()> {
    let wanted = NPM.join(" ");
    if is_installed(folder, &wanted) {
        return Ok(());
    }
    eprintln!("installing {wanted} from npm");
    fs::create_dir_all(folder)?;
    // Otherwise npm would look for a project in the folders above.
    fs::write(folder.join("package.json"), "{}\n")?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--loglevel=error", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"]);
    quietly(npm.args(NPM).current_dir(folder), "look whether npm's registry can be reached")?;
    note_installed(folder, &wanted)
}

/// The checks that are programs of ours around libraries of others.
fn scripts(work: &Path) -> Result<()> {
    // Node looks for packages beside the script.
    fs::write(work.join("npm/sigstore_verify.mjs"), include_str!("sigstore_verify.mjs"))?;
    fs::write(work.join("securesystemslib_threshold.py"), include_str!("securesystemslib_threshold.py"))?;
    fs::write(work.join("tlog.go"), include_str!("tlog.go"))?;
    let authority = work.join("timestamp_authority.sh");
    fs::write(&authority, include_str!("timestamp_authority.sh"))?;
    fs::set_permissions(&authority, fs::Permissions::from_mode(0o755)).context("the script cannot be made executable")
}

/// Debian's way of building: from installed sources, without modules and without a network.
fn go(work: &Path) -> Result<()> {
    let mut go = Command::new("go");
    go.args(["build", "-o", "tlog", "tlog.go"]).current_dir(work);
    go.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOFLAGS", "").env("CGO_ENABLED", "0");
    go.env("GOCACHE", work.join("go-cache"));
    quietly(&mut go, "look at tlog.go in target/interop")
}

fn is_installed(folder: &Path, wanted: &str) -> bool {
    fs::read_to_string(folder.join("installed")).is_ok_and(|installed| installed == wanted)
}

/// Last, so that a broken installation is made again.
fn note_installed(folder: &Path, wanted: &str) -> Result<()> {
    fs::write(folder.join("installed"), wanted).context("the installation cannot be noted")
}

fn in_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Shows output only where the command fails.
pub(crate) fn quietly(command: &mut Command, hint: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} does not run\n{hint}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        bail!("{name} failed: {}\n{hint}", said.trim());
    }
    Ok(())
}
