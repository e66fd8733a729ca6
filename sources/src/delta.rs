//! Delta tables, as Delta's own kernel reads them: log, column mapping, deletion vectors.
//!
//! A version is looked up once. What the kernel then says of its files is pinned, and a read does all of it again: it
//! goes on only where the same comes out.

mod append;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;
use data_encoding::HEXLOWER;
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel::expressions::{Expression, Predicate, Scalar};
use delta_kernel::scan::Scan;
use delta_kernel::scan::state::{ScanFile, transform_to_logical};
use delta_kernel::{Engine, FileMeta, KernelError, Snapshot, SnapshotRef};
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use futures::{StreamExt, TryStreamExt, stream};
use glovebox_source_protocol::{
    Batches, Column, Comparison, DataFile, Hint, Literal, Pin, Read, Refusal, RefusalCode, Version,
};
use object_store::path::Path;
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

pub(crate) use self::append::append;
use crate::BATCH_ROWS;
use crate::refuse::{Result, changed, refuse, unreadable};
use crate::store::Store;

/// Files that are looked at side by side.
const LOOKS: usize = 16;

pub(crate) struct DeltaTable {
    store: Arc<Store>,
    engine: Arc<dyn Engine>,
}

impl DeltaTable {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let executor = TokioMultiThreadExecutor::new(store.runtime.handle().clone());
        let engine = DefaultEngineBuilder::new(Arc::clone(&store.objects) as _)
            .with_task_executor(Arc::new(executor))
            .with_batch_size(NonZero::new(BATCH_ROWS).unwrap_or(NonZero::<usize>::MIN))
            .build();
        Self { store, engine: Arc::new(engine) }
    }

    pub(crate) fn columns(&self) -> Result<Vec<Column>> {
        columns(&self.snapshot(None)?)
    }

    pub(crate) fn pin(&self, version: Option<u64>) -> Result<Pin> {
        let snapshot = self.snapshot(version)?;
        self.pin_of(&snapshot, self.files(&self.scan(&snapshot, &[], &[])?)?)
    }

    pub(crate) fn read(&self, wanted: &Read) -> Result<Batches> {
        let Some(version) = &wanted.pin.version else { return Err(changed("the pin is not that of a Delta table")) };
        let gone = |refusal: Refusal| changed(refusal.fact);
        let snapshot = self.snapshot(Some(version.number)).map_err(gone)?;
        let all = self.files(&self.scan(&snapshot, &[], &[])?).map_err(gone)?;
        let paths: Vec<String> = all.iter().map(|file| file.path.clone()).collect();
        if self.pin_of(&snapshot, all).map_err(gone)? != wanted.pin {
            return Err(changed(format!("version {} of the table is not what it was", version.number)));
        }
        let scan = self.scan(&snapshot, &wanted.columns, &wanted.hints)?;
        let files = self.files(&scan)?;
        if files.iter().any(|file| !paths.contains(&file.path)) {
            return Err(changed("the table's log changed while it was read"));
        }
        let reader = Reader { store: Arc::clone(&self.store), engine: Arc::clone(&self.engine), scan: Arc::new(scan) };
        Ok(Box::new(files.into_iter().flat_map(move |file| reader.rows(file))))
    }

    fn snapshot(&self, version: Option<u64>) -> Result<SnapshotRef> {
        let builder = Snapshot::builder_for(url(&self.store)?);
        let builder = version.into_iter().fold(builder, |builder, version| builder.at_version(version));
        builder.build(self.engine.as_ref()).map_err(|error| told(&error))
    }

    fn scan(&self, snapshot: &SnapshotRef, names: &[String], hints: &[Hint]) -> Result<Scan> {
        let schema = snapshot.schema();
        // With no column there would be nothing to count: then the first one is read.
        let first = || columns(snapshot).map(|columns| columns.first().map(|first| first.name.clone()));
        let names = if names.is_empty() { first()?.into_iter().collect() } else { names.to_vec() };
        let schema = schema.project(&names).map_err(|error| told(&error))?;
        let hints: Vec<_> = hints.iter().map(predicate).collect();
        let predicate = (!hints.is_empty()).then(|| Arc::new(Predicate::and_from(hints)));
        let builder = Arc::clone(snapshot).scan_builder().with_schema(schema).with_predicate(predicate);
        builder.build().map_err(|error| told(&error))
    }

    /// The files that a scan would read.
    fn files(&self, scan: &Scan) -> Result<Vec<ScanFile>> {
        let mut files = Vec::new();
        for page in scan.scan_metadata(self.engine.as_ref()).map_err(|error| told(&error))? {
            let page = page.and_then(|page| page.visit_scan_files(Vec::new(), |files, file| files.push(file)));
            files.extend(page.map_err(|error| told(&error))?);
        }
        Ok(files)
    }

    fn pin_of(&self, snapshot: &SnapshotRef, files: Vec<ScanFile>) -> Result<Pin> {
        let examined = stream::iter(files).map(|file| self.examine(file)).buffered(LOOKS).try_collect();
        let mut files: Vec<DataFile> = self.store.runtime.block_on(examined)?;
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Pin {
            kind: "delta".into(),
            location: self.store.location.clone(),
            version: Some(version(snapshot)?),
            columns: columns(snapshot)?,
            files,
        })
    }

    async fn examine(&self, file: ScanFile) -> Result<DataFile> {
        let found = self.store.examine(&file.path, &location(&self.store, &file.path)?).await?;
        if i64::try_from(found.size) != Ok(file.size) {
            return Err(unreadable(format!("the file {} is not of the size that the log says", file.path)));
        }
        let deleted_sha256 = match file.dv_info.has_vector() {
            true => Some(self.deleted(file.clone()).await?),
            false => None,
        };
        let partition: BTreeMap<_, _> = file.partition_values.into_iter().collect();
        Ok(DataFile { partition, deleted_sha256, ..found })
    }

    async fn deleted(&self, file: ScanFile) -> Result<String> {
        let (engine, url) = (Arc::clone(&self.engine), parsed(&self.store)?);
        // The kernel waits for what it reads.
        let rows = self.store.runtime.spawn_blocking(move || file.dv_info.get_row_indexes(engine.as_ref(), &url));
        let rows = rows.await.map_err(|_| unreadable("a deletion vector cannot be read"))?;
        let mut digest = Sha256::new();
        for row in rows.map_err(|error| told(&error))?.unwrap_or_default() {
            digest.update(row.to_le_bytes());
        }
        Ok(HEXLOWER.encode(&digest.finalize()))
    }
}

