//! The files of one view, opened once, as an object store for DataFusion.
//!
//! Guards the way to the file system: a file is opened through the room's directory handle before planning and never
//! by path again, so that what was checked is what is read. The store knows its files by number, not by path. It must
//! never write, and never serve anything but these files.

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use cap_std::fs::File;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde::{Deserialize, Serialize};
use sha2::Digest;

/// How much of a file a streamed read holds at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// The room's files are served under this URL, and no other URL is.
pub(super) const URL: &str = "room://view";

/// A file's identity and times. Whoever changes a file's content cannot set the time of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    file: (u64, u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        let file = (metadata.dev(), metadata.ino(), metadata.len());
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { file, modified, changed: (metadata.ctime(), metadata.ctime_nsec()) }
    }
}

/// A regular file of the room, open for reading.
pub(super) struct SourceFile {
    file: std::fs::File,
    size: u64,
    modified: SystemTime,
    opened: Stamp,
}

impl SourceFile {
    /// Takes over an open file.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let file = file.into_std();
        let metadata = file.metadata()?;
        Ok(Self { size: metadata.len(), modified: metadata.modified()?, opened: Stamp::of(&metadata), file })
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// What tells this file, as it is now, from any other, and from itself with other content.
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        self.file.metadata().map(|metadata| Stamp::of(&metadata))
    }

    /// SHA-256 of the whole file.
    pub(super) fn sha256(&self) -> io::Result<String> {
        let mut digest = sha2::Sha256::new();
        let mut buffer = vec![0; CHUNK_BYTES as usize];
        let mut offset = 0;
        while offset < self.size {
            let read = self.read_at(&mut buffer, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            digest.update(&buffer[..read]);
            offset += read as u64;
        }
        Ok(data_encoding::HEXLOWER.encode(&digest.finalize()))
    }

    /// Reads at a position, without moving any shared cursor.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// The footer of a Parquet file, if it can be read.
    pub(super) fn parquet_metadata(&self) -> Option<ParquetMetaData> {
        // It moves the handle's own cursor, which nobody else goes by.
        ParquetMetaDataReader::new().parse_and_finish(&self.file).ok()
    }

    /// Whether the file still is what it was when it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        self.stamp().is_ok_and(|now| now == self.opened)
    }

    fn read_range(&self, range: Range<u64>) -> io::Result<Bytes> {
        // The bound keeps a forged length in a file's footer from becoming an allocation.
        if range.start > range.end || range.end > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, range.start)?;
        Ok(buffer.into())
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceFile")
    }
}

/// Serves the files of one view as `0`, `1`, .. with the ending of their format.
pub(super) struct Folder {
    files: Vec<(Path, Arc<SourceFile>)>,
}

impl Folder {
    pub(super) fn new(files: impl IntoIterator<Item = (String, Arc<SourceFile>)>) -> Self {
        Self { files: files.into_iter().map(|(name, file)| (Path::from(name), file)).collect() }
    }

    fn find(&self, location: &Path) -> Result<&Arc<SourceFile>> {
        let found = self.files.iter().find(|(path, _)| path == location);
        found
            .map(|(_, file)| file)
            .ok_or_else(|| Error::NotFound { path: location.to_string(), source: "not a source of the view".into() })
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let file = self.find(location)?;
        let meta = meta(location, file);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(generic)?,
            None => 0..meta.size,
        };
        let bytes = if options.head { stream::empty().boxed() } else { chunks(Arc::clone(file), range.clone()) };
        Ok(GetResult { payload: GetResultPayload::Stream(bytes), meta, range, attributes: Attributes::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let file = Arc::clone(self.find(location)?);
        let ranges = ranges.to_vec();
        blocking(move || ranges.into_iter().map(|range| file.read_range(range)).collect()).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed: Vec<_> = self
            .files
            .iter()
            .filter(|(path, _)| prefix.is_none_or(|prefix| path.prefix_matches(prefix)))
            .map(|(path, file)| Ok(meta(path, file)))
            .collect();
        stream::iter(listed).boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        let objects = self.files.iter().map(|(path, file)| meta(path, file)).collect();
        Ok(ListResult { common_prefixes: Vec::new(), objects })
    }

    async fn put_opts(&self, _location: &Path, _payload: PutPayload, _options: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    fn delete_stream(&self, _locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::once(async { Err(read_only()) }).boxed()
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(read_only())
    }

    async fn rename_opts(&self, _from: &Path, _to: &Path, _options: RenameOptions) -> Result<()> {
        Err(read_only())
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Folder")
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Folder")
    }
}

fn meta(path: &Path, file: &SourceFile) -> ObjectMeta {
    ObjectMeta {
        location: path.clone(),
        last_modified: file.modified.into(),
        size: file.size,
        e_tag: None,
        version: None,
    }
}

/// The range in pieces, each read only when it is asked for.
fn chunks(file: Arc<SourceFile>, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((file, range), |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let middle = range.end.min(range.start + CHUNK_BYTES);
        let piece = range.start..middle;
        let reader = Arc::clone(&file);
        let bytes = blocking(move || reader.read_range(piece)).await?;
        Ok(Some((bytes, (file, middle..range.end))))
    })
    .boxed()
}

/// Keeps a slow disk from holding up the threads that decode and sort.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(read).await.map_err(generic)?.map_err(generic)
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "room", source: Box::new(error) }
}

fn read_only() -> Error {
    Error::NotSupported { source: "the files of a view are only read".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever writes other rows into a file and sets its time back would have an answer filed under the old ones.
    #[test]
    fn a_file_that_was_rewritten_under_its_old_time_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, "id\n1\n").unwrap();
        let dir = crate::open_room(folder.path()).unwrap();
        let source = SourceFile::new(crate::files::open_file(&dir, "rows.csv").unwrap()).unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert!(source.is_unchanged());
        // The clock of a file system ticks every few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"id\n2\n").unwrap();
        file.set_modified(time).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), time);
        assert!(!source.is_unchanged());
    }
}
