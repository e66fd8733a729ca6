//! Memory that the host writes and a worker reads.
//!
//! The one place where the sandbox maps memory. It is sound because no one can write what another reads at the time:
//! before the region is handed on, it is sealed against growing, shrinking and any further writable mapping, so the
//! host's is the only one; and the host writes only between two calls of a worker, which then reads nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// The host's side.
#[derive(Debug)]
pub(crate) struct Region {
    file: OwnedFd,
    memory: MmapMut,
}

impl Region {
    /// A region of so many bytes; none of them takes memory until it is written.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let file = memfd_create("glovebox-units", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, bytes as u64)?;
        let memory = map_writable(&file, bytes)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        Ok(Self { file, memory })
    }

    /// What to hand to the worker.
    pub(crate) fn file(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

/// The worker's side.
#[derive(Debug)]
pub(crate) struct View(Mmap);

impl View {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        map_readable(file).map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[expect(unsafe_code, reason = "no other mapping of the file exists yet, and the seals let none be made that writes")]
fn map_writable(file: &OwnedFd, bytes: usize) -> io::Result<MmapMut> {
    unsafe { MmapOptions::new().len(bytes).map_mut(file) }
}

#[expect(unsafe_code, reason = "the host, which alone can write, does not while this side reads")]
fn map_readable(file: &File) -> io::Result<Mmap> {
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let mut region = Region::new(1 << 20).unwrap();
        let view = View::of(&File::from(region.file().unwrap())).unwrap();
        region.bytes()[4095..4098].copy_from_slice(b"abc");
        assert_eq!(&view.bytes()[4095..4098], b"abc");
        assert_eq!(view.bytes().len(), 1 << 20);
    }

    /// A worker that a guest has taken over can write nothing that the host, or anyone else, would read.
    #[test]
    fn the_other_side_cannot_write() {
        let region = Region::new(4096).unwrap();
        let file = File::from(region.file().unwrap());
        #[expect(unsafe_code, reason = "the mapping must not come about")]
        let mapped = unsafe { MmapOptions::new().map_mut(&file) };
        assert!(mapped.is_err(), "a second writable mapping");
        let written = io::Write::write(&mut &file, b"x");
        assert!(written.is_err(), "a write to the file");
        assert!(file.set_len(0).is_err() && file.set_len(8192).is_err(), "another length");
    }
}
