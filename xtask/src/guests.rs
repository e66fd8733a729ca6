//! Builds the example questions into components, byte for byte the same from any folder.
//!
//! A question that is a register kernel as well is compiled twice, and carries the second module in the first.
//!
//! It finds a toolchain, calls its cargo with a clean environment, checks what came out and keeps it by a digest over
//! everything that went in, so that an unchanged tree costs nothing and a changed one is never stale. It never touches
//! global configuration and never hands out a component that imports anything.

mod inspect;
mod kernel;
mod stamp;
mod toolchain;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use stamp::Stamp;
use toolchain::{Std, Toolchain};

/// The target of every question; it has no operating system, so nothing to import.
const TARGET: &str = "wasm32-unknown-unknown";

/// Makes a crate's identity independent of the folder it lies in.
const WRAPPER: &str = include_str!("guests/wrapper.sh");

/// A finished question.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "read by the tasks that run the questions"))]
pub(crate) struct Built {
    /// The folder's name, which is the package's and the question's.
    pub(crate) name: String,
    pub(crate) component: PathBuf,
    pub(crate) manifest: PathBuf,
    /// Of the component, in hex.
    pub(crate) sha256: String,
    pub(crate) size_bytes: usize,
}

/// Builds every question of `root/guest-examples` into `out/<name>.wasm` and `out/<name>.toml`.
pub(crate) fn build(root: &Path, out: &Path) -> Result<Vec<Built>> {
    let root = root.canonicalize().with_context(|| format!("{} is not a folder", root.display()))?;
    let names = names(&root)?;
    let toolchain = toolchain::find()?;
    let flags = Flags::new(&root, &toolchain)?;
    let inputs = stamp::digest_of_inputs(&root, &toolchain, &flags.all())?;

    if Stamp::read(out).is_some_and(|stamp| stamp.holds(&inputs, out, &names)) {
        return names.iter().map(|name| describe(name, out)).collect();
    }
    eprintln!("building {} questions with {}", names.len(), toolchain.summary());
    let workspace = root.join("target/guest");
    let folder =
        compile(&root, &toolchain, Cargo { target: &workspace, flags: flags.component(), of: Of::Components })?;
    fs::create_dir_all(out).with_context(|| format!("{} cannot be created", out.display()))?;
    Stamp::remove(out)?;
    for name in &names {
        let component = folder.join(format!("{}.wasm", name.replace('-', "_")));
        let mut bytes = fs::read(&component).with_context(|| format!("cargo wrote no {}", component.display()))?;
        if kernel::is_kernel(&root, name)? {
            let target = workspace.join("kernels");
            let folder =
                compile(&root, &toolchain, Cargo { target: &target, flags: flags.kernel(), of: Of::Kernel(name) })?;
            let module = folder.join(format!("{}.wasm", name.replace('-', "_")));
            let module = fs::read(&module).with_context(|| format!("cargo wrote no {}", module.display()))?;
            kernel::put(&mut bytes, &module)?;
        }
        inspect::require_sealed(&bytes).with_context(|| format!("question {name} cannot be used"))?;
        replace(&out.join(format!("{name}.wasm")), &bytes)?;
        replace(&out.join(format!("{name}.toml")), &fs::read(manifest_of(&root, name))?)?;
    }
    // Last, and only if no source changed meanwhile: otherwise the next call builds again.
    if stamp::digest_of_inputs(&root, &toolchain, &flags.all())? == inputs {
        Stamp::write(out, &inputs, &names)?;
    }
    names.iter().map(|name| describe(name, out)).collect()
}

/// The folders of `guest-examples` that hold a manifest, sorted.
fn names(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("guest-examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if manifest_of(root, &name).is_file() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn manifest_of(root: &Path, name: &str) -> PathBuf {
    root.join("guest-examples").join(name).join("question.toml")
}

/// Compiler flags for the questions and for the standard library alike.
struct Flags {
    both: Vec<String>,
    component: Vec<String>,
    kernel: Vec<String>,
}

impl Flags {
    fn new(root: &Path, toolchain: &Toolchain) -> Result<Self> {
        let source = toolchain.library_source();
        let mut remapped = vec![(root.to_path_buf(), "/glovebox"), (toolchain::cargo_home()?, "/cargo")];
        // Debian's is a link: the compiler names the one path or the other.
        remapped.extend(source.canonicalize().ok().map(|resolved| (resolved, "/rust")));
        remapped.push((source, "/rust"));

        let mut both: Vec<String> =
            remapped.into_iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
        // cargo does not look into the wrapper: without this it would keep what another wrapper has built.
        both.push(format!("--cfg=glovebox_wrapper_{}", &stamp::sha256_hex(WRAPPER.as_bytes())[..16]));
        let component = vec![
            format!("-Clink-arg=--wasm-ld-path={}", toolchain.linker.wasm_ld.display()),
            // No adapter: a question that would need WASI does not link, instead of importing it.
            "-Clink-arg=--wasi-adapter=none".into(),
            // 32 KiB instead of 1 MiB, and 64 KiB of heap behind the data: the whole memory of a short question, 128 KiB,
            // lies in the part that the host resets by copying, so that no instance costs a system call or a page fault. A
            // question that needs more stack overflows into a trap, not into its data: the stack comes first in memory.
            "-Clink-arg=-zstack-size=32768".into(),
            "-Clink-arg=--stack-first".into(),
            "-Clink-arg=--initial-heap=65536".into(),
            // The host takes no memory without a maximum. A gigabyte is more than parties agree to for one unit.
            "-Clink-arg=--max-memory=1073741824".into(),
        ];
        // A table that a `match` is looked up in would be memory, of which a kernel has none.
        Ok(Self { both, component, kernel: vec!["-Cjump-tables=no".into()] })
    }

    fn component(&self) -> String {
        [self.both.as_slice(), &self.component].concat().join("\x1f")
    }

    fn kernel(&self) -> String {
        [self.both.as_slice(), &self.kernel].concat().join("\x1f")
    }

    fn all(&self) -> Vec<String> {
        [self.both.as_slice(), &self.component, &self.kernel].concat()
    }
}

/// One call of cargo.
struct Cargo<'a> {
    target: &'a Path,
    flags: String,
    of: Of<'a>,
}

