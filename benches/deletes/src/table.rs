//! The table: data files with rising ids, and the same rows deleted in every way there is.
//!
//! Which ids are deleted looks random, as those of changed rows do, but how many is exact: a factor that shares no
//! divisor with the number of rows puts the ids into another order, of which the first are deleted.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, StringViewArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::physical_plan::ExecutionPlan;
use tarn_scan::{
    DeleteFile, Deletes, DeletionVector, EqualityDeletes, EqualityKey, FIELD_ID_KEY, FileTask, PlannedFile,
    TableScan, scan_exec,
};

use crate::Error;

/// Sequence numbers of data files and of deletes.
const WRITTEN: i64 = 1;
const DELETED: i64 = 2;
/// A prime.
const FACTOR: usize = 1_000_003;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub files: usize,
    pub rows: usize,
    pub deleted: usize,
    pub delete_files: usize,
}

impl Shape {
    /// Rows that are left.
    pub fn left(&self, kind: Kind) -> usize {
        if kind == Kind::None { self.all() } else { self.all() - self.deleted }
    }

    fn all(&self) -> usize {
        self.files * self.rows
    }

    /// The id of a row: files take turns.
    fn id(&self, file: usize, row: usize) -> usize {
        row * self.files + file
    }

    fn is_deleted(&self, id: usize) -> bool {
        (id as u128 * FACTOR as u128 % self.all() as u128) < self.deleted as u128
    }

    fn deleted_rows(&self, file: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.rows).filter(move |row| self.is_deleted(self.id(file, *row)))
    }
}

/// How rows are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    None,
    Equality,
    EqualityScattered,
    EqualityText,
    Vectors,
    Positions,
}

impl Kind {
    /// That without deletes first.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Equality,
        Self::EqualityScattered,
        Self::EqualityText,
        Self::Vectors,
        Self::Positions,
    ];

    /// What the time to that without deletes may be.
    pub fn bar(self) -> Option<f64> {
        match self {
            Self::Equality | Self::EqualityScattered | Self::EqualityText => Some(1.5),
            Self::Vectors => Some(1.1),
            Self::None | Self::Positions => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Equality => "equality, a number",
            Self::EqualityScattered => "equality, a scattered number",
            Self::EqualityText => "equality, a number and a text",
            Self::Vectors => "deletion vectors",
            Self::Positions => "position delete files",
        })
    }
}

/// Where it is, and what its deletes are.
pub struct Table {
    pub shape: Shape,
    data: Vec<FileTask>,
    equality: Arc<EqualityDeletes>,
    equality_scattered: Arc<EqualityDeletes>,
    equality_text: Arc<EqualityDeletes>,
    vectors: Vec<DeletionVector>,
    positions: Vec<Arc<DeleteFile>>,
}

fn field(id: i32, name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true).with_metadata([(FIELD_ID_KEY.to_owned(), id.to_string())].into())
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field(1, "id", DataType::Int64),
        field(2, "a", DataType::Int64),
        field(3, "b", DataType::Float64),
        field(4, "day", DataType::Date32),
        field(5, "text", DataType::Utf8View),
        field(6, "code", DataType::Int64),
    ]))
}

fn text(id: usize) -> String {
    format!("customer {}", id % 10_007)
}

/// A number by which a row is known as well, with no order and far from its neighbours'.
fn code(id: usize) -> i64 {
    (id as i64).wrapping_mul(0x2545_f491_4f6c_dd1d)
}

