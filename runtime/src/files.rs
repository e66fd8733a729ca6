//! Files of a room, through one directory handle: bounded reads, no symlinks, all-or-nothing writes.
//!
//! Nothing here ever opens a path twice between check and use, or follows a link out of the room.

use std::io::{self, Read, Write};
use std::path::Path;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};

/// Opens a directory by an ordinary path: the one place where ambient authority is used.
pub(crate) fn open_dir(path: &Path) -> io::Result<Dir> {
    Dir::open_ambient_dir(path, ambient_authority())
}

/// Opens a regular file for reading.
pub(crate) fn open_file(dir: &Dir, path: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // A fifo would block the open for ever; without blocking it opens and is refused below.
    options.read(true).follow(FollowSymlinks::No).custom_flags(NONBLOCK);
    let file = dir.open_with(path, &options)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// `O_NONBLOCK` on Linux.
const NONBLOCK: i32 = 0o4000;

/// Reads a whole regular file of at most `max` bytes.
pub(crate) fn read(dir: &Dir, path: &str, max: u64) -> io::Result<Vec<u8>> {
    let file = open_file(dir, path)?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that grows while it is read is noticed as well.
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("longer than {max} bytes")));
    }
    Ok(bytes)
}

/// Whether a file may take the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// An existing file of that name is an error.
    Refuse,
    /// An existing file of that name is replaced.
    Replace,
}

/// Writes a file so that it is there whole and durable, or not at all.
pub(crate) fn write(dir: &Dir, path: &str, bytes: &[u8], existing: Existing) -> io::Result<()> {
    write_with(dir, path, existing, |file| file.write_all(bytes))
}

/// Like [`write`], with the content written by `fill`.
pub(crate) fn write_with(
    dir: &Dir,
    path: &str,
    existing: Existing,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let staged = Staged::create(dir, path, fill)?;
    staged.publish(existing)
}

/// A complete and durable file that no one can see under its name yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: Dir,
    temporary: String,
    name: String,
}

impl Staged {
    /// Writes and syncs the content under a temporary name in the folder of `path`.
    pub(crate) fn create(dir: &Dir, path: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<Self> {
        let (folder, name) = split(dir, path)?;
        let (temporary, mut file) = create_temporary(&folder, &name)?;
        let staged = Self { folder, temporary, name };
        fill(&mut file)?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Gives the file its name.
    pub(crate) fn publish(self, existing: Existing) -> io::Result<()> {
        match existing {
            Existing::Replace => self.folder.rename(&self.temporary, &self.folder, &self.name)?,
            // A hard link fails where the name exists: no moment between check and use.
            Existing::Refuse => self.folder.hard_link(&self.temporary, &self.folder, &self.name)?,
        }
        sync_dir(&self.folder)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove, and a leftover is harmless: it has no name of a result.
        let _ = self.folder.remove_file(&self.temporary);
    }
}

/// A new file of a name that no one else has: what a killed process left behind must not stand in the way.
fn create_temporary(folder: &Dir, name: &str) -> io::Result<(String, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut attempt = 0u32;
    loop {
        let temporary = format!(".{name}.{}-{attempt}.tmp", std::process::id());
        match folder.open_with(&temporary, &options) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1_000 => attempt += 1,
            opened => return opened.map(|file| (temporary, file)),
        }
    }
}

fn split(dir: &Dir, path: &str) -> io::Result<(Dir, String)> {
    match path.rsplit_once('/') {
        Some((folder, name)) => {
            dir.create_dir_all(folder)?;
            Ok((dir.open_dir(folder)?, name.to_owned()))
        }
        None => Ok((dir.try_clone()?, path.to_owned())),
    }
}

/// Makes a rename durable.
fn sync_dir(dir: &Dir) -> io::Result<()> {
    dir.open(".")?.sync_all()
}
