//! Files of a room, through one directory handle: bounded reads, no symlinks, all-or-nothing writes.
//!
//! Nothing here ever opens a path twice between check and use, or follows a link out of the room.

use std::io::{self, Read, Write};
use std::path::Path;

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};

/// Opens a directory by an ordinary path: the one place where ambient authority is used.
pub(crate) fn open_dir(path: &Path) -> io::Result<Dir> {
    Dir::open_ambient_dir(path, ambient_authority())
}

/// Opens a regular file for reading. No part of the path may be a symlink, also none that stays inside the room: it
/// could lead from one party's folder into another's.
pub(crate) fn open_file(dir: &Dir, path: &str) -> io::Result<File> {
    let (folder, name) = open_parent(dir, path, Missing::Fail)?;
    let mut options = OpenOptions::new();
    // Opening a pipe must not wait for its other end.
    options.read(true).follow(FollowSymlinks::No).nonblock(true);
    let file = folder.open_with(name, &options)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// Opens a folder, part by part, without following any symlink.
pub(crate) fn open_folder(dir: &Dir, path: &str) -> io::Result<Dir> {
    let (parent, name) = open_parent(dir, path, Missing::Fail)?;
    parent.open_dir_nofollow(name)
}

/// Opens a file to lock it; makes it where it is missing.
pub(crate) fn open_lock(dir: &Dir, path: &str) -> io::Result<std::fs::File> {
    let (folder, name) = open_parent(dir, path, Missing::Create)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).follow(FollowSymlinks::No).mode(0o600);
    Ok(folder.open_with(name, &options)?.into_std())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fail,
    Create,
}

/// The folder of a path, opened part by part, and the name in it.
fn open_parent<'a>(dir: &Dir, path: &'a str, missing: Missing) -> io::Result<(Dir, &'a str)> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut folder = dir.try_clone()?;
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        if missing == Missing::Create && !folder.exists(part) {
            create_folder(&folder, part)?;
        }
        if folder.symlink_metadata(part)?.is_symlink() {
            return Err(io::Error::other("a folder on the way is a symlink"));
        }
        // Checked once more by the system: the name may mean something else by now.
        folder = folder.open_dir_nofollow(part)?;
    }
    Ok((folder, name))
}

/// Makes a folder, durably. Another process may make the same one at the same time.
fn create_folder(parent: &Dir, name: &str) -> io::Result<()> {
    match parent.create_dir(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync_dir(parent)),
    }
}

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

/// The names in a folder that have an ending, in order. No part of the path may be a symlink.
pub(crate) fn list(dir: &Dir, folder: &str, ending: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in open_folder(dir, folder)?.entries()? {
        match entry?.file_name().to_str() {
            Some(name) if name.ends_with(ending) && !name.starts_with('.') => names.push(name.to_owned()),
            _ => {}
        }
    }
    names.sort();
    Ok(names)
}

/// The names of all that lies in a folder but for folders and hidden files, in order; cut after so many.
pub(crate) fn list_all(folder: &Dir, max: usize) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in folder.entries()? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| io::Error::other("a name in it is not UTF-8"))?;
        if !name.starts_with('.') && !entry.file_type()?.is_dir() {
            names.push(name);
        }
        if names.len() == max {
            break;
        }
    }
    names.sort();
    Ok(names)
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
        let (folder, name) = open_parent(dir, path, Missing::Create)?;
        let (temporary, mut file) = create_temporary(&folder, name)?;
        let staged = Self { folder, temporary, name: name.to_owned() };
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
        sync_dir(&self.folder).inspect_err(|_| {
            // What is not known to be durable is not there: the caller reports a failure.
            let _ = self.folder.remove_file(&self.name);
        })
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

/// Makes the names in a folder durable.
fn sync_dir(dir: &Dir) -> io::Result<()> {
    dir.open(".")?.sync_all()
}
