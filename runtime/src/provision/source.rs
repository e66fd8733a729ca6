//! What a view reads, as tables: each source is one file, all files of a folder, or a table that another process reads.
//!
//! A folder is listed once and its files are opened then, so that what was listed is what is digested and read. Nothing
//! in it is passed over but folders and hidden files: what cannot be read is refused, not left out.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::session_state::SessionState;

use super::folder::{SourceFile, Stamp, URL};
use super::footer;
use super::records::RECORD_BYTES_MAX;
use super::remote::{self, Remote, RemoteTable};
use super::table::{FileTable, Malformed, TableFile};
use super::view::internal;
use super::{Access, Held, Snapshot, SourceDigest};
use crate::error::{Code, Fault, Result};
use crate::files;
use crate::room::{Place, Source, View};

/// Columns of a file, also of those that no one asks for.
pub(super) const COLUMNS_MAX: usize = 4_096;

/// Files of a folder: each stays open as long as its view is read.
const FOLDER_FILES_MAX: usize = 256;

/// The formats of sources, told by the ending of the path alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SourceFormat {
    Parquet,
    Csv,
    Arrow,
}

impl SourceFormat {
    fn of(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1 {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "arrow" => Some(Self::Arrow),
            _ => None,
        }
    }

    const fn ending(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
        }
    }
}

/// A table of the view's SQL whose files are open.
pub(super) struct OpenSource {
    table: String,
    format: SourceFormat,
    files: Vec<OpenFile>,
}

pub(super) struct OpenFile {
    /// Where it lies in the room.
    path: String,
    /// What the view's object store calls it.
    pub(super) name: String,
    pub(super) file: Arc<SourceFile>,
}

/// Opens the files of a view's sources. Tables that another process reads are none of them.
pub(super) fn open(access: &dyn Access, view: &View) -> Result<Vec<OpenSource>> {
    let mut sources = Vec::with_capacity(view.sources.len());
    let mut number = 0;
    for source in view.sources.iter().filter(|source| is_file(source)) {
        let paths = paths(access, view, &source.path)?;
        let format = common_format(view, &paths)?;
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let opened = access.open(view, &path).and_then(SourceFile::new);
            let file = opened.map_err(|error| unreadable(view, &path, format!("cannot be opened: {error}")))?;
            files.push(OpenFile { path, name: format!("{number}.{}", format.ending()), file: Arc::new(file) });
            number += 1;
        }
        sources.push(OpenSource { table: source.table.clone(), format, files });
    }
    Ok(sources)
}

/// What a view's files hold, by digest, and what is read of its tables: those of an earlier run at their versions. Of a
/// row nothing is told.
pub(super) fn digest(access: &dyn Access, view: &View, earlier: &[SourceDigest]) -> Result<Vec<(SourceDigest, Held)>> {
    let named = |source: &str, sha256, version| {
        let (view, source) = (view.id.clone(), source.to_owned());
        SourceDigest { view, source, sha256, version }
    };
    let digest = |open: OpenFile| {
        let refuse = |error: std::io::Error| unreadable(view, &open.path, error.to_string());
        let stamp = open.file.stamp().map_err(refuse)?;
        let sha256 = open.file.sha256().map_err(refuse)?;
        Ok((named(&open.path, sha256, None), Held::File(stamp)))
    };
    let files = open(access, view)?.into_iter().flat_map(|source| source.files);
    let mut held = files.map(digest).collect::<Result<Vec<_>>>()?;
    for source in &view.sources {
        let Some(remote) = Remote::find(access, view, source)? else { continue };
        let earlier = earlier.iter().find(|earlier| earlier.view == view.id && earlier.source == source.path);
        let pinned = remote.pin(earlier.and_then(|earlier| earlier.version))?;
        let version = pinned.pin.version.as_ref().map(|version| version.number);
        held.push((named(&source.path, remote::sha256(&pinned.pin), version), Held::Table(Arc::new(pinned))));
    }
    Ok(held)
}

