//! What the footer of a Parquet file says of the file, before a decoder believes it.
//!
//! Lengths and places are those of whoever wrote the file. A decoder that takes them as they are computes beyond its
//! ranges, and ends in a defect of ours instead of a refusal of the file.

use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

use super::folder::SourceFile;

/// The footer's length, and the letters that end a file.
const TAIL_BYTES: u64 = 8;

/// Whether the footer lies within the file, and what it says of the file adds up.
pub(super) fn is_sound(file: &SourceFile) -> bool {
    let Some(rows_end) = rows_end(file) else { return false };
    file.parquet_metadata().is_some_and(|metadata| adds_up(&metadata, rows_end))
}

/// Where the footer begins.
fn rows_end(file: &SourceFile) -> Option<u64> {
    let mut length = [0; 4];
    let tail = file.size().checked_sub(TAIL_BYTES)?;
    (file.read_at(&mut length, tail).ok()? == length.len()).then_some(())?;
    tail.checked_sub(u32::from_le_bytes(length).into())
}

fn adds_up(metadata: &ParquetMetaData, rows_end: u64) -> bool {
    let groups = metadata.row_groups();
    let rows = groups.iter().try_fold(0_i64, |rows, group| rows.checked_add(group.num_rows()));
    rows == Some(metadata.file_metadata().num_rows())
        && groups.iter().all(|group| group.num_rows() >= 0 && columns_add_up(group, rows_end))
}

fn columns_add_up(group: &RowGroupMetaData, rows_end: u64) -> bool {
    group.columns().iter().all(|column| {
        // A column of lists has more values than rows.
        let is_flat = column.column_descr().max_rep_level() == 0;
        (!is_flat || column.num_values() == group.num_rows()) && lies_within(column, rows_end)
    })
}

/// Whether the column's pages lie in front of the footer, and its first page of values among them.
fn lies_within(column: &ColumnChunkMetaData, rows_end: u64) -> bool {
    let values = column.data_page_offset();
    let start = column.dictionary_page_offset().unwrap_or(values);
    let Some(end) = start.checked_add(column.compressed_size()) else { return false };
    let are_sizes = column.compressed_size() >= 0 && column.uncompressed_size() >= 0;
    are_sizes && start >= 0 && (start..=end).contains(&values) && end.unsigned_abs() <= rows_end
}
