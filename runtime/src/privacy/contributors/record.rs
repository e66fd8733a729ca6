//! The file of one run: a line with the version, a line of JSON, the hashes of each set as 8 bytes with the lowest first,
//! and the SHA-256 of everything before it. The last set is that of the whole.

use std::io::{self, BufWriter, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FILE_BYTES_MAX, Release, SetKind};

const VERSION: &[u8] = b"glovebox contributors 1\n";
const TRAILER: usize = 32;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    run: String,
    recipient: String,
    kind: SetKind,
    lineages: Vec<String>,
    sets: Vec<SetHeader>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetHeader {
    label: Option<String>,
    units: u64,
}

/// A file as it was read. The hashes stay in it.
pub(super) struct Record {
    header: Header,
    bytes: Vec<u8>,
    start: usize,
}

impl Record {
    pub(super) fn parse(mut bytes: Vec<u8>) -> io::Result<Self> {
        let length = bytes.len().checked_sub(TRAILER).ok_or_else(|| io::Error::other("it is cut short"))?;
        if *Sha256::digest(&bytes[..length]) != bytes[length..] {
            return Err(io::Error::other("it is not what was written"));
        }
        bytes.truncate(length);
        let rest = bytes.strip_prefix(VERSION).ok_or_else(|| io::Error::other("it is of another version"))?;
        let line = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| io::Error::other("it has no header"))?;
        let header: Header = serde_json::from_slice(&rest[..line])?;
        let start = VERSION.len() + line + 1;
        let units = header.sets.iter().try_fold(0u64, |sum, set| sum.checked_add(set.units));
        if units.and_then(|units| units.checked_mul(8)) != Some((length - start) as u64) {
            return Err(io::Error::other("its sets are not as long as it says"));
        }
        Ok(Self { header, bytes, start })
    }

    /// The SHA-256 that ends the file.
    pub(super) fn sha256(&self) -> [u8; TRAILER] {
        Sha256::digest(&self.bytes).into()
    }

    pub(super) fn run(&self) -> &str {
        &self.header.run
    }

    pub(super) fn lineages(&self) -> &[String] {
        &self.header.lineages
    }

    /// The hashes of each set.
    pub(super) fn sets(&self) -> impl Iterator<Item = impl ExactSizeIterator<Item = u64>> {
        let (mut hashes, _) = self.bytes[self.start..].as_chunks::<8>();
        self.header.sets.iter().map(move |set| {
            // The lengths were checked when the file was read.
            let (these, others) = hashes.split_at((set.units as usize).min(hashes.len()));
            hashes = others;
            these.iter().map(|hash| u64::from_le_bytes(*hash))
        })
    }
}

/// Returns the SHA-256 that ends the file.
pub(super) fn write(release: &Release, file: impl Write) -> io::Result<[u8; TRAILER]> {
    let mut out = Hashed { out: BufWriter::new(file), hash: Sha256::new(), length: 0 };
    out.write_all(VERSION)?;
    out.write_all(&serde_json::to_vec(&header(release))?)?;
    out.write_all(b"\n")?;
    for digest in release.sets().flat_map(|(_, set)| set.iter()) {
        out.write_all(&digest.to_le_bytes())?;
    }
    out.finish()
}

fn header(release: &Release) -> Header {
    let labels = release.groups.iter().map(|group| group.label.clone()).chain(std::iter::once(None));
    let set = |(label, (_, digests)): (_, (_, &super::Digests))| SetHeader { label, units: digests.len() as u64 };
    Header {
        run: release.run.clone(),
        recipient: release.recipient.clone(),
        kind: release.kind,
        lineages: release.lineages.clone(),
        sets: labels.zip(release.sets()).map(set).collect(),
    }
}

/// Hashes what it writes, and writes nothing that could not be read again.
struct Hashed<W: Write> {
    out: BufWriter<W>,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Hashed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        if self.length + TRAILER as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("it would be longer than {FILE_BYTES_MAX} bytes")));
        }
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }

    fn finish(mut self) -> io::Result<[u8; TRAILER]> {
        let hash: [u8; TRAILER] = self.hash.finalize().into();
        self.out.write_all(&hash)?;
        self.out.flush()?;
        Ok(hash)
    }
}
