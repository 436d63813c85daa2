//! From a snapshot and filters to file tasks.
//!
//! ```text
//! manifest list ── prune by partition summaries ──> manifests ── prune by bounds and partitions ──> files
//!                                              └──> delete manifests ── assigned to files by `assign` ──┘
//! ```
//!
//! Manifest lists and manifests come decoded from the metadata cache, so what
//! is done for each query is one evaluation of the filters for all manifests
//! and one for all files. The one rule: a table with anything in it that would
//! make a row read or left out wrongly is refused here, before any file is read.

mod assign;
mod block;
mod containers;
mod deletes;
mod groups;
mod interval;
mod partition_key;
mod paths;
#[cfg(test)]
mod property_tests;
mod prune;
mod statistics;
#[cfg(test)]
mod tests;
mod values;
mod whole;

use std::sync::Arc;

use arrow::datatypes::Fields;
use datafusion::common::Statistics;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;
use futures::stream::{self, StreamExt, TryStreamExt};
use tarn_scan::{Deletes, FileTask, MetadataColumn, PlannedFile};

pub(crate) use block::{FileBlock, ManifestBlock};
pub(crate) use deletes::DeleteBlock;
pub(crate) use groups::group;
pub(crate) use values::Values;

use crate::error::{Error, Result};
use crate::iceberg::{Metadata, Snapshot, TableSchema};
use crate::metadata_cache::Files;
use crate::name::TableName;

/// Manifests that are read at once, for one table of one query.
const MANIFESTS_CONCURRENT_MAX: usize = 32;

/// Statistics of single files are made up to so many files times columns: beyond, they cost more than they save.
const FILE_STATISTICS_CELLS_MAX: usize = 1 << 16;

/// The files that a query reads of a table.
#[derive(Clone, Debug)]
pub struct FilePlan {
    /// The files, in the order of the manifests.
    pub files: Vec<PlannedFile>,
    /// Statistics of all these files together, over the table's schema.
    pub statistics: Statistics,
    /// Where each of the files stands in `blocks`: which block, and which file of it.
    places: Vec<(u32, u32)>,
    blocks: Arc<[Arc<FileBlock>]>,
    /// Manifests of the snapshot with live files in them.
    pub manifests_total: usize,
    /// Of these, not read.
    pub manifests_pruned: usize,
    /// Files of the snapshot.
    pub files_total: usize,
    /// Of these, not planned.
    pub files_pruned: usize,
    /// Bytes of the snapshot's files.
    pub bytes_total: u64,
    /// Of these, in the planned files.
    pub bytes_planned: u64,
    /// Rows in the planned files, before the filters.
    pub rows_planned: u64,
}

impl FilePlan {
    /// As many of the files as certainly hold so many rows, if these are not all. The totals stay as they are.
    pub(crate) fn first_rows(&self, rows: u64) -> Option<Self> {
        let mut held = 0_u64;
        let enough = self.files.iter().position(|file| {
            held = held.saturating_add(assign::rows_left_min(&file.task));
            held >= rows
        });
        let count = enough.map(|last| last + 1).filter(|count| *count < self.files.len())?;
        let files = self.files[..count].to_vec();
        Some(Self {
            bytes_planned: files.iter().map(|file| file.task.size_bytes).sum(),
            rows_planned: held,
            statistics: self.statistics.clone().to_inexact(),
            files,
            places: self.places[..count].to_vec(),
            blocks: Arc::clone(&self.blocks),
            ..*self
        })
    }

    /// Where the row groups of the file at `index` begin; empty if that is not known.
    pub(crate) fn split_offsets(&self, index: usize) -> &[i64] {
        let (block, file) = self.places[index];
        self.blocks[block as usize].split_offsets(file as usize)
    }