/// Reads files one after the other.
struct Reader {
    store: Arc<Store>,
    engine: Arc<dyn Engine>,
    scan: Arc<Scan>,
}

impl Reader {
    fn rows(&self, file: ScanFile) -> Batches {
        match self.batches(file) {
            Ok(batches) => batches,
            Err(refusal) => Box::new(std::iter::once(Err(refusal))),
        }
    }

    fn batches(&self, file: ScanFile) -> Result<Batches> {
        let root = parsed(&self.store)?;
        let deleted = file.dv_info.get_selection_vector(self.engine.as_ref(), &root).map_err(|error| told(&error))?;
        let size = u64::try_from(file.size).map_err(|_| unreadable("a file has a negative size"))?;
        let location = root.join(&file.path).map_err(|error| unreadable(error.to_string()))?;
        let meta = FileMeta { last_modified: file.modification_time, size, location };
        let parquet = self.engine.parquet_handler();
        let pages = parquet.read_parquet_files(&[meta], Arc::clone(self.scan.physical_schema()), None);
        let (engine, scan) = (Arc::clone(&self.engine), Arc::clone(&self.scan));
        let mut at = 0;
        let page = move |page: delta_kernel::KernelResult<Box<dyn delta_kernel::EngineData>>| {
            let (physical, logical) = (scan.physical_schema(), scan.logical_schema());
            let page = transform_to_logical(engine.as_ref(), page?, physical, logical, file.transform.clone())?;
            let batch = page.try_into_record_batch()?;
            let rows = at..at + batch.num_rows();
            at = rows.end;
            let Some(kept) = &deleted else { return Ok(batch) };
            // A vector ends with its last deleted row.
            let kept: BooleanArray = rows.map(|row| Some(kept.get(row).copied().unwrap_or(true))).collect();
            Ok::<RecordBatch, KernelError>(filter_record_batch(&batch, &kept)?)
        };
        let pages = pages.map_err(|error| told(&error))?;
        Ok(Box::new(pages.map(page).map(|page| page.map_err(|error| told(&error)))))
    }
}

/// A table's files are named by plain paths below it; whatever else a log may name is somebody else's.
fn location(store: &Store, path: &str) -> Result<Path> {
    let outside = || unreadable(format!("the log names a file outside of the table: {}", path.escape_debug()));
    let root = parsed(store)?;
    let url = root.join(path).map_err(|_| outside())?;
    if !url.as_str().starts_with(root.as_str()) || url.query().is_some() || url.fragment().is_some() {
        return Err(outside());
    }
    Path::from_url_path(url.path()).map_err(|_| outside())
}

/// How the kernel names the table. A name of its own for the scheme: only the path means anything to the store.
fn url(store: &Store) -> Result<String> {
    let root = store.root.as_ref();
    let slash = if root.is_empty() { "" } else { "/" };
    Ok(format!("{}:///{root}{slash}", if store.location == "." { "file" } else { "source" }))
}

fn parsed(store: &Store) -> Result<Url> {
    Url::parse(&url(store)?).map_err(|error| unreadable(error.to_string()))
}

fn version(snapshot: &SnapshotRef) -> Result<Version> {
    let table = snapshot.table_configuration();
    let metadata = serde_json::to_value(table.metadata()).map_err(|error| unreadable(error.to_string()))?;
    let mut features: Vec<String> =
        table.protocol().reader_features().unwrap_or_default().iter().map(ToString::to_string).collect();
    features.sort();
    Ok(Version {
        table: metadata.get("id").and_then(Value::as_str).unwrap_or_default().into(),
        number: snapshot.version(),
        protocol: table.protocol().min_reader_version(),
        features,
        schema_sha256: HEXLOWER.encode(&Sha256::digest(table.metadata().schema_string())),
    })
}

fn columns(snapshot: &SnapshotRef) -> Result<Vec<Column>> {
    let schema: Schema = snapshot.schema().as_ref().try_into_arrow().map_err(|error| unreadable(error.to_string()))?;
    Ok(crate::objects::columns(&schema))
}

fn predicate(hint: &Hint) -> Predicate {
    let column = Expression::column([hint.column.as_str()]);
    let to = match &hint.to {
        Literal::Int64(value) => Scalar::from(*value),
        Literal::Utf8(value) => Scalar::from(value.clone()),
    };
    match hint.is {
        Comparison::Equal => Predicate::eq(column, to),
        Comparison::Less => Predicate::lt(column, to),
        Comparison::AtMost => Predicate::le(column, to),
        Comparison::Greater => Predicate::gt(column, to),
        Comparison::AtLeast => Predicate::ge(column, to),
    }
}

fn told(error: &KernelError) -> Refusal {
    let code = match error {
        KernelError::Unsupported(_) => RefusalCode::SourceUnsupported,
        _ => RefusalCode::SourceUnreadable,
    };
    let fact = format!("the table's log cannot be read: {error}");
    refuse(code, fact, "check that a Delta table is there, whose log is whole, and that the agent may read it")
}
