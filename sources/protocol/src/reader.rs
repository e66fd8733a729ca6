//! What every reader does alike: it takes a request, opens the table, and answers.

use std::io::{Read, Write};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::error::ArrowError;
use serde::Serialize;

use crate::{
    Column, DESCRIBE, Description, Held, PIN, Pin, Place, READ, Read as Wanted, Refusal, RefusalCode, Request,
    RowsWriter, schema,
};

/// The longest fact that is told.
const FACT_CHARS_MAX: usize = 400;

/// Rows on their way: at least the wanted columns, by name.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Refusal>>>;

/// A table as a run needs it.
pub trait Table {
    /// Its columns. Looks at no row.
    fn columns(&self) -> Result<Vec<Column>, Refusal>;

    /// What exactly would be read now, or of that version; and what keeps it so, where something can.
    fn pin(&self, version: Option<u64>) -> Result<(Pin, Option<Box<dyn Hold>>), Refusal>;

    /// The rows of a pin, and of nothing else.
    fn read(&self, wanted: &Wanted) -> Result<Batches, Refusal>;
}

/// A state of a table that is there as long as this is.
pub trait Hold {
    /// By what name it is read.
    fn snapshot(&self) -> &str;

    /// Waits until whoever pinned has read the rows, or is gone.
    fn wait(self: Box<Self>);
}

impl Refusal {
    /// In one line each, and the fact not longer than anyone reads.
    #[must_use]
    pub fn new(code: RefusalCode, fact: impl AsRef<str>, remedy: &str) -> Self {
        // The words of libraries have lines and ends of their own.
        let words = fact.as_ref().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { code, fact: words.chars().take(FACT_CHARS_MAX).collect(), remedy: remedy.into() }
    }
}

/// Does one task, and answers. What is refused once rows are on their way is not told: they just have no end.
///
/// Says whether there was an answer.
pub fn serve(
    task: &str,
    mut input: impl Read,
    mut output: impl Write,
    open: impl FnOnce(&Place) -> Result<Box<dyn Table>, Refusal>,
) -> bool {
    let done = answer(task, &mut input, &mut output, open);
    end(done, output)
}

/// Answers with one line, or says why not; says whether there was an answer.
pub fn tell(answer: Result<impl Serialize, Refusal>, mut output: impl Write) -> bool {
    let told = answer.map_err(Some).and_then(|answer| say(&mut output, &answer));
    let told = told.and_then(|()| output.flush().map_err(|_| None));
    end(told, output)
}

fn end(done: Told<()>, mut output: impl Write) -> bool {
    let Err(Some(refusal)) = done else { return done.is_ok() };
    if let Ok(line) = serde_json::to_string(&refusal) {
        // The run that asked may be gone.
        let _ = writeln!(output, "{line}");
    }
    false
}

/// Why there is no answer; nothing where rows are on their way.
type Told<T> = Result<T, Option<Refusal>>;

fn answer(
    task: &str,
    input: &mut impl Read,
    output: &mut impl Write,
    open: impl FnOnce(&Place) -> Result<Box<dyn Table>, Refusal>,
) -> Told<()> {
    let invalid = |fact: String, remedy| Some(Refusal::new(RefusalCode::RequestInvalid, fact, remedy));
    let request: Request = serde_json::from_reader(input)
        .map_err(|error| invalid(format!("the request cannot be read: {error}"), "ask as the protocol says"))?;
    let table = open(&request.place)?;
    match (task, request.read) {
        (DESCRIBE, None) => say(output, &Description { columns: table.columns()? }),
        (PIN, None) => pin(table.as_ref(), request.version, request.hold, output),
        (READ, Some(wanted)) => read(table.as_ref(), &wanted, output),
        _ => Err(invalid(
            format!("`{}` is no task that goes with this request", task.escape_debug()),
            "ask to describe, pin or read",
        )),
    }
}

fn say(output: &mut impl Write, answer: &impl Serialize) -> Told<()> {
    let line = serde_json::to_string(answer).map_err(|_| None)?;
    writeln!(output, "{line}").map_err(|_| None)
}

fn pin(table: &dyn Table, version: Option<u64>, hold: bool, output: &mut impl Write) -> Told<()> {
    let (pin, held) = table.pin(version)?;
    say(output, &pin)?;
    if let Some(held) = held.filter(|_| hold) {
        say(output, &Held { snapshot: held.snapshot().to_owned() })?;
        output.flush().map_err(|_| None)?;
        held.wait();
    }
    Ok(())
}

fn read(table: &dyn Table, wanted: &Wanted, output: &mut impl Write) -> Told<()> {
    let column = |name: &String| wanted.pin.columns.iter().find(|column| column.name == *name).cloned();
    let columns: Option<Vec<Column>> = wanted.columns.iter().map(column).collect();
    let columns = columns.ok_or_else(|| {
        Refusal::new(RefusalCode::RequestInvalid, "a wanted column is not pinned", "ask for columns of the pin")
    })?;
    let batches = table.read(wanted)?;
    let mut rows = RowsWriter::new(output, &schema(&columns)).map_err(|_| None)?;
    for batch in batches {
        let batch = batch.map_err(|_| None)?;
        rows.write(&narrowed(&batch, &columns).map_err(|_| None)?).map_err(|_| None)?;
    }
    rows.end().map_err(|_| None)
}

/// The columns in their order, of the types in which they cross. What does not fit is an error, and not a null.
fn narrowed(batch: &RecordBatch, columns: &[Column]) -> Result<RecordBatch, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let find = |column: &Column| {
        let found = batch.column_by_name(&column.name);
        let found = found.ok_or_else(|| ArrowError::SchemaError("a column is missing".into()))?;
        cast_with_options(found, &column.kind.data_type(), &strict)
    };
    let arrays = columns.iter().map(find).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema(columns), arrays, &options)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ColumnType;
    use arrow::array::{ArrayRef, TimestampSecondArray};

    #[test]
    fn a_moment_that_does_not_fit_is_an_error_and_no_null() {
        let columns = [Column { name: "at".into(), kind: ColumnType::Timestamp, nullable: true }];
        let crossed = |seconds| {
            let moments: ArrayRef = Arc::new(TimestampSecondArray::from(vec![seconds]));
            narrowed(&RecordBatch::try_from_iter([("at", moments)]).unwrap(), &columns)
        };
        assert_eq!(crossed(7).unwrap().column(0).null_count(), 0);
        crossed(i64::MAX).unwrap_err();
    }
}
