//! Reads a released file back, for people.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatchReader;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::DataType;
use arrow::ipc::reader::FileReader;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Code, Fault, Result};

/// The first rows of a table, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Column names.
    pub columns: Vec<String>,
    /// Cells by row; a null is nothing.
    pub rows: Vec<Vec<Option<String>>>,
    /// Rows of the whole table.
    pub total: usize,
}

/// Reads a Parquet, CSV or Arrow IPC file.
pub fn preview(path: &Path, rows_max: usize) -> Result<Preview> {
    read(path, rows_max).map_err(|error| {
        Fault::new(
            Code::Usage,
            format!("cannot show {}: {error}", path.display()),
            "name a .parquet, .csv or .arrow file that a run released",
        )
    })
}

fn read(path: &Path, rows_max: usize) -> Result<Preview, Box<dyn std::error::Error>> {
    let reader = open(path)?;
    let columns = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut preview = Preview { columns, rows: Vec::new(), total: 0 };
    for batch in reader {
        let batch = batch?;
        append(&batch, rows_max, &mut preview.rows)?;
        preview.total += batch.num_rows();
    }
    Ok(preview)
}

/// All of a file's rows.
pub(crate) fn read_all(path: &Path) -> Result<Vec<RecordBatch>, Box<dyn std::error::Error>> {
    Ok(open(path)?.collect::<Result<_, _>>()?)
}

/// A table in memory, as text.
pub(crate) fn preview_of(table: &RecordBatch) -> Preview {
    let columns = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut preview = Preview { columns, rows: Vec::new(), total: table.num_rows() };
    // Columns of a released table are numbers and texts, which have a text form.
    let _ = append(table, usize::MAX, &mut preview.rows);
    preview
}

fn open(path: &Path) -> Result<Box<dyn RecordBatchReader>, Box<dyn std::error::Error>> {
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => Box::new(ParquetRecordBatchReaderBuilder::try_new(file)?.build()?),
        Some("arrow") => Box::new(FileReader::try_new(file, None)?),
        Some("csv") => {
            let (schema, _) = Format::default().with_header(true).infer_schema(File::open(path)?, None)?;
            Box::new(ReaderBuilder::new(schema.into()).with_header(true).build(file)?)
        }
        _ => return Err("it is of no known format".into()),
    })
}

fn append(
    batch: &RecordBatch,
    rows_max: usize,
    rows: &mut Vec<Vec<Option<String>>>,
) -> Result<(), arrow::error::ArrowError> {
    let options = FormatOptions::default();
    let formatters: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows().min(rows_max.saturating_sub(rows.len())) {
        let cell = |(column, formatter): (&arrow::array::ArrayRef, &ArrayFormatter<'_>)| {
            // A CSV column without a single value is of type null, and such an array has no validity of its own.
            let is_there = column.is_valid(row) && column.data_type() != &DataType::Null;
            is_there.then(|| formatter.value(row).to_string())
        };
        rows.push(batch.columns().iter().zip(&formatters).map(cell).collect());
    }
    Ok(())
}
