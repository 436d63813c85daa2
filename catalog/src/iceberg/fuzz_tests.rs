//! The decoders of metadata under the fuzzer of `tests/fuzz`, from the files that other engines wrote.

use std::io::Read;

use bytes::Bytes;
use futures::FutureExt;
use tarn_fuzz::{Shape, Target, check};

use super::list_entry::read_list;
use super::replay_tests::{corpus, is_list, line, table};
use super::*;
use crate::plan::{DeleteBlock, FileBlock};

/// Longest file that is a seed, and how many there are.
const SEED_BYTES_MAX: usize = 12 << 10;
const SEEDS_MAX: usize = 150;

#[test]
fn fuzzed_metadata() {
    let decode = |input: &[u8]| {
        // It only looks as if it waited.
        let parsed = Metadata::parse(Bytes::copy_from_slice(input), &table(), "f").now_or_never();
        let metadata = match parsed {
            Some(Ok(metadata)) => metadata,
            Some(Err(error)) => return error.to_string(),
            None => return "waits".to_owned(),
        };
        let schemas = [metadata.current_schema_id(), 0, 1, i32::MAX];
        let schemas =
            schemas.map(|id| metadata.schema(id, &table()).map(|schema| schema.arrow.fields().len()));
        let said = format!(
            "version {} {:?} {} refs {:?} snapshot {} history {} specs {} partition {} json",
            metadata.format_version(),
            metadata.refs().len().min(3),
            schemas.iter().filter(|schema| schema.is_ok()).count(),
            metadata.current_snapshot_id().and_then(|id| metadata.snapshot(id)).is_some(),
            metadata.history().len().min(2),
            metadata.partition_specs().len().min(4),
            metadata.partition_type().len().min(4),
            metadata.to_json().is_ok(),
        );
        // Counts tell ways apart here, so they are spelt out.
        said.replace(|c: char| c.is_ascii_digit(), "+")
    };
    let seeds = seeds("json", |bytes| Some(bytes.to_vec()));
    check(&Target { name: "metadata", shape: Shape::Json, seeds, repair: &|_| {}, decode: &decode });
}

#[test]
fn fuzzed_manifest() {
    let decode = |input: &[u8]| {
        let line = line(input);
        let decoded = decode_manifest(input, &line, &table());
        let mut rows = 0;
        let each = each_entry(input, &ListEntry::default(), &table(), |row| {
            rows += 1;
            let (_, _, _) = (row.sequence_number(), row.file_sequence_number(), row.snapshot_id());
            row.partition().map(drop)
        });
        let decoded = match decoded {
            Ok(manifest) => {
                let kinds = manifest.files.iter().map(|file| format!("{:?} {:?}", file.content, file.format));
                let kinds: std::collections::BTreeSet<_> = kinds.collect();
                format!("{kinds:?} {} fields", manifest.head.spec.fields.len() > 1)
            }
            Err(error) => error.to_string(),
        };
        // As planning wants them.
        let blocks = match line.deletes {
            true => DeleteBlock::read(input, &line, &table()).is_ok(),
            false => FileBlock::read(input, &line, &table()).is_ok(),
        };
        let each = each.map_or_else(|error| error.to_string(), |()| (rows > 0).to_string());
        format!("{decoded} {blocks} {each}")
    };
    let seeds = seeds("avro", |bytes| (!is_list(bytes)).then(|| unpacked(bytes)).flatten());
    check(&Target { name: "manifest", shape: Shape::Avro, seeds, repair: &|_| {}, decode: &decode });
}

#[test]
fn fuzzed_manifest_list() {
    let decode = |input: &[u8]| match read_list(input) {
        Ok(entries) => {
            let summaries = entries.iter().map(|entry| entry.partitions.len()).max();
            format!("{:?} entries, summaries {:?}", !entries.is_empty(), summaries.map(|most| most > 0))
        }
        Err(error) => error,
    };
    let seeds = seeds("avro", |bytes| is_list(bytes).then(|| unpacked(bytes)).flatten());
    check(&Target { name: "manifest_list", shape: Shape::Avro, seeds, repair: &|_| {}, decode: &decode });
}

/// Files of the fixtures, spread over all of them.
fn seeds(extension: &str, take: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let all = corpus(extension).into_iter().filter_map(|(_, bytes)| take(&bytes));
    let small: Vec<_> = all.filter(|bytes| bytes.len() <= SEED_BYTES_MAX).collect();
    let step = small.len().div_ceil(SEEDS_MAX).max(1);
    small.into_iter().step_by(step).collect()
}

/// An Avro container with its first block as it is without compression.
fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    let deflated = |packed: &[u8]| {
        let mut block = Vec::new();
        flate2::read::DeflateDecoder::new(packed).read_to_end(&mut block).ok()?;
        Some(block)
    };
    tarn_fuzz::without_compression(bytes, &deflated)
}