    /// Of a table without a snapshot.
    fn empty(schema: &TableSchema) -> Self {
        Self {
            files: Vec::new(),
            statistics: statistics::of_table(schema, &[], &[], (0, 0)),
            places: Vec::new(),
            blocks: Arc::default(),
            manifests_total: 0,
            manifests_pruned: 0,
            files_total: 0,
            files_pruned: 0,
            bytes_total: 0,
            bytes_planned: 0,
            rows_planned: 0,
        }
    }
}

/// What planning reads of a pinned table.
pub(crate) struct Source<'a> {
    pub(crate) table: &'a TableName,
    pub(crate) metadata: &'a Metadata,
    pub(crate) snapshot: Option<&'a Snapshot>,
    pub(crate) schema: &'a TableSchema,
    pub(crate) files: &'a Files,
    /// Fields of `_partition`, if the query reads that; else none.
    pub(crate) partition: &'a Fields,
}

impl Source<'_> {
    /// Fails if a file that is kept cannot be read.
    fn check(&self, blocks: &[Arc<FileBlock>], kept: &[bool]) -> Result<()> {
        let mut kept_rest = kept;
        for block in blocks {
            let (kept, rest) = kept_rest.split_at(block.files.len());
            kept_rest = rest;
            if let Some((file, feature)) = block.unsupported(kept) {
                return Err(self.refuse(feature, &file));
            }
        }
        Ok(())
    }

    /// Says that this file of the table cannot be read, and why.
    fn refuse(&self, feature: &str, file: &str) -> Error {
        Error::NotSupported { table: self.table.clone(), feature: format!("{feature} (file {file:?})") }
    }
}

/// Plans the files of a snapshot that may hold rows which the filters let through.
pub(crate) async fn plan_files(source: Source<'_>, filters: &[Expr]) -> Result<FilePlan> {
    let Some(snapshot) = source.snapshot else {
        return Ok(FilePlan::empty(source.schema));
    };
    let Source { table, metadata, schema, files, .. } = source;
    if snapshot.encrypted || metadata.is_encrypted() {
        return Err(Error::NotSupported { table: table.clone(), feature: "encryption".to_owned() });
    }
    let list = files.list(table, metadata, snapshot).await?;
    let is_live = |deletes: bool| -> Vec<bool> {
        list.files.iter().map(|line| line.deletes == deletes && line.live_files != Some(0)).collect()
    };
    let (live, live_deletes) = (is_live(false), is_live(true));
    if let Some(manifest) = list.files.iter().find(|manifest| manifest.encrypted) {
        return Err(source.refuse("encryption", &manifest.path));
    }

    let predicate = prune::predicate(filters, schema);
    let kept = prune::keep(predicate.as_ref(), schema, &[&list.containers]);
    let chosen: Vec<usize> = (0..list.files.len()).filter(|index| live[*index] && kept[*index]).collect();
    // Deletes of a partition that the filters leave out are about files that they leave out, too.
    let chosen_deletes: Vec<usize> =
        (0..list.files.len()).filter(|index| live_deletes[*index] && kept[*index]).collect();
    let (blocks, deletes) = futures::try_join!(
        load_blocks(&source, &list, &chosen),
        load_deletes(&source, &list, &chosen_deletes)
    )?;

    let containers: Vec<_> = blocks.iter().map(|block| &block.containers).collect();
    let kept = prune::keep(predicate.as_ref(), schema, &containers);
    source.check(&blocks, &kept)?;
    let mut plan = collect(schema, blocks, &kept, source.partition);
    assign::assign(&mut plan, &source, &deletes)?;
    statistics::forget_bounds_of_casts(&mut plan.statistics, schema, filters);
    plan.manifests_total = live.iter().filter(|live| **live).count();
    plan.manifests_pruned = plan.manifests_total - chosen.len();
    let unread = (0..list.files.len()).filter(|index| live[*index] && !kept_in(&chosen, *index));
    let unread_files = unread.map(|index| list.files[index].live_files.unwrap_or(0) as usize).sum::<usize>();
    plan.files_total += unread_files;
    plan.files_pruned = plan.files_total - plan.files.len();
    if plan.manifests_pruned > 0 {
        let stated = snapshot.summary.get("total-files-size").and_then(|bytes| bytes.parse().ok());
        plan.bytes_total = stated.unwrap_or(0).max(plan.bytes_total);
    }
    Ok(plan)
}

