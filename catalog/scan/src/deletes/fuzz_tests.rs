//! The decoders of deletes under the fuzzer of `tests/fuzz`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::exec_datafusion_err;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterVersion};
use roaring::RoaringTreemap;
use tarn_fuzz::{Shape, Target, check};
use uuid::Uuid;

use super::positions::{self, FilePositions};
use super::{DeleteFile, reader, vector};
use crate::testing::{field, write};
use crate::{FileFormat, TableScan};

#[test]
fn fuzzed_deletion_vector() {
    let decode = |input: &[u8]| {
        // The number of rows is in the manifest; here it is what the blob says.
        let rows = match vector::decode(input, u64::MAX) {
            Err(error) => error.split(' ').nth(3).and_then(|n| n.parse().ok()).ok_or(error),
            Ok(_) => Ok(u64::MAX),
        };
        let decoded = rows.and_then(|rows: u64| vector::decode(input, rows));
        match decoded {
            Ok(positions) => {
                let kinds = positions.bitmaps().count().min(3);
                let selection = positions::selection(&positions, 1000).is_some();
                format!("read {selection} {}", "+".repeat(kinds))
            }
            // Checksums are told in hex, and no two are alike.
            Err(error) if error.contains("checksum") => "checksum".to_owned(),
            Err(error) => error,
        }
    };
    // Length and checksum.
    let repair = |input: &mut Vec<u8>| {
        if input.len() < 12 {
            return;
        }
        let content = input[4..input.len() - 4].to_vec();
        *input = [
            &(content.len() as u32).to_be_bytes(),
            content.as_slice(),
            &crc32fast::hash(&content).to_be_bytes(),
        ]
        .concat();
    };
    let mut sets: Vec<RoaringTreemap> = vec![
        RoaringTreemap::new(),
        [0].into_iter().collect(),
        (0..300).step_by(7).collect(),
        (0..9000).step_by(2).collect(),
        [1, 1 << 33, 5 << 40].into_iter().collect(),
    ];
    let mut runs = RoaringTreemap::new();
    runs.insert_range(10..100_000);
    runs.insert_range(4_294_967_000..4_294_968_000);
    runs.optimize();
    sets.push(runs);
    let mut seeds: Vec<_> = sets.iter().map(vector::encode).collect();
    seeds.push(seeds[3][4..seeds[3].len() - 4].to_vec());
    check(&Target { name: "deletion_vector", shape: Shape::Bytes, seeds, repair: &repair, decode: &decode });
}

#[test]
fn fuzzed_position_deletes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scan = TableScan {
        table: "lake.db.t".to_owned(),
        table_uuid: Uuid::nil(),
        snapshot_id: Some(7),
        schema: Arc::new(Schema::empty()),
        format_version: 2,
        name_mapping: None,
    };
    let decode = |input: &[u8]| {
        let read = async {
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let place = Path::from("file/-/d.parquet");
            store.put(&place, PutPayload::from(input.to_vec())).await.map_err(|e| e.to_string())?;
            let file = DeleteFile {
                format: FileFormat::Parquet,
                uri: "file:///d.parquet".to_owned(),
                size_bytes: input.len() as u64,
                record_count: 3,
                data_sequence_number: 1,
            };
            let mut positions = FilePositions::default();
            let add = |batch| positions.add(&batch).map_err(|reason| exec_datafusion_err!("{reason}"));
            let read = reader::read(&store, &scan, &file, positions::schema(), add).await;
            read.map_err(|error| error.to_string())?;
            Ok::<_, String>(format!("read {} {}", positions.of("a").is_some(), positions.heap_bytes() > 200))
        };
        runtime.block_on(read).unwrap_or_else(|error| error)
    };
    let folder = tempfile::tempdir().unwrap();
    let paths = ["s3://b/t/data/00000.parquet", "a", "a", "a", "file:/x"];
    let columns = || {
        let paths: ArrayRef = Arc::new(StringArray::from_iter_values(paths));
        let places: ArrayRef = Arc::new(Int64Array::from_iter_values([0, 1, 5, 1 << 40, 7]));
        vec![
            (field(2_147_483_546, "file_path", DataType::Utf8).with_nullable(false), paths),
            (field(2_147_483_545, "pos", DataType::Int64).with_nullable(false), places),
        ]
    };
    let plain = || WriterProperties::builder().set_dictionary_enabled(false);
    let properties = [
        WriterProperties::builder().build(),
        plain().build(),
        plain().set_writer_version(WriterVersion::PARQUET_2_0).set_compression(Compression::SNAPPY).build(),
        plain().set_max_row_group_row_count(Some(2)).set_data_page_row_count_limit(1).build(),
        WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build(),
    ];
    let seeds = properties.into_iter().enumerate().map(|(number, properties)| {
        let path = folder.path().join(format!("{number}.parquet"));
        write(&path, columns(), properties);
        std::fs::read(path).unwrap()
    });
    let seeds = seeds.collect();
    check(&Target {
        name: "position_deletes",
        shape: Shape::Bytes,
        seeds,
        repair: &|input| repair_parquet(input),
        decode: &decode,
    });
}

/// The end of a Parquet file: the length of its footer stays what the frame says, its magic in place.
fn repair_parquet(input: &mut [u8]) {
    let Some(tail) = input.len().checked_sub(8) else { return };
    input[tail + 4..].copy_from_slice(b"PAR1");
    let stated = u32::from_le_bytes([input[tail], input[tail + 1], input[tail + 2], input[tail + 3]]);
    if stated as usize > tail {
        input[tail..tail + 4].copy_from_slice(&(tail as u32 / 2).to_le_bytes());
    }
}
