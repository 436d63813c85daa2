//! The decoders over every metadata file that other engines wrote for `tests/fixtures`: as they are, against the
//! crate's decoder as oracle, and with random damage. These files are the corpus; whatever once broke a decoder is
//! added there or in `tests.rs`.

use std::path::{Path, PathBuf};

use ::iceberg::spec::{Manifest as SpecManifest, TableMetadata};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::list_entry::read_list;
use super::*;
use crate::name::TableName;

/// Damaged copies of each file.
const ROUNDS_PER_FILE: usize = 10;

#[test]
fn lists_and_manifests_of_other_engines_are_decoded_as_the_crate_decodes_them() {
    let (mut lists, mut manifests) = (0, 0);
    for (path, bytes) in corpus("avro") {
        if is_list(&bytes) {
            // Files with damage on purpose are errors in both.
            let Ok(entries) = read_list(&bytes) else { continue };
            lists += 1;
            assert!(entries.iter().all(|entry| !entry.path.is_empty()), "{path:?}");
            continue;
        }
        let oracle = guarded(|| SpecManifest::parse_avro(&bytes));
        let ours = decode_manifest(&bytes, &line(&bytes), &table());
        // Ours also reads what the crate does not: types of version 3, bounds that are garbage.
        let Ok(oracle) = oracle else { continue };
        let ours = ours.unwrap_or_else(|error| panic!("{path:?}: {error}"));
        manifests += 1;
        let live: Vec<_> = oracle.entries().iter().filter(|entry| entry.is_alive()).collect();
        assert_eq!(ours.files.len(), live.len(), "{path:?}");
        for (ours, oracle) in ours.files.iter().zip(live) {
            let file = oracle.data_file();
            assert_eq!(ours.path, file.file_path(), "{path:?}");
            assert_eq!(ours.record_count, file.record_count(), "{path:?}");
            assert_eq!(ours.size_bytes, file.file_size_in_bytes(), "{path:?}");
            assert_eq!(ours.equality_ids, file.equality_ids().unwrap_or_default(), "{path:?}");
            assert_eq!(ours.referenced_data_file, file.referenced_data_file(), "{path:?}");
            assert_eq!(ours.content_offset, file.content_offset(), "{path:?}");
            let nulls = |value: Option<&::iceberg::spec::Literal>| value.is_none();
            let theirs: Vec<_> = file.partition().iter().map(nulls).collect();
            assert_eq!(ours.partition.iter().map(Option::is_none).collect::<Vec<_>>(), theirs, "{path:?}");
            for (id, bounds) in &ours.columns {
                assert_eq!(bounds.null_count, file.null_value_counts().get(id).copied(), "{path:?}");
                if bounds.lower.is_some() {
                    assert!(file.lower_bounds().contains_key(id), "{path:?}");
                }
            }
        }
    }
    assert!(lists > 100 && manifests > 100, "{lists} lists, {manifests} manifests");
}

#[test]
fn damaged_manifests_and_lists_of_other_engines_never_panic() {
    let mut random = SmallRng::seed_from_u64(0xdead);
    for (_, bytes) in corpus("avro") {
        let line = line(&bytes);
        for _ in 0..ROUNDS_PER_FILE {
            let damaged = damage(&mut random, &bytes);
            let _ = decode_manifest(&damaged, &line, &table());
            let _ = read_list(&damaged);
            let entry = ListEntry::default();
            let _ = each_entry(&damaged, &entry, &table(), |row| row.partition().map(drop));
        }
    }
}

#[tokio::test]
async fn metadata_of_other_engines_is_read_and_damaged_metadata_never_panics() {
    let mut random = SmallRng::seed_from_u64(0xbeef);
    let mut read = 0;
    for (path, bytes) in corpus("json") {
        let crates = guarded(|| Ok(serde_json::from_slice::<TableMetadata>(&bytes)?)).is_ok();
        let ours = Metadata::parse(Bytes::from(bytes.clone()), &table(), "f").await;
        // What the crate reads, we read, but for what we refuse by name.
        if let (true, Err(error)) = (crates, &ours) {
            assert!(matches!(error, crate::Error::NotSupported { .. }), "{path:?}: {error}");
        }
        read += usize::from(ours.is_ok());
        for _ in 0..ROUNDS_PER_FILE {
            let damaged = damage(&mut random, &bytes);
            let _ = Metadata::parse(Bytes::from(damaged), &table(), "f").await;
        }
    }
    assert!(read > 50, "{read}");
}

/// Every metadata file of the fixtures with this extension, gzipped ones among them.
pub(super) fn corpus(extension: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tables");
    let (mut folders, mut found) = (vec![root], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if folder.ends_with("metadata")
                && path.to_string_lossy().trim_end_matches(".gz").ends_with(extension)
            {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

pub(super) fn is_list(bytes: &[u8]) -> bool {
    let header = &bytes[..bytes.len().min(1 << 14)];
    header.windows(15).any(|window| window == b"\"manifest_path\"")
}

fn damage(random: &mut SmallRng, bytes: &[u8]) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    for _ in 0..random.random_range(1..5) {
        let place = random.random_range(0..damaged.len().max(1));
        match random.random_range(0..4) {
            0 => damaged.truncate(place),
            1 if place < damaged.len() => drop(damaged.remove(place)),
            2 => damaged.insert(place.min(damaged.len()), random.random()),
            _ if place < damaged.len() => damaged[place] = random.random(),
            _ => {}
        }
    }
    damaged
}

/// A line that any of them could have: deletes or data as the header says.
pub(super) fn line(bytes: &[u8]) -> ManifestFile {
    let header = &bytes[..bytes.len().min(1 << 16)];
    let deletes = header.windows(15).any(|window| window == b"content\x0edeletes");
    ManifestFile { path: "m.avro".to_owned(), deletes, sequence_number: 1_000, ..ManifestFile::default() }
}

pub(super) fn table() -> TableName {
    TableName::new("c", "s", "t")
}