impl Table {
    /// Writes all of it into a folder.
    pub fn write(folder: &Path, shape: Shape) -> Result<Self, Error> {
        if shape.deleted == 0 || shape.deleted > shape.all() || shape.all().is_multiple_of(FACTOR) {
            return Err("so many rows cannot be deleted".into());
        }
        let mut data = Vec::new();
        let mut vectors = Vec::new();
        for file in 0..shape.files {
            data.push(write_data(&folder.join(format!("{file}.parquet")), &shape, file)?);
            vectors.push(write_vector(&folder.join(format!("{file}.puffin")), shape.deleted_rows(file))?);
        }
        let ids: Vec<usize> = (0..shape.all()).filter(|id| shape.is_deleted(*id)).collect();
        let (mut numbers, mut codes, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        let mut positions = Vec::new();
        for (number, ids) in ids.chunks(shape.deleted.div_ceil(shape.delete_files)).enumerate() {
            let id = || Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| *id as i64))) as ArrayRef;
            let text = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| text(*id)))) as ArrayRef;
            let one = vec![(field(1, "id", DataType::Int64), id())];
            numbers.push(delete_file(&folder.join(format!("number-{number}.parquet")), one)?);
            let code = Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| code(*id)))) as ArrayRef;
            let one = vec![(field(6, "code", DataType::Int64), code)];
            codes.push(delete_file(&folder.join(format!("code-{number}.parquet")), one)?);
            let two = vec![(field(1, "id", DataType::Int64), id()), (field(5, "text", DataType::Utf8), text)];
            texts.push(delete_file(&folder.join(format!("text-{number}.parquet")), two)?);
        }
        for (number, files) in data.chunks(shape.files.div_ceil(shape.delete_files)).enumerate() {
            let first = number * shape.files.div_ceil(shape.delete_files);
            let rows = files.iter().zip(first..).flat_map(|(task, file)| {
                shape.deleted_rows(file).map(move |row| (task.uri.as_str(), row as i64))
            });
            let (paths, places): (Vec<&str>, Vec<i64>) = rows.unzip();
            let columns = vec![
                (
                    field(2_147_483_546, "file_path", DataType::Utf8),
                    Arc::new(StringArray::from(paths)) as ArrayRef,
                ),
                (
                    field(2_147_483_545, "pos", DataType::Int64),
                    Arc::new(Int64Array::from(places)) as ArrayRef,
                ),
            ];
            let path = folder.join(format!("positions-{number}.parquet"));
            positions.push((first..first + files.len(), delete_file(&path, columns)?));
        }
        let key =
            |index: usize| EqualityKey { field: Arc::clone(&schema().fields()[index]), path: Vec::new() };
        let list = |keys: Vec<EqualityKey>, files| Arc::new(EqualityDeletes { keys, files });
        let of_file =
            |file: usize| positions.iter().find(|(files, _)| files.contains(&file)).map(|(_, file)| file);
        let positions = (0..shape.files).filter_map(of_file).map(Arc::clone).collect();
        Ok(Self {
            equality: list(vec![key(0)], numbers),
            equality_scattered: list(vec![key(5)], codes),
            equality_text: list(vec![key(0), key(4)], texts),
            data,
            vectors,
            positions,
            shape,
        })
    }

    /// The table with its rows deleted in this way.
    pub fn provider(&self, kind: Kind, partitions: usize) -> Result<Arc<dyn TableProvider>> {
        let mut groups = vec![Vec::new(); partitions.clamp(1, self.data.len().max(1))];
        let count = groups.len();
        for (number, task) in self.data.iter().enumerate() {
            let mut deletes = Deletes::default();
            match kind {
                Kind::None => {}
                Kind::Equality => deletes.equality = vec![Arc::clone(&self.equality)],
                Kind::EqualityScattered => deletes.equality = vec![Arc::clone(&self.equality_scattered)],
                Kind::EqualityText => deletes.equality = vec![Arc::clone(&self.equality_text)],
                Kind::Vectors => deletes.vector = Some(self.vectors[number].clone()),
                Kind::Positions => deletes.positions = vec![Arc::clone(&self.positions[number])],
            }
            let task = FileTask { deletes, ..task.clone() };
            groups[number % count].push(PlannedFile { task: Arc::new(task), statistics: None });
        }
        let scan = Arc::new(TableScan {
            table: "bench.deletes.t".to_owned(),
            table_uuid: Default::default(),
            snapshot_id: Some(1),
            schema: schema(),
            format_version: 3,
            name_mapping: None,
        });
        Ok(Arc::new(Provider { scan, groups }))
    }
}