enum Of<'a> {
    Components,
    /// The register kernel of one question.
    Kernel(&'a str),
}

/// Runs cargo; returns the folder of what it has finished.
fn compile(root: &Path, toolchain: &Toolchain, Cargo { target, flags, of }: Cargo<'_>) -> Result<PathBuf> {
    let wrapper = write_wrapper(target)?;
    let mut cargo = Command::new(&toolchain.cargo);
    cargo.args(["build", "--release", "--locked", "--quiet", "--target", TARGET]);
    let (linker, library) = match of {
        Of::Components => {
            cargo.arg("--workspace");
            (&toolchain.linker.component_ld, "std,panic_abort")
        }
        Of::Kernel(name) => {
            cargo.args(["--package", name, "--no-default-features"]);
            (&toolchain.linker.lld, "core,panic_abort")
        }
    };
    cargo.current_dir(root.join("guest-examples"));
    toolchain::clean_environment(&mut cargo);
    cargo
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_WRAPPER", &wrapper)
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        .env("GLOVEBOX_ROOT", root)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
        .env("SOURCE_DATE_EPOCH", "0")
        // Some hash tables draw their seed at compile time.
        .env("CONST_RANDOM_SEED", "glovebox");
    if toolchain.std == Std::FromSource {
        // The standard library can only be built with unstable flags; the questions themselves use none.
        cargo.arg(format!("-Zbuild-std={library}")).env("RUSTC_BOOTSTRAP", "1");
    }
    let status = cargo.status().with_context(|| format!("{} does not run", toolchain.cargo.display()))?;
    if !status.success() {
        bail!("the questions do not compile\nfix what cargo says above, then run `cargo xtask guests` again");
    }
    Ok(target.join(TARGET).join("release"))
}

/// Puts the wrapper where cargo can call it.
fn write_wrapper(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("rustc-wrapper");
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be created", folder.display()))?;
    replace(&path, WRAPPER.as_bytes())?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))
        .with_context(|| format!("{} cannot be made executable", path.display()))?;
    Ok(path)
}

/// Replaces a file as a whole, so that no reader sees half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    fs::write(&draft, bytes).with_context(|| format!("{} cannot be written", draft.display()))?;
    fs::rename(&draft, path).with_context(|| format!("{} cannot be replaced", path.display()))
}

/// Says one line about a finished question.
fn describe(name: &str, out: &Path) -> Result<Built> {
    let component = out.join(format!("{name}.wasm"));
    let bytes = fs::read(&component)?;
    let sha256 = stamp::sha256_hex(&bytes);
    eprintln!("{name:<16} {:>7} bytes  sha256 {}", bytes.len(), &sha256[..16]);
    let manifest = out.join(format!("{name}.toml"));
    Ok(Built { name: name.to_owned(), component, manifest, sha256, size_bytes: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build reads. The other members' manifests are not among it.
    const READ: [&str; 3] = ["Cargo.toml", "sdk", "guest-examples"];

    /// Also proves that the toolchain is found and that every component imports nothing: `build` checks it.
    #[test]
    fn components_are_the_same_from_another_folder_and_a_clean_start() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout");
        let elsewhere = tempfile::tempdir().expect("a temporary folder");
        let copy = elsewhere.path().join("a checkout with a much longer path, and spaces in it");
        for name in READ {
            copy_tree(&here.join(name), &copy.join(name));
        }
        let first = build(here, &here.join("target/questions")).expect("the checkout builds");
        let second = build(&copy, &copy.join("out")).expect("the copy builds");
        let digests = |built: &[Built]| -> Vec<_> {
            built.iter().map(|built| (built.name.clone(), built.size_bytes, built.sha256.clone())).collect()
        };
        assert_eq!(digests(&first), digests(&second));
        for built in second {
            assert_eq!(
                fs::read(&built.manifest).expect("read"),
                fs::read(manifest_of(here, &built.name)).expect("read")
            );
            assert_no_path(&fs::read(&built.component).expect("read"), here);
        }
    }

    fn copy_tree(from: &Path, to: &Path) {
        if from.is_file() {
            fs::create_dir_all(to.parent().expect("a parent")).expect("create");
            fs::copy(from, to).expect("copy");
            return;
        }
        for entry in fs::read_dir(from).expect("read").map(|entry| entry.expect("entry")) {
            if entry.file_name() != "target" {
                copy_tree(&entry.path(), &to.join(entry.file_name()));
            }
        }
    }

    fn assert_no_path(bytes: &[u8], path: &Path) {
        let path = path.to_str().expect("UTF-8").as_bytes();
        assert!(
            !bytes.windows(path.len()).any(|window| window == path),
            "a component names the folder it was built in"
        );
    }
}