/// Makes the tables that another process reads tables of the session. Without a snapshot they are only planned with.
pub(super) fn register_remote(
    state: &SessionState,
    access: &dyn Access,
    view: &View,
    snapshot: Option<&Snapshot>,
) -> Result<()> {
    for source in &view.sources {
        let Some(remote) = Remote::find(access, view, source)? else { continue };
        let table = remote_table(remote, view, source, snapshot)?;
        register(state, view, &source.table, Arc::new(table))?;
    }
    Ok(())
}

fn remote_table(remote: Remote, view: &View, source: &Source, snapshot: Option<&Snapshot>) -> Result<RemoteTable> {
    let Some(snapshot) = snapshot else { return remote.described() };
    let pin = snapshot.pin(&view.id, &source.path).ok_or_else(|| unreadable(view, &source.path, "is not pinned"))?;
    Ok(remote.pinned(Arc::clone(pin)))
}

fn register(state: &SessionState, view: &View, table: &str, provider: Arc<dyn TableProvider>) -> Result<()> {
    let table = TableReference::bare(table);
    let schema = state.schema_for_ref(table.clone());
    let registered = schema.and_then(|schema| schema.register_table(table.table().into(), provider));
    registered.map(drop).map_err(|error| internal(view, &error))
}

/// Whether a source is a file, or a folder of files.
pub(super) fn is_file(source: &Source) -> bool {
    matches!(source.place(), Place::File(_))
}

/// What tells a view's files from any others, and from themselves with other content.
pub(super) fn stamps(access: &dyn Access, view: &View) -> Result<Vec<Stamp>> {
    let stamp = |open: OpenFile| open.file.stamp().map_err(|error| unreadable(view, &open.path, error.to_string()));
    open(access, view)?.into_iter().flat_map(|source| source.files).map(stamp).collect()
}

/// Refuses other files than those that were digested.
pub(super) fn check(view: &View, sources: &[OpenSource], snapshot: &Snapshot) -> Result<()> {
    let stamped =
        |open: &'_ OpenFile| open.file.stamp().map_err(|error| unreadable(view, &open.path, error.to_string()));
    let files = sources.iter().flat_map(OpenSource::files);
    let files = files.map(|open| Ok((open.path.as_str(), stamped(open)?))).collect::<Result<Vec<_>>>()?;
    if snapshot.is_of(&view.id, &files) {
        return Ok(());
    }
    Err(Fault::new(
        Code::ViewUnreadable,
        format!("a file of view {} was replaced while the run began", view.id),
        "run again when no one writes to the view's files",
    ))
}

/// The path itself, or those of a folder's files.
fn paths(access: &dyn Access, view: &View, path: &str) -> Result<Vec<String>> {
    let Some(folder) = path.strip_suffix('/') else { return Ok(vec![path.to_owned()]) };
    let opened = access.open_folder(view, folder);
    let names = opened.and_then(|folder| files::list_all(&folder, FOLDER_FILES_MAX + 1));
    let names = names.map_err(|error| unreadable(view, path, format!("cannot be listed: {error}")))?;
    match names.len() {
        0 => Err(unreadable(view, path, "has no files")),
        1..=FOLDER_FILES_MAX => Ok(names.into_iter().map(|name| format!("{folder}/{name}")).collect()),
        _ => Err(unreadable(view, path, format!("has more than {FOLDER_FILES_MAX} files"))),
    }
}

fn common_format(view: &View, paths: &[String]) -> Result<SourceFormat> {
    let mut common = None;
    for path in paths {
        let format =
            SourceFormat::of(path).ok_or_else(|| unreadable(view, path, "ends in none of .parquet, .csv, .arrow"))?;
        if *common.get_or_insert(format) != format {
            return Err(unreadable(view, path, "has another ending than the files before it in its folder"));
        }
    }
    common.ok_or_else(|| unreadable(view, "", "has no files"))
}

impl OpenSource {
    pub(super) fn files(&self) -> impl Iterator<Item = &OpenFile> {
        self.files.iter()
    }

    /// Makes the files a table of the session. Reads their footers, or of CSV files the first records.
    pub(super) async fn register(self, state: &SessionState, view: &View) -> Result<()> {
        let provider: Arc<dyn TableProvider> = match self.format {
            SourceFormat::Parquet => Arc::new(self.parquet(state, view).await?),
            SourceFormat::Csv => Arc::new(self.table(view, TableFile::csv)?),
            SourceFormat::Arrow => Arc::new(self.table(view, TableFile::arrow)?),
        };
        register(state, view, &self.table, provider)
    }

