//! Appends a result to a Delta table, once for each run: the commit that has the rows has the run's name, as a
//! transaction of the log, and is made only on a version that does not have it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{KernelError, KernelResult, Snapshot};
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use glovebox_source_protocol::Refusal;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::refuse::Result;
use crate::store;
use crate::write::{refused, unfit};

/// How often others may be faster.
const ATTEMPTS: usize = 20;

/// Appends the rows, unless the run's are there; says whether they were.
pub(crate) fn append(store: Arc<dyn ObjectStore>, root: &Path, run_id: &str, rows: &RecordBatch) -> Result<bool> {
    let runtime = store::runtime()?;
    let executor = TokioMultiThreadExecutor::new(runtime.handle().clone());
    let engine = DefaultEngineBuilder::new(store).with_task_executor(Arc::new(executor)).build();
    let (url, application) = (format!("source:///{root}/"), format!("glovebox:{run_id}"));
    for _ in 0..ATTEMPTS {
        let snapshot = Snapshot::builder_for(&url).build(&engine).map_err(|error| told(&error))?;
        // A log that forgets which runs it has would take one twice.
        if snapshot.table_properties().set_transaction_retention_duration.is_some() {
            return Err(unfit(
                "the table has a delta.setTransactionRetentionDuration, so it forgets which runs it has",
            ));
        }
        if snapshot.get_app_id_version(&application, &engine).map_err(|error| told(&error))?.is_some() {
            return Ok(true);
        }
        let schema: Schema =
            snapshot.schema().as_ref().try_into_arrow().map_err(|_| unfit("the table has no schema"))?;
        let rows = fitted(rows, &Arc::new(schema))?;
        let commit = || -> KernelResult<_> {
            let transaction = Arc::clone(&snapshot).update_table(UpdateTableOperation::Write, "glovebox", true);
            let transaction = transaction.build(&engine, Box::new(FileSystemCommitter::new()))?;
            let mut transaction = transaction.with_transaction_id(application.clone(), 1);
            let context = transaction.write_state()?.write_context_builder().build()?;
            let file = runtime.block_on(engine.write_parquet(&ArrowEngineData::new(rows), &context))?;
            transaction.add_files(file);
            transaction.commit(&engine)
        };
        if let CommitResult::Committed(_) = commit().map_err(|error| told(&error))? {
            return Ok(false);
        }
    }
    Err(refused("others write to the table all the time"))
}

/// The rows with the table's columns, all of them and no other.
fn fitted(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let other = || unfit("the table's columns are not those of the result");
    if rows.num_columns() != schema.fields().len() {
        return Err(other());
    }
    let columns = schema.fields().iter().map(|field| {
        let column = rows.column_by_name(field.name()).ok_or_else(other)?;
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            cast(column, field.data_type()).map_err(|_| other())
        }
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?).map_err(|_| other())
}

fn told(error: &KernelError) -> Refusal {
    refused(format!("the table's log cannot be read or written: {error}"))
}
