//! Private keys as Ed25519 PKCS#8 PEM files, readable by their owner alone.

use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use glovebox_trust::keys::SigningKey;

use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};

const KEY_BYTES_MAX: u64 = 4096;

/// Writes a private key to a new file.
pub(super) fn store(path: &Path, key: &SigningKey) -> Result<()> {
    // Without the public key beside the private one: OpenSSL before 3.2 does not read that newer form.
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(|error| unwritable(path, &error))?;
    let (folder, name) = split(path)?;
    std::fs::create_dir_all(folder).map_err(|error| unwritable(path, &error))?;
    let folder = files::open_dir(folder).map_err(|error| unwritable(path, &error))?;
    files::write(&folder, name, pem.as_bytes(), Existing::Refuse).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Fault::new(
            Code::KeyExists,
            format!("{} is there already", path.display()),
            "name another file with --key; a key that no registry has yet is put there with `key public` and `key add`",
        ),
        _ => unwritable(path, &error),
    })
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
    let bytes = read(path).map_err(|error| unreadable(&error))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| unreadable(&error))?;
    let key = ed25519_dalek::SigningKey::from_pkcs8_pem(text).map_err(|error| unreadable(&error))?;
    Ok(SigningKey::from_bytes(&key.to_bytes()))
}

/// Reads a key file by its ordinary path.
pub(super) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let (folder, name) = split(path).map_err(std::io::Error::other)?;
    files::read(&files::open_dir(folder)?, name, KEY_BYTES_MAX)
}

/// The folder and the name of a key file.
pub(crate) fn split(path: &Path) -> Result<(&Path, &str)> {
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
