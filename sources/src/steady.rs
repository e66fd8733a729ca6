//! A store in which nothing changes: what was looked at once is the same object whenever it is looked at again.
//!
//! What a pin says of a file is found out before the file is read, and by other requests. Each object's name for its
//! bytes is remembered from the first look, and every later one asks for those bytes or none. It serves one table, and
//! writes nothing.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

pub(crate) struct Steady {
    inner: Arc<dyn ObjectStore>,
    /// The table: nothing outside of it is served, whatever a log names.
    root: Path,
    seen: Mutex<HashMap<Path, String>>,
}

impl Steady {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { inner, root, seen: Mutex::default() }
    }

    fn seen(&self, location: &Path) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(location).cloned()
    }

    fn remember(&self, meta: &ObjectMeta) -> Result<()> {
        let Some(etag) = meta.e_tag.clone() else { return Err(refused("the store does not name an object's bytes")) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Two first looks at a time may have seen different bytes.
        let known = seen.entry(meta.location.clone()).or_insert_with(|| etag.clone());
        if *known == etag { Ok(()) } else { Err(refused("an object changed while it was read")) }
    }
}

#[async_trait]
impl ObjectStore for Steady {
    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        if !location.prefix_matches(&self.root) {
            return Err(Error::NotFound { path: location.to_string(), source: "not in the table's folder".into() });
        }
        options.if_match = self.seen(location).or(options.if_match);
        let got = self.inner.get_opts(location, options).await?;
        self.remember(&got.meta)?;
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // One by one through the function above; a store's own way might leave out its conditions.
        let mut read = Vec::with_capacity(ranges.len());
        for range in ranges {
            let options = GetOptions { range: Some(range.clone().into()), ..GetOptions::default() };
            read.push(self.get_opts(location, options).await?.bytes().await?);
        }
        Ok(read)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn put_opts(&self, _location: &Path, _payload: PutPayload, _options: PutOptions) -> Result<PutResult> {
        Err(refused("sources are only read"))
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(refused("sources are only read"))
    }

    fn delete_stream(&self, _locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::once(async { Err(refused("sources are only read")) }).boxed()
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(refused("sources are only read"))
    }

    async fn rename_opts(&self, _from: &Path, _to: &Path, _options: RenameOptions) -> Result<()> {
        Err(refused("sources are only read"))
    }
}

impl fmt::Display for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steady")
    }
}

impl fmt::Debug for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steady")
    }
}

fn refused(why: &'static str) -> Error {
    Error::Generic { store: "source", source: why.into() }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;

    use super::*;

    /// Between the look that pins a file and the one that reads it, and between the two ends of a file.
    #[tokio::test]
    async fn an_object_is_what_it_was_at_the_first_look_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            std::fs::write(folder.path().join("new"), text).unwrap();
            std::fs::rename(folder.path().join("new"), folder.path().join("object")).unwrap();
        };
        let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let steady = Steady::new(Arc::new(store), Path::default());
        let object = Path::from("object");
        write("first");
        steady.head(&object).await.unwrap();
        assert_eq!(steady.get_ranges(&object, &[0..2, 3..5]).await.unwrap(), ["fi", "st"]);
        write("other");
        assert!(steady.get(&object).await.is_err());
        assert!(steady.get_ranges(&object, &[0..2, 3..5]).await.is_err());
        assert!(steady.head(&object).await.is_err());
    }

    #[tokio::test]
    async fn what_is_not_below_the_table_is_not_served() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["table", "tables"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("rows"), "rows").unwrap();
        }
        let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let steady = Steady::new(Arc::new(store), Path::from("table"));
        assert!(steady.get(&Path::from("table/rows")).await.is_ok());
        assert!(steady.get(&Path::from("tables/rows")).await.is_err());
    }

    #[tokio::test]
    async fn nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let steady = Steady::new(Arc::new(store), Path::default());
        let (one, other) = (Path::from("one"), Path::from("other"));
        std::fs::write(folder.path().join("one"), "rows").unwrap();
        assert!(steady.put(&other, "rows".into()).await.is_err());
        assert!(steady.put_multipart(&other).await.is_err());
        assert!(steady.copy(&one, &other).await.is_err());
        assert!(steady.rename(&one, &other).await.is_err());
        assert!(steady.delete(&one).await.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
