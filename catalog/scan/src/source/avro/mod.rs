//! Avro data files, and delete files in Avro: an object container file as batches of the table's columns.
//!
//! ```text
//!   store ── container: header, whole blocks ── decode: arrow-avro ── convert ──> the file's columns under the
//!                                                                                 table's names, rows numbered
//!   ── minus rows deleted by place ── filters ── expressions over the table, rewritten by the adapter ──> a batch
//! ```
//!
//! What columns a file has, what they become and what is given to it is
//! decided where it is for Parquet (`columns`, `adapter`); here is only what
//! that reader does otherwise. A file is read from its beginning by one task,
//! a few blocks at a time. The one rule: the rows that came out are counted,
//! and a file that has not as many as its manifest says is damaged.

mod container;
mod convert;
mod decode;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Int64Array, RecordBatch, RecordBatchOptions,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_adapter::PhysicalExprAdapter;
use datafusion::physical_plan::PhysicalExpr;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use super::adapter::ROW_NUMBER;
use crate::columns::{AvroColumns, AvroType};
use crate::error::Error;

pub(super) use container::Container;
use decode::{Decoder, Rows};

/// What is wanted of a file.
pub(super) struct Wanted<'a> {
    /// Over the table's schema.
    pub(super) projection: &'a ProjectionExprs,
    /// Likewise; rows for which it is not true are left out.
    pub(super) predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The schema of what comes out.
    pub(super) output: SchemaRef,
    /// Rows that are left of what was deleted by place; `None` for all.
    pub(super) selection: Option<RowSelection>,
    /// Rows a batch.
    pub(super) batch_size: usize,
}

/// Names the table and the file of an error.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) table: String,
    pub(super) uri: String,
}

impl Place {
    fn damaged(&self, reason: impl Into<String>) -> DataFusionError {
        Error::DamagedFile { table: self.table.clone(), file: self.uri.clone(), reason: reason.into() }.into()
    }

    fn not_supported(&self, feature: String) -> DataFusionError {
        Error::NotSupported { table: self.table.clone(), file: self.uri.clone(), feature }.into()
    }
}

/// The file's columns with the number of each row behind them: what expressions are rewritten for.
pub(super) fn physical_schema(columns: &AvroColumns) -> SchemaRef {
    let number = Arc::new(Field::new(ROW_NUMBER, DataType::Int64, false));
    Arc::new(Schema::new(columns.columns.schema.fields().iter().cloned().chain([number]).collect::<Vec<_>>()))
}

/// Reads a file that was opened.
pub(super) fn planner(
    container: Container,
    columns: AvroColumns,
    adapter: &dyn PhysicalExprAdapter,
    wanted: Wanted<'_>,
    record_count: u64,
) -> Result<Box<dyn MorselPlanner>> {
    let program = Program::new(&columns, adapter, &wanted)?;
    let decoder =
        Decoder::new(&container, &columns.layout, &program.roots, columns.types.len(), wanted.batch_size)?;
    let place = container.place().clone();
    let deleted = Deleted { selectors: wanted.selection.map(Vec::from).unwrap_or_default().into(), taken: 0 };
    let scan = Scan { container, decoder, program, deleted, rows: None, next_row: 0, record_count, place };
    Ok(Box::new(AvroPlanner(scan)))
}

struct AvroPlanner(Scan);

impl std::fmt::Debug for AvroPlanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AvroPlanner").field("place", &self.0.place).finish_non_exhaustive()
    }
}

impl MorselPlanner for AvroPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_morsels(vec![self])))
    }
}

impl Morsel for AvroPlanner {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        stream::try_unfold(self.0, |mut scan| async move {
            let batch = scan.next().await?;
            Ok(batch.map(|batch| (batch, scan)))
        })
        .boxed()
    }
}

/// A file being read.
struct Scan {
    container: Container,
    decoder: Decoder,
    program: Program,
    deleted: Deleted,
    /// The blocks that are being decoded.
    rows: Option<Rows>,
    next_row: u64,
    record_count: u64,
    place: Place,
}

impl Scan {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some(rows) = &mut self.rows else {
                match self.container.next_blocks().await? {
                    Some(blocks) => self.rows = Some(self.decoder.start(blocks)?),
                    None if self.next_row == self.record_count => return Ok(None),
                    None => return Err(self.miscounted(self.next_row)),
                }
                continue;
            };
            let Some(decoded) = rows.next(&self.place).await? else {
                self.rows = None;
                continue;
            };
            let first = self.next_row;
            self.next_row += decoded.num_rows() as u64;
            if self.next_row > self.record_count {
                return Err(self.miscounted(self.next_row));
            }
            let kept = self.deleted.kept(decoded.num_rows());
            let batch = self.program.run(&decoded, first, kept, &self.place)?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
    }

    fn miscounted(&self, rows: u64) -> DataFusionError {
        let more = if rows > self.record_count { " or more" } else { "" };
        self.place.damaged(format!("it has {rows}{more} rows where its manifest says {}", self.record_count))
    }
}

