//! Files: bounded reads of regular files, and results that appear whole or not at all, never over another.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Fault, Result};

/// The longest component that a room accepts.
pub(crate) const COMPONENT_BYTES_MAX: u64 = 8 << 20;
/// The longest of everything else: manifests, agreements, approvals, answers.
pub(crate) const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Reads a whole regular file of at most `max` bytes.
pub(crate) fn read(path: &Path, max: u64) -> Result<Vec<u8>> {
    let bytes = read_bounded(path, max).map_err(|error| {
        Fault::new(
            Code::FileUnreadable,
            format!("cannot read {}: {error}", path.display()),
            "name a regular file that is not a symlink",
        )
    })?;
    if bytes.len() as u64 > max {
        return Err(Fault::new(
            Code::Oversize,
            format!("{} is longer than {max} bytes", path.display()),
            "a question is at most 8 MiB, everything else at most 1 MiB",
        ));
    }
    Ok(bytes)
}

fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // A link in a folder that someone else made could send a file of this host to a registry, and a pipe would wait.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that is too long is noticed.
    file.take(max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Refuses a path at which something is, before any work is done for it.
pub(crate) fn must_not_exist(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() { Err(exists(path)) } else { Ok(()) }
}

/// Writes a new file, whole and durable.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error: &io::Error| write_failed(path, error);
    let folder = parent(path);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|error| failed(&error))?;
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => failed(&error.error),
    })?;
    sync_dir(folder).map_err(|error| failed(&error))
}

/// Writes a new folder with these files, named by their paths in it: all of them, or nothing.
///
/// The caller has made sure that no path leads out of the folder.
pub(crate) fn write_new_folder(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    must_not_exist(folder)?;
    let failed = |error: io::Error| write_failed(folder, &error);
    let above = parent(folder);
    let staged = tempfile::Builder::new().prefix(".glovebox-").tempdir_in(above).map_err(failed)?;
    for (path, bytes) in files {
        stage(staged.path(), path, bytes).map_err(failed)?;
    }
    fs::set_permissions(staged.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    sync_dir(staged.path()).map_err(failed)?;
    // One rename publishes everything. It fails where a file, a link or a folder with anything in it is by now.
    fs::rename(staged.path(), folder).map_err(|error| match folder.symlink_metadata() {
        Ok(_) => exists(folder),
        Err(_) => failed(error),
    })?;
    let _ = staged.keep();
    sync_dir(above).map_err(failed)
}

fn stage(folder: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(path);
    let above = parent(&path);
    fs::create_dir_all(above)?;
    let mut file = File::create_new(&path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_dir(above)
}

/// The folder of a path; a bare name is in the current one.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a new name durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn exists(path: &Path) -> Fault {
    Fault::new(Code::FileExists, format!("{} exists", path.display()), "name a place where nothing is yet")
}

fn write_failed(path: &Path, error: &io::Error) -> Fault {
    Fault::new(
        Code::WriteFailed,
        format!("cannot write {}: {error}", path.display()),
        "check that its folder exists, can be written to, and has room",
    )
}

/// The regular files of a folder whose names end so, sorted by name.
pub(crate) fn list(folder: &Path, suffix: &str) -> Result<Vec<(String, PathBuf)>> {
    let unreadable = |error: io::Error| {
        Fault::new(
            Code::FileUnreadable,
            format!("cannot list {}: {error}", folder.display()),
            "name the agreement's folder",
        )
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if let Ok(name) = entry.file_name().into_string()
            && name.ends_with(suffix)
        {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_written_whole_or_not_at_all_and_never_over_another() {
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().join("new");
        let files = [("a".to_owned(), b"1".to_vec()), ("b/c".to_owned(), b"2".to_vec())];
        write_new_folder(&folder, &files).unwrap();
        assert_eq!(fs::read(folder.join("b/c")).unwrap(), b"2");
        assert_eq!(write_new_folder(&folder, &files).unwrap_err().code(), Code::FileExists);

        let twice = [("a".to_owned(), vec![]), ("a".to_owned(), vec![])];
        assert_eq!(write_new_folder(&room.path().join("other"), &twice).unwrap_err().code(), Code::WriteFailed);
        let left: Vec<_> = fs::read_dir(room.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn links_pipes_folders_and_long_files_are_not_read() {
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("file");
        write_new(&file, b"12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert_eq!(read(&file, 4).unwrap_err().code(), Code::Oversize);
        assert_eq!(write_new(&file, b"").unwrap_err().code(), Code::FileExists);
        let link = room.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for wrong in [link.as_path(), room.path(), Path::new("/dev/null"), Path::new("nowhere")] {
            assert_eq!(read(wrong, 5).unwrap_err().code(), Code::FileUnreadable, "{wrong:?}");
        }
    }
}
