//! `readable_metrics`: what manifests say of each column, by its name and in its type.
//!
//! The maps beside it have field ids and bytes, as they are written. Here each
//! column that is not nested, at any depth, is a struct of counts and bounds;
//! a bound that cannot be read is NULL.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayBuilder, ArrayRef, Int64Builder, StructArray};
use arrow::datatypes::{DataType, Field, Fields};

use super::internal;
use crate::error::Result;
use crate::iceberg::{Entry, Leaf, Metadata};
use crate::plan::Values;

/// The counts of each column, in the order of Iceberg's own table.
const COUNTS: [&str; 4] = ["column_size", "value_count", "null_value_count", "nan_value_count"];
const BOUNDS: [&str; 2] = ["lower_bound", "upper_bound"];

/// The columns that metrics are told of, by name.
#[derive(Clone)]
pub(super) struct ReadableMetrics {
    leaves: Arc<[Leaf]>,
}

impl ReadableMetrics {
    /// Of the columns that the table has now.
    pub(super) fn new(metadata: &Metadata) -> Self {
        Self { leaves: metadata.leaves().into() }
    }

    pub(super) fn data_type(&self) -> DataType {
        DataType::Struct(self.fields())
    }

    fn fields(&self) -> Fields {
        let column = |leaf: &Leaf| Field::new(&leaf.name, DataType::Struct(metrics_of(leaf)), true);
        self.leaves.iter().map(column).collect()
    }
}

fn metrics_of(leaf: &Leaf) -> Fields {
    let counts = COUNTS.iter().map(|name| Field::new(*name, DataType::Int64, true));
    counts.chain(BOUNDS.iter().map(|name| Field::new(*name, leaf.data_type.clone(), true))).collect()
}

/// Gathers metrics, file by file.
pub(super) struct Builder<'a> {
    metrics: &'a ReadableMetrics,
    places: HashMap<i32, usize>,
    columns: Vec<Column>,
    files: usize,
}

struct Column {
    counts: [Int64Builder; 4],
    bounds: [Values; 2],
}

impl<'a> Builder<'a> {
    pub(super) fn new(metrics: &'a ReadableMetrics) -> Self {
        let column = |leaf: &Leaf| Column {
            counts: std::array::from_fn(|_| Int64Builder::new()),
            bounds: std::array::from_fn(|_| Values::new(&leaf.data_type)),
        };
        let places = metrics.leaves.iter().enumerate().map(|(place, leaf)| (leaf.id, place));
        Self {
            metrics,
            places: places.collect(),
            columns: metrics.leaves.iter().map(column).collect(),
            files: 0,
        }
    }

    pub(super) fn append(&mut self, entry: &Entry<'_>) {
        let counts = [&entry.column_sizes, &entry.value_counts, &entry.null_counts, &entry.nan_counts];
        for (kind, counts) in counts.into_iter().enumerate() {
            for (id, count) in counts {
                if let Some(place) = self.places.get(id) {
                    let builder = &mut self.columns[*place].counts[kind];
                    pad(builder, self.files);
                    // What is said twice is taken at its first word.
                    if builder.len() == self.files {
                        builder.append_value(*count);
                    }
                }
            }
        }
        for (kind, bounds) in [&entry.lower_bounds, &entry.upper_bounds].into_iter().enumerate() {
            for (id, bytes) in bounds {
                if let Some(place) = self.places.get(id)
                    && let Some(bound) = self.metrics.leaves[*place].bound(bytes)
                {
                    let values = &mut self.columns[*place].bounds[kind];
                    values.pad(self.files);
                    if values.len() == self.files {
                        values.push(&bound);
                    }
                }
            }
        }
        self.files += 1;
    }

    pub(super) fn finish(self) -> Result<ArrayRef> {
        let (files, leaves) = (self.files, &self.metrics.leaves);
        let column = |(leaf, column): (&Leaf, Column)| {
            let counts = column.counts.into_iter().map(|mut builder| {
                pad(&mut builder, files);
                Arc::new(builder.finish()) as ArrayRef
            });
            let bounds = column.bounds.into_iter().map(|mut values| {
                values.pad(files);
                values.finish()
            });
            let arrays: Vec<ArrayRef> = counts.chain(bounds).collect();
            let array = StructArray::try_new(metrics_of(leaf), arrays, None).map_err(internal)?;
            Ok(Arc::new(array) as ArrayRef)
        };
        let columns = leaves.iter().zip(self.columns).map(column).collect::<Result<Vec<_>>>()?;
        let array = StructArray::try_new_with_length(self.metrics.fields(), columns, None, files);
        Ok(Arc::new(array.map_err(internal)?))
    }
}

/// NULLs for the files that said nothing.
fn pad(builder: &mut Int64Builder, files: usize) {
    while builder.len() < files {
        builder.append_null();
    }
}
