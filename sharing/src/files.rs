//! Files of the owner: read when they are private and of bounded length, written whole, durable and private.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::{Code, Fault, Result};

/// The longest file with settings or a record.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Reads a text that nobody but its owner may read or write.
pub(crate) fn read_private(path: &Path) -> Result<String> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    // Whoever may write it decides who sees what; whoever may read it has digests of tokens, or a token.
    if metadata.mode() & 0o077 != 0 {
        return Err(Fault::new(
            Code::FileExposed,
            format!("{} can be read or written by others than its owner", path.display()),
            format!("chmod 600 {}", path.display()),
        ));
    }
    let mut text = String::new();
    // One byte more than allowed, so that a file that is too long is noticed.
    file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(unreadable(path, &io::Error::other(format!("it is longer than {TEXT_BYTES_MAX} bytes"))));
    }
    Ok(text)
}

/// Opens a regular file for reading: no symlink in its last part, and no pipe to wait for.
pub(crate) fn open(path: &Path) -> Result<File> {
    let is_file = fs::symlink_metadata(path).map_err(|error| unreadable(path, &error))?.is_file();
    if !is_file {
        return Err(unreadable(path, &io::Error::other("it is not a regular file")));
    }
    File::open(path).map_err(|error| unreadable(path, &error))
}

/// Makes a folder that only its owner may enter, with those above it.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    let make = || {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    };
    make().map_err(|error| write_failed(path, &error))
}

/// Writes a new private file, whole and durable. What is there stays.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let staged = stage(path, bytes)?;
    staged.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => {
            Fault::new(Code::FileExists, format!("{} exists", path.display()), "name a place where nothing is yet")
        }
        _ => write_failed(path, &error.error),
    })?;
    sync_folder(parent(path))
}

/// Puts a private file in the place of another, whole and durable.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    stage(path, bytes)?.persist(path).map_err(|error| write_failed(path, &error.error))?;
    sync_folder(parent(path))
}

/// Opens a private file to append to; makes it where it is missing.
pub(crate) fn append(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    opened.map_err(|error| write_failed(path, &error))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| write_failed(path, &error))
}

/// A temporary file is private from the beginning.
fn stage(path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(parent(path))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    write().map_err(|error| write_failed(path, &error))
}

/// The folder of a path; a bare name is in the current one.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(
        Code::FileUnreadable,
        format!("cannot read {}: {error}", path.display()),
        "name a regular file that is not a symlink",
    )
}

/// A file of the state that is open and cannot be read.
pub(crate) fn read_failed(error: &io::Error) -> Fault {
    Fault::new(Code::StateFailed, format!("a file cannot be read: {error}"), "check the disk of the state folder")
}

pub(crate) fn write_failed(path: &Path, error: &io::Error) -> Fault {
    Fault::new(
        Code::WriteFailed,
        format!("cannot write {}: {error}", path.display()),
        "check that its folder exists, can be written to, and has room",
    )
}