/// What is done with decoded rows.
struct Program {
    /// Root columns of the file that are needed, ascending.
    roots: Vec<usize>,
    types: Vec<AvroType>,
    /// These, and the number of each row.
    schema: SchemaRef,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    projection: Vec<Arc<dyn PhysicalExpr>>,
    output: SchemaRef,
}

impl Program {
    fn new(columns: &AvroColumns, adapter: &dyn PhysicalExprAdapter, wanted: &Wanted<'_>) -> Result<Self> {
        let physical = physical_schema(columns);
        let projection = wanted.projection.expr_iter().map(|expr| adapter.rewrite(expr));
        let projection = projection.collect::<Result<Vec<_>>>()?;
        let predicate = wanted.predicate.clone().map(|expr| adapter.rewrite(expr)).transpose()?;
        let mut used = BTreeSet::new();
        for expr in projection.iter().chain(&predicate) {
            used.extend(collect_columns(expr).iter().map(Column::index));
        }
        let number = physical.fields().len() - 1;
        used.insert(number);
        let schema = Arc::new(physical.project(&used.iter().copied().collect::<Vec<_>>())?);
        let moved = |expr: Arc<dyn PhysicalExpr>| {
            let column = |expr: Arc<dyn PhysicalExpr>| {
                let Some(column) = expr.downcast_ref::<Column>() else {
                    return Ok(Transformed::no(expr));
                };
                let index = used.iter().position(|index| *index == column.index()).unwrap_or_default();
                Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as Arc<dyn PhysicalExpr>))
            };
            expr.transform_up(column).data()
        };
        let roots: Vec<usize> = used.iter().copied().filter(|index| *index < number).collect();
        Ok(Self {
            types: roots.iter().map(|root| columns.types[*root].clone()).collect(),
            predicate: predicate.map(moved).transpose()?,
            projection: projection.into_iter().map(moved).collect::<Result<_>>()?,
            output: Arc::clone(&wanted.output),
            roots,
            schema,
        })
    }

    fn run(
        &self,
        decoded: &RecordBatch,
        first_row: u64,
        kept: Option<BooleanArray>,
        place: &Place,
    ) -> Result<RecordBatch> {
        let rows = decoded.num_rows();
        let column = |(index, (avro_type, field)): (usize, (&AvroType, &Arc<Field>))| {
            convert::column(decoded.column(index), avro_type, field.data_type())
        };
        let columns = self.types.iter().zip(self.schema.fields()).enumerate().map(column);
        let columns = columns.collect::<arrow::error::Result<Vec<_>>>();
        let numbers = first_row as i64..first_row as i64 + rows as i64;
        let numbers = Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef;
        let batch = columns.and_then(|mut columns| {
            columns.push(numbers);
            RecordBatch::try_new(Arc::clone(&self.schema), columns)
        });
        let mut batch = batch.map_err(|error| place.damaged(error.to_string()))?;
        if let Some(kept) = kept {
            batch = filter_record_batch(&batch, &kept)?;
        }
        if let Some(predicate) = &self.predicate {
            let mask = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
            batch = filter_record_batch(&batch, as_boolean_array(&mask)?)?;
        }
        let rows = batch.num_rows();
        let value = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&batch)?.into_array(rows);
        let values = self.projection.iter().map(value).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.output), values, &options)?)
    }
}

/// Rows deleted by place, taken up as the file is read.
struct Deleted {
    selectors: std::collections::VecDeque<RowSelector>,
    /// Rows of the first selector that are done.
    taken: usize,
}

impl Deleted {
    /// Which of the next so many rows are left; `None` for all. Beyond the selectors none is deleted.
    fn kept(&mut self, rows: usize) -> Option<BooleanArray> {
        if self.selectors.is_empty() {
            return None;
        }
        let mut kept = BooleanBufferBuilder::new(rows);
        while kept.len() < rows {
            let Some(selector) = self.selectors.front() else {
                kept.append_n(rows - kept.len(), true);
                break;
            };
            let more = (selector.row_count - self.taken).min(rows - kept.len());
            kept.append_n(more, !selector.skip);
            self.taken += more;
            if self.taken == selector.row_count {
                self.selectors.pop_front();
                self.taken = 0;
            }
        }
        Some(BooleanArray::new(kept.finish(), None))
    }
}
