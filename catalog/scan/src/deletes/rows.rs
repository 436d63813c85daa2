//! What deletes say, as rows: for who wants to see them, not to apply them.
//!
//! A file of position deletes is read as it is applied, by field id, and a
//! batch at a time. Nothing is kept and nobody is told: these are not rows of
//! a table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::Result;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;

use super::{DeleteFile, positions, vector};
use crate::exec::partitioned_file;
use crate::source::IcebergSource;
use crate::storage::Router;
use crate::task::{FIELD_ID_KEY, TableScan};

/// Field id of the column with the deleted row: reserved by the specification.
const ROW_ID: i32 = 2_147_483_544;

/// The rows of a file of position deletes, in its order: data file, place, and the deleted row as a struct of
/// these fields, NULL where the file does not have it.
pub fn position_deletes(
    table: &TableScan,
    file: &DeleteFile,
    row: &Fields,
    ctx: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let id = [(FIELD_ID_KEY.to_owned(), ROW_ID.to_string())].into();
    let row = Field::new("row", DataType::Struct(row.clone()), true).with_metadata(id);
    let columns = positions::schema();
    let fields = columns.fields().iter().cloned().chain([Arc::new(row)]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let scan = Arc::new(TableScan { schema: Arc::clone(&schema), ..table.clone() });
    let source = IcebergSource::new(ParquetSource::new(schema), scan).unobserved();
    let files = FileGroup::new(vec![partitioned_file(Arc::new(file.task()), None)?]);
    let config = FileScanConfigBuilder::new(Router::object_store_url(), Arc::new(source))
        .with_file_groups(vec![files])
        .build();
    DataSourceExec::from_data_source(config).execute(0, ctx)
}

/// The places in the blob of a deletion vector, rising. There must be `cardinality` many; else what is wrong with it.
pub fn vector_positions(
    blob: &[u8],
    cardinality: u64,
) -> std::result::Result<impl Iterator<Item = u64> + Send + use<>, String> {
    Ok(vector::decode(blob, cardinality)?.into_iter())
}
