//! Private keys as Ed25519 PKCS#8 PEM files, readable by their owner alone.

use std::path::Path;

use cap_std::fs::Dir;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};

use super::registry::{KeyHolder, Registry};
use super::{REGISTRY_FILE, read_registry};
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::privacy::Ledger;
use crate::random::Random;

/// A private key in memory. It has no way to print itself.
pub struct SigningKey(pub(crate) ed25519_dalek::SigningKey);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

const KEY_BYTES_MAX: u64 = 4096;

/// Makes a key pair: the private key goes to a new file, the public key into the room's registry.
pub fn new_key(dir: &Dir, holder: &KeyHolder, path: &Path, random: &mut Random) -> Result<()> {
    holder.check()?;
    let is_new_room = !dir.exists(REGISTRY_FILE);
    let registry = if is_new_room { Registry::empty() } else { read_registry(dir)?.registry };
    if registry.knows(holder) {
        return Err(Fault::new(
            Code::KeyExists,
            format!("{holder} has a key in {REGISTRY_FILE} already"),
            "make one under another name, and let the parties agree on the changed registry",
        ));
    }
    let key = ed25519_dalek::SigningKey::from_bytes(&random.bytes());
    let registry = registry.with(holder, &key.verifying_key())?.to_bytes()?;
    // Without the public key beside the private one: OpenSSL before 3.2 does not read that newer form.
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(|error| unwritable(path, &error))?;

    let (folder, name) = split(path)?;
    std::fs::create_dir_all(folder).map_err(|error| unwritable(path, &error))?;
    let folder = files::open_dir(folder).map_err(|error| unwritable(path, &error))?;
    files::write(&folder, name, pem.as_bytes(), Existing::Refuse).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Fault::new(Code::KeyExists, format!("{} is there already", path.display()), "name another file with --key")
        }
        _ => unwritable(path, &error),
    })?;
    if is_new_room {
        Ledger::create(dir)?;
    }
    files::write(dir, REGISTRY_FILE, &registry, Existing::Replace).map_err(|error| unwritable(path, &error))
}

/// Reads a private key.
pub fn load_key(path: &Path) -> Result<SigningKey> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Fault::new(
            Code::KeyUnreadable,
            format!("cannot read the key {}: {why}", path.display()),
            "make one with `glovebox key new`",
        )
    };
    let (folder, name) = split(path)?;
    let folder = files::open_dir(folder).map_err(|error| unreadable(&error))?;
    let bytes = files::read(&folder, name, KEY_BYTES_MAX).map_err(|error| unreadable(&error))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| unreadable(&error))?;
    ed25519_dalek::SigningKey::from_pkcs8_pem(text).map(SigningKey).map_err(|error| unreadable(&error))
}

/// The folder and the name of a key file.
fn split(path: &Path) -> Result<(&Path, &str)> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(Fault::new(
            Code::KeyUnreadable,
            format!("{} is not a file name", path.display()),
            "name a file with --key",
        ));
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok((folder.unwrap_or(Path::new(".")), name))
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(
        Code::KeyUnreadable,
        format!("cannot write the key {}: {error}", path.display()),
        "name a file in a folder that you can write to with --key",
    )
}