fn write_data(path: &Path, shape: &Shape, file: usize) -> Result<FileTask, Error> {
    let ids = || (0..shape.rows).map(|row| shape.id(file, row));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids().map(|id| id as i64))),
        Arc::new(Int64Array::from_iter_values(ids().map(|id| (id as i64).wrapping_mul(48_271) % 65_537))),
        Arc::new(Float64Array::from_iter_values(ids().map(|id| (id % 1_000_003) as f64 / 7.0))),
        Arc::new(Date32Array::from_iter_values(ids().map(|id| 18_000 + (id % 2_000) as i32))),
        Arc::new(StringViewArray::from_iter_values(ids().map(text))),
        Arc::new(Int64Array::from_iter_values(ids().map(code))),
    ];
    write_parquet(path, schema(), columns)
}

fn delete_file(path: &Path, columns: Vec<(Field, ArrayRef)>) -> Result<Arc<DeleteFile>, Error> {
    let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let task = write_parquet(path, Arc::new(Schema::new(fields)), columns)?;
    Ok(Arc::new(DeleteFile {
        uri: task.uri,
        format: task.format,
        size_bytes: task.size_bytes,
        record_count: task.record_count,
        data_sequence_number: DELETED,
    }))
}

fn write_parquet(path: &Path, schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<FileTask, Error> {
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path)?, schema, None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(FileTask {
        uri: path.display().to_string(),
        size_bytes: std::fs::metadata(path)?.len(),
        record_count: batch.num_rows() as u64,
        data_sequence_number: WRITTEN,
        ..FileTask::default()
    })
}

/// A deletion vector without its frame, as some writers leave it: magic, then a 64-bit Roaring bitmap of one key, by
/// the Roaring specification. A container of more than 4096 places is one bit a place, the others list them.
fn write_vector(path: &Path, rows: impl Iterator<Item = usize>) -> Result<DeletionVector, Error> {
    let mut containers: Vec<(u16, Vec<u16>)> = Vec::new();
    let mut cardinality = 0;
    for row in rows {
        cardinality += 1;
        let key = u16::try_from(row >> 16)?;
        match containers.last_mut() {
            Some((last, places)) if *last == key => places.push(row as u16),
            _ => containers.push((key, vec![row as u16])),
        }
    }
    let mut blob = vec![0xd1, 0xd3, 0x39, 0x64];
    blob.extend_from_slice(&1_u64.to_le_bytes());
    blob.extend_from_slice(&0_u32.to_le_bytes());
    blob.extend_from_slice(&12_346_u32.to_le_bytes());
    blob.extend_from_slice(&(containers.len() as u32).to_le_bytes());
    for (key, places) in &containers {
        blob.extend_from_slice(&key.to_le_bytes());
        blob.extend_from_slice(&((places.len() - 1) as u16).to_le_bytes());
    }
    let mut offset = 8 + 8 * containers.len();
    for (_, places) in &containers {
        blob.extend_from_slice(&(offset as u32).to_le_bytes());
        offset += if places.len() > 4096 { 8192 } else { 2 * places.len() };
    }
    for (_, places) in &containers {
        if places.len() > 4096 {
            let mut bits = [0_u8; 8192];
            places.iter().for_each(|place| bits[usize::from(place / 8)] |= 1 << (place % 8));
            blob.extend_from_slice(&bits);
        } else {
            places.iter().for_each(|place| blob.extend_from_slice(&place.to_le_bytes()));
        }
    }
    std::fs::write(path, &blob)?;
    Ok(DeletionVector {
        uri: path.display().to_string(),
        offset: 0,
        size_bytes: blob.len() as u64,
        cardinality,
    })
}

#[derive(Debug)]
struct Provider {
    scan: Arc<TableScan>,
    groups: Vec<Vec<PlannedFile>>,
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.scan.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.groups.iter().flatten().map(|file| file.task.record_count as usize).sum();
        // Never exact, so that no query is answered without a scan.
        let statistics = Statistics {
            num_rows: Precision::Inexact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::new_unknown(); self.scan.schema.fields().len()],
        };
        let parquet = state.config_options().execution.parquet.clone();
        let options =
            datafusion::common::config::TableParquetOptions { global: parquet, ..Default::default() };
        Ok(scan_exec(Arc::clone(&self.scan), self.groups.clone(), statistics, projection, limit, &options)?)
    }
}