    /// Parquet files, of which the footers are read; the rest goes through the session's object store.
    async fn parquet(&self, state: &SessionState, view: &View) -> Result<ListingTable> {
        let format = ParquetFormat::default().with_options(state.default_table_options().parquet);
        let options = ListingOptions::new(Arc::new(format));
        let (mut urls, mut schemas) = (Vec::new(), Vec::new());
        for open in &self.files {
            if !footer::is_sound(&open.file) {
                return Err(malformed(view, open, Malformed::File));
            }
            let url = ListingTableUrl::parse(format!("{URL}/{}", open.name)).map_err(|error| internal(view, &error))?;
            schemas.push(options.infer_schema(state, &url).await.map_err(|_| malformed(view, open, Malformed::File))?);
            urls.push(url);
        }
        let schema = self.common_schema(view, &schemas)?;
        let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(schema);
        ListingTable::try_new(config).map_err(|error| internal(view, &error))
    }

    fn table(
        &self,
        view: &View,
        read: impl Fn(Arc<SourceFile>) -> std::result::Result<TableFile, Malformed>,
    ) -> Result<FileTable> {
        let read = |open: &OpenFile| read(Arc::clone(&open.file)).map_err(|why| malformed(view, open, why));
        let files = self.files.iter().map(read).collect::<Result<Vec<_>>>()?;
        let schemas: Vec<_> = files.iter().map(TableFile::schema).collect();
        Ok(FileTable::new(self.common_schema(view, &schemas)?, files))
    }

    /// The one schema of all files. Whether a column may be null, and what else a file says of it, need not be the same.
    fn common_schema(&self, view: &View, schemas: &[SchemaRef]) -> Result<SchemaRef> {
        let Some((first, others)) = schemas.split_first() else { return Ok(Arc::new(Schema::empty())) };
        check_columns(first).map_err(|why| unreadable(view, &self.files[0].path, why))?;
        for (other, open) in others.iter().zip(&self.files[1..]) {
            if !columns(first).eq(columns(other)) {
                return Err(Fault::new(
                    Code::ViewUnreadable,
                    format!(
                        "source `{}` of view {} has other columns than `{}`",
                        open.path.escape_debug(),
                        view.id,
                        self.files[0].path.escape_debug()
                    ),
                    "give all files of a folder the same columns, by name, type and order",
                ));
            }
        }
        if others.is_empty() {
            return Ok(Arc::clone(first));
        }
        let nullable = columns(first).map(|(name, kind)| Field::new(name, kind.clone(), true));
        Ok(Arc::new(Schema::new(nullable.collect::<Vec<_>>())))
    }
}

fn check_columns(schema: &Schema) -> Result<(), String> {
    if schema.fields().is_empty() {
        return Err("has no columns".into());
    }
    if schema.fields().len() > COLUMNS_MAX {
        return Err(format!("has more than {COLUMNS_MAX} columns"));
    }
    let mut names = BTreeSet::new();
    match columns(schema).find(|(name, _)| !names.insert(*name)) {
        Some((twice, _)) => Err(format!("has two columns of the name `{}`", twice.escape_debug())),
        None => Ok(()),
    }
}

fn columns(schema: &Schema) -> impl Iterator<Item = (&String, &arrow::datatypes::DataType)> {
    schema.fields().iter().map(|field| (field.name(), field.data_type()))
}

fn malformed(view: &View, open: &OpenFile, why: Malformed) -> Fault {
    match why {
        Malformed::File => unreadable(view, &open.path, "is not a readable file of its kind"),
        Malformed::Record => {
            let why = format!("has a record of more than {RECORD_BYTES_MAX} bytes or {COLUMNS_MAX} fields");
            unreadable(view, &open.path, why)
        }
    }
}

fn unreadable(view: &View, path: &str, why: impl AsRef<str>) -> Fault {
    Fault::new(
        Code::ViewUnreadable,
        format!("source `{}` of view {} {}", path.escape_debug(), view.id, why.as_ref()),
        "put a Parquet, CSV or Arrow IPC file there, inside the room and not behind a symlink",
    )
}