fn kept_in(chosen: &[usize], index: usize) -> bool {
    chosen.binary_search(&index).is_ok()
}

async fn load_blocks(
    source: &Source<'_>,
    list: &Arc<ManifestBlock>,
    chosen: &[usize],
) -> Result<Vec<Arc<FileBlock>>> {
    let loads: Vec<_> =
        chosen.iter().map(|index| source.files.manifest(source.table, list, *index)).collect();
    stream::iter(loads).buffered(MANIFESTS_CONCURRENT_MAX).try_collect().await
}

async fn load_deletes(
    source: &Source<'_>,
    list: &Arc<ManifestBlock>,
    chosen: &[usize],
) -> Result<Vec<Arc<DeleteBlock>>> {
    let loads: Vec<_> =
        chosen.iter().map(|index| source.files.delete_manifest(source.table, list, *index)).collect();
    stream::iter(loads).buffered(MANIFESTS_CONCURRENT_MAX).try_collect().await
}

/// The plan of the files that are kept; totals are those of the blocks.
fn collect(schema: &TableSchema, blocks: Vec<Arc<FileBlock>>, kept: &[bool], partition: &Fields) -> FilePlan {
    let mut plan = FilePlan::empty(schema);
    plan.blocks = blocks.into();
    let planned = kept.iter().filter(|kept| **kept).count();
    plan.files.reserve_exact(planned);
    plan.places.reserve_exact(planned);
    let with_statistics = planned.saturating_mul(schema.field_ids.len()) <= FILE_STATISTICS_CELLS_MAX;
    let mut kept_rest = kept;
    for (number, block) in plan.blocks.iter().enumerate() {
        let (kept, rest) = kept_rest.split_at(block.files.len());
        kept_rest = rest;
        plan.files_total += block.files.len();
        plan.bytes_total += block.size_bytes;
        if kept.iter().all(|kept| !kept) {
            continue;
        }
        let columns = with_statistics.then(|| statistics::Columns::new(schema, &block.containers));
        for (index, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
            let task = file_task(block, index, partition);
            plan.bytes_planned += task.size_bytes;
            plan.rows_planned += task.record_count;
            let statistics = columns
                .as_ref()
                .map(|columns| Arc::new(columns.of_file(index, task.record_count, task.size_bytes)));
            plan.files.push(PlannedFile { task: Arc::new(task), statistics });
            // No manifest has four thousand million files, nor a snapshot as many manifests.
            plan.places.push((number as u32, index as u32));
        }
    }
    let totals = (plan.rows_planned, plan.bytes_planned);
    plan.statistics = statistics::of_table(schema, &plan.blocks, kept, totals);
    plan
}

fn file_task(block: &FileBlock, index: usize, partition: &Fields) -> FileTask {
    let file = &block.files[index];
    let constant = |(field_id, values): &(i32, arrow::array::ArrayRef)| {
        Some((*field_id, ScalarValue::try_from_array(values, index).ok()?))
    };
    let mut constants: Vec<_> = block.constants.iter().filter_map(constant).collect();
    if !partition.is_empty() {
        constants
            .extend(block.partition(index, partition).map(|value| (MetadataColumn::Partition.id(), value)));
    }
    FileTask {
        uri: block.paths.get(index),
        format: file.format,
        size_bytes: file.size_bytes,
        record_count: file.record_count,
        range: None,
        spec_id: block.spec_id,
        constants,
        data_sequence_number: file.sequence_number,
        first_row_id: file.first_row_id,
        deletes: Deletes::default(),
    }
}
