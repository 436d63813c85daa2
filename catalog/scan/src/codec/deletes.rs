//! Deletes over the wire: each delete file and each list of them once a message, however many files they are about.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::Result;
use datafusion_proto::protobuf;
use prost::Message;

use super::message::{external, format, format_number};
use crate::deletes::{self, Deletes, EqualityKey};
use crate::error::Error;

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteFile {
    #[prost(string, tag = "1")]
    uri: String,
    #[prost(uint64, tag = "2")]
    size_bytes: u64,
    #[prost(uint64, tag = "3")]
    record_count: u64,
    #[prost(int64, tag = "4")]
    data_sequence_number: i64,
    #[prost(uint32, tag = "5")]
    format: u32,
}

/// A list of equality deletes, its files by index.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EqualityList {
    #[prost(message, repeated, tag = "1")]
    keys: Vec<Key>,
    #[prost(uint32, repeated, tag = "2")]
    files: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Key {
    #[prost(message, optional, tag = "1")]
    field: Option<protobuf::Field>,
    #[prost(int32, repeated, tag = "2")]
    path: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Vector {
    #[prost(string, tag = "1")]
    uri: String,
    #[prost(uint64, tag = "2")]
    offset: u64,
    #[prost(uint64, tag = "3")]
    size_bytes: u64,
    #[prost(uint64, tag = "4")]
    cardinality: u64,
}

/// The deletes of a file task: delete files and lists by index.
#[derive(Clone, PartialEq, Message)]
pub(super) struct References {
    #[prost(uint32, repeated, tag = "1")]
    positions: Vec<u32>,
    #[prost(message, optional, tag = "2")]
    vector: Option<Vector>,
    #[prost(uint32, repeated, tag = "3")]
    equality: Vec<u32>,
    #[prost(message, repeated, tag = "4")]
    joined: Vec<Joined>,
}

/// Deletes that a join takes away: their list, by index, has no files.
#[derive(Clone, PartialEq, Message)]
struct Joined {
    #[prost(uint32, tag = "1")]
    layer: u32,
    #[prost(uint32, tag = "2")]
    group: u32,
    #[prost(uint32, tag = "3")]
    list: u32,
}

/// Gathers what file tasks refer to.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) files: Vec<DeleteFile>,
    pub(super) lists: Vec<EqualityList>,
    file_indexes: HashMap<deletes::DeleteFile, u32>,
    /// By address: the plan that is encoded keeps the lists alive.
    list_indexes: HashMap<*const deletes::EqualityDeletes, u32>,
}

impl Writer {
    pub(super) fn references(&mut self, deletes: &Deletes) -> Result<Option<References>> {
        if deletes.is_empty() {
            return Ok(None);
        }
        let vector = deletes.vector.as_ref().map(|vector| Vector {
            uri: vector.uri.clone(),
            offset: vector.offset,
            size_bytes: vector.size_bytes,
            cardinality: vector.cardinality,
        });
        let joined = |deletes: &deletes::JoinedDeletes| {
            Ok(Joined { layer: deletes.layer, group: deletes.group, list: self.list(&deletes.list)? })
        };
        let joined = deletes.joined.iter().map(joined).collect::<Result<_>>()?;
        Ok(Some(References {
            joined,
            positions: deletes.positions.iter().map(|file| self.file(file)).collect(),
            vector,
            equality: deletes.equality.iter().map(|list| self.list(list)).collect::<Result<_>>()?,
        }))
    }

    fn file(&mut self, file: &deletes::DeleteFile) -> u32 {
        if let Some(index) = self.file_indexes.get(file) {
            return *index;
        }
        let index = self.files.len() as u32;
        self.files.push(DeleteFile {
            uri: file.uri.clone(),
            size_bytes: file.size_bytes,
            record_count: file.record_count,
            data_sequence_number: file.data_sequence_number,
            format: format_number(file.format),
        });
        self.file_indexes.insert(file.clone(), index);
        index
    }

    fn list(&mut self, list: &Arc<deletes::EqualityDeletes>) -> Result<u32> {
        if let Some(index) = self.list_indexes.get(&Arc::as_ptr(list)) {
            return Ok(*index);
        }
        let key = |key: &EqualityKey| {
            let field = protobuf::Field::try_from(key.field.as_ref()).map_err(external)?;
            Ok(Key { field: Some(field), path: key.path.clone() })
        };
        let keys = list.keys.iter().map(key).collect::<Result<_>>()?;
        let files = list.files.iter().map(|file| self.file(file)).collect();
        let index = self.lists.len() as u32;
        self.lists.push(EqualityList { keys, files });
        self.list_indexes.insert(Arc::as_ptr(list), index);
        Ok(index)
    }
}

/// What file tasks of a message refer to.
pub(super) struct Reader {
    files: Vec<Arc<deletes::DeleteFile>>,
    lists: Vec<Arc<deletes::EqualityDeletes>>,
}

impl Reader {
    pub(super) fn new(files: Vec<DeleteFile>, lists: Vec<EqualityList>) -> Result<Self> {
        let file = |file: DeleteFile| {
            Ok(Arc::new(deletes::DeleteFile {
                uri: file.uri,
                size_bytes: file.size_bytes,
                record_count: file.record_count,
                data_sequence_number: file.data_sequence_number,
                format: format(file.format)?,
            }))
        };
        let files = files.into_iter().map(file).collect::<Result<_>>()?;
        let mut reader = Self { files, lists: Vec::new() };
        let key = |key: Key| {
            let missing = || Error::Codec("a key of equality deletes without its column".to_owned());
            let field = Field::try_from(key.field.as_ref().ok_or_else(missing)?).map_err(external)?;
            Ok(EqualityKey { field: Arc::new(field), path: key.path })
        };
        for list in lists {
            let keys = list.keys.into_iter().map(key).collect::<Result<_>>()?;
            let files = pick(&reader.files, &list.files)?;
            reader.lists.push(Arc::new(deletes::EqualityDeletes { keys, files }));
        }
        Ok(reader)
    }

    pub(super) fn resolve(&self, references: Option<References>) -> Result<Deletes> {
        let Some(references) = references else {
            return Ok(Deletes::default());
        };
        let joined = |joined: &Joined| {
            let list = one(&self.lists, joined.list)?;
            Ok(deletes::JoinedDeletes { layer: joined.layer, group: joined.group, list })
        };
        Ok(Deletes {
            positions: pick(&self.files, &references.positions)?,
            vector: references.vector.map(|vector| deletes::DeletionVector {
                uri: vector.uri,
                offset: vector.offset,
                size_bytes: vector.size_bytes,
                cardinality: vector.cardinality,
            }),
            equality: pick(&self.lists, &references.equality)?,
            joined: references.joined.iter().map(joined).collect::<Result<_>>()?,
        })
    }
}

fn pick<T>(things: &[Arc<T>], indexes: &[u32]) -> Result<Vec<Arc<T>>> {
    indexes.iter().map(|index| one(things, *index)).collect()
}

/// The thing at this index; one that is not there is an error, as a delete that was lost would show rows.
fn one<T>(things: &[Arc<T>], index: u32) -> Result<Arc<T>> {
    let found = things.get(index as usize).map(Arc::clone);
    Ok(found.ok_or_else(|| Error::Codec(format!("delete {index} of {}", things.len())))?)
}
