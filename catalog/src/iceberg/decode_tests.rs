//! The Avro decoder: against the crate's as oracle, over what writers may leave out, and over garbage.

use std::collections::HashMap;
use std::sync::Arc;

use ::iceberg::io::FileIO;
use ::iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal,
    Manifest as SpecManifest, ManifestFile as SpecManifestFile, ManifestList, ManifestListWriter,
    ManifestWriterBuilder, NestedField, PartitionSpec as SpecPartitionSpec, PrimitiveType, Schema, Struct,
    Transform as SpecTransform, Type,
};
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::list_entry::read_list;
use super::*;
use crate::name::TableName;

#[tokio::test]
async fn every_type_is_decoded_as_the_crate_decodes_it() {
    let written = write(FormatVersion::V2, 50).await;
    let ours = decode_manifest(&written.manifest, &line(7), &table()).unwrap();
    let (oracle, header) = SpecManifest::parse_avro(&written.manifest).unwrap().into_parts();
    assert_eq!(ours.files.len(), oracle.len());
    let columns = header.schema().as_struct().fields();
    for (ours, oracle) in ours.files.iter().zip(&oracle) {
        let file = oracle.data_file();
        assert_eq!(ours.path, file.file_path());
        assert_eq!(ours.record_count, file.record_count());
        assert_eq!(ours.size_bytes, file.file_size_in_bytes());
        assert_eq!(ours.sequence_number, 7);
        assert_eq!(ours.split_offsets, file.split_offsets().unwrap_or_default());
        assert_eq!(ours.sort_order_id, file.sort_order_id());
        let bounds: HashMap<_, _> = ours.columns.iter().cloned().collect();
        for field in columns {
            let ours = &bounds[&field.id];
            assert_eq!(ours.null_count, file.null_value_counts().get(&field.id).copied());
            assert_eq!(ours.nan_count, file.nan_value_counts().get(&field.id).copied());
            assert_eq!(text(&ours.lower), datum(file.lower_bounds().get(&field.id)), "{}", field.name);
            assert_eq!(text(&ours.upper), datum(file.upper_bounds().get(&field.id)), "{}", field.name);
        }
        let partition: Vec<_> = file.partition().iter().map(|value| value.is_some()).collect();
        assert_eq!(ours.partition.iter().map(Option::is_some).collect::<Vec<_>>(), partition);
    }
    let partition = &ours.files[3].partition;
    assert_eq!(partition[0], Some(ScalarValue::Int64(Some(3))));
    assert_eq!(partition[1], Some(ScalarValue::Date32(Some(3))));
    assert_eq!(partition[2], Some(ScalarValue::Utf8View(Some("te".to_owned()))));
    assert_eq!(ours.files[10].partition[0], None);
}

#[tokio::test]
async fn lists_of_all_versions_are_decoded_as_the_crate_decodes_them() {
    for version in [FormatVersion::V1, FormatVersion::V2] {
        let written = write(version, 3).await;
        let ours = read_list(&written.list).unwrap();
        let oracle = ManifestList::parse_with_version(&written.list, version).unwrap();
        let [(ours, oracle)] = ours.iter().zip(oracle.entries()).collect::<Vec<_>>()[..] else {
            panic!("one")
        };
        assert_eq!((&ours.path, ours.length), (&oracle.manifest_path, oracle.manifest_length));
        assert_eq!((ours.spec_id, ours.content), (oracle.partition_spec_id, oracle.content as i32));
        assert_eq!(ours.sequence_number, oracle.sequence_number);
        assert_eq!(ours.min_sequence_number, oracle.min_sequence_number);
        assert_eq!(ours.added_snapshot_id, Some(oracle.added_snapshot_id));
        assert_eq!(ours.files[0], oracle.added_files_count.map(i64::from));
        assert_eq!(ours.rows[0], oracle.added_rows_count.map(|rows| rows as i64));
        let given = oracle.partitions.as_ref().unwrap();
        assert_eq!(ours.partitions.len(), given.len());
        for (ours, oracle) in ours.partitions.iter().zip(given) {
            assert_eq!(ours.contains_null, oracle.contains_null);
            assert_eq!(ours.lower, oracle.lower_bound.as_ref().map(|bytes| bytes.to_vec()));
            assert_eq!(ours.upper, oracle.upper_bound.as_ref().map(|bytes| bytes.to_vec()));
        }
    }
}

#[tokio::test]
async fn files_of_version_1_have_sequence_number_0() {
    let written = write(FormatVersion::V1, 3).await;
    let ours = decode_manifest(&written.manifest, &line(0), &table()).unwrap();
    assert!(ours.files.iter().all(|file| file.sequence_number == 0));
}

#[test]
fn a_bound_that_cannot_be_read_is_none_and_the_manifest_is_read() {
    // What the crate's own decoder fails over: half a number, bytes that are no text.
    let bounds: [(&[u8], PrimitiveType); 6] = [
        (&[1, 2, 3], PrimitiveType::Int),
        (&[1, 2, 3, 4, 5, 6, 7], PrimitiveType::Long),
        (&[0xff, 0xfe], PrimitiveType::String),
        (&[], PrimitiveType::Boolean),
        (&[1; 15], PrimitiveType::Uuid),
        (&[], PrimitiveType::Decimal { precision: 9, scale: 2 }),
    ];
    for (bytes, primitive) in bounds {
        assert_eq!(value::scalar_of_bytes(bytes, &primitive), None, "{primitive}");
    }
}

#[test]
fn bounds_from_before_a_promotion_are_widened() {
    let of = |bytes: &[u8], primitive| value::scalar_of_bytes(bytes, &primitive);
    assert_eq!(of(&(-7_i32).to_le_bytes(), PrimitiveType::Long), Some(ScalarValue::Int64(Some(-7))));
    assert_eq!(of(&1.5_f32.to_le_bytes(), PrimitiveType::Double), Some(ScalarValue::Float64(Some(1.5))));
    let decimal = |precision| PrimitiveType::Decimal { precision, scale: 2 };
    assert_eq!(of(&[0xff], decimal(9)), Some(ScalarValue::Decimal128(Some(-1), 9, 2)));
    assert_eq!(of(&[0, 0x80], decimal(9)), Some(ScalarValue::Decimal128(Some(128), 9, 2)));
    assert_eq!(of(&[0x80, 0], decimal(9)), Some(ScalarValue::Decimal128(Some(-32768), 9, 2)));
    let long = [[0xff; 8].as_slice(), &(-5_i128).to_be_bytes()].concat();
    assert_eq!(of(&long, decimal(38)), Some(ScalarValue::Decimal128(Some(-5), 38, 2)));
}

/// Seeded, so that a failure comes back.
#[tokio::test]
async fn damaged_bytes_are_an_error_or_a_manifest_and_never_a_panic() {
    const ROUNDS: usize = 3_000;
    let written = write(FormatVersion::V2, 20).await;
    let mut random = SmallRng::seed_from_u64(0x7a11);
    for round in 0..ROUNDS {
        for bytes in [&written.manifest, &written.list] {
            let mut damaged = bytes.to_vec();
            for _ in 0..random.random_range(1..4) {
                let place = random.random_range(0..damaged.len());
                damaged[place] = random.random();
            }
            if round % 5 == 0 {
                damaged.truncate(random.random_range(0..damaged.len()));
            }
            let _ = decode_manifest(&damaged, &line(7), &table());
            let _ = read_list(&damaged);
        }
    }
}

#[test]
fn no_length_in_a_file_is_believed() {
    let mut bytes = b"Obj\x01".to_vec();
    // A header of 2^62 entries; then a block of that many records.
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    bytes.extend(huge);
    assert!(read_list(&bytes).is_err());
    let schema =
        br#"{"type":"record","name":"r","fields":[{"name":"manifest_path","type":"null","field-id":500}]}"#;
    let mut bytes = b"Obj\x01\x02\x16avro.schema".to_vec();
    bytes.extend([(schema.len() * 2 % 128 + 128) as u8, (schema.len() * 2 / 128) as u8]);
    bytes.extend_from_slice(schema);
    bytes.push(0);
    bytes.extend([7; 16]);
    bytes.extend(huge);
    bytes.push(0);
    bytes.extend([7; 16]);
    assert!(read_list(&bytes).is_err());
}

struct Written {
    manifest: Bytes,
    list: Bytes,
}

/// A manifest of files with every type in columns and partition, as the crate writes it, and its list.
async fn write(version: FormatVersion, files: i64) -> Written {
    let types = types();
    let fields = types.iter().zip(1..).map(|(primitive, id)| {
        NestedField::optional(id, format!("c{id}"), Type::Primitive(primitive.clone())).into()
    });
    let schema = Arc::new(Schema::builder().with_schema_id(3).with_fields(fields).build().unwrap());
    let spec = SpecPartitionSpec::builder(Arc::clone(&schema))
        .with_spec_id(4)
        .add_partition_field("c3", "c3", SpecTransform::Identity)
        .and_then(|spec| spec.add_partition_field("c8", "c8_day", SpecTransform::Day))
        .and_then(|spec| spec.add_partition_field("c10", "c10_trunc", SpecTransform::Truncate(2)))
        .and_then(|spec| spec.build())
        .unwrap();
    let io = FileIO::new_with_memory();
    let output = io.new_output("memory:///m.avro").unwrap();
    let builder = ManifestWriterBuilder::new(output, Some(2), schema, spec);
    let mut writer = match version {
        FormatVersion::V1 => builder.build_v1(),
        _ => builder.build_v2_data(),
    };
    for number in 0..files {
        let ids = 1..=types.len() as i32;
        let counts = |count: u64| -> HashMap<i32, u64> { ids.clone().map(|id| (id, count)).collect() };
        let bounds = |number: i64| -> HashMap<i32, Datum> {
            types.iter().zip(1..).map(|(primitive, id)| (id, bound(primitive, number))).collect()
        };
        let null_partition = number == 10;
        let file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(format!("s3://bucket/t/data/ä {number}.parquet"))
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::from_iter([
                (!null_partition).then(|| Literal::long(number)),
                Some(Literal::date(number as i32)),
                Some(Literal::string("te")),
            ]))
            .partition_spec_id(4)
            .record_count(100 + number as u64)
            .file_size_in_bytes(1000 + number as u64)
            .column_sizes(counts(9))
            .value_counts(counts(100))
            .null_value_counts(counts(number as u64))
            .nan_value_counts(counts(1))
            .lower_bounds(bounds(number))
            .upper_bounds(bounds(number + 5))
            .split_offsets(Some(vec![4, 400]))
            .sort_order_id(1)
            .build()
            .unwrap();
        writer.add_file(file, if version == FormatVersion::V1 { 0 } else { -1 }).unwrap();
    }
    let entry: SpecManifestFile = writer.write_manifest_file().await.unwrap();
    let target = io.new_output("memory:///l.avro").unwrap().writer().await.unwrap();
    let mut writer = match version {
        FormatVersion::V1 => ManifestListWriter::v1(target, 2, None),
        _ => ManifestListWriter::v2(target, 2, None, 7),
    };
    writer.add_manifests([entry].into_iter()).unwrap();
    writer.close().await.unwrap();
    let read = async |file: &str| io.new_input(file).unwrap().read().await.unwrap();
    Written { manifest: read("memory:///m.avro").await, list: read("memory:///l.avro").await }
}

fn types() -> Vec<PrimitiveType> {
    vec![
        PrimitiveType::Boolean,
        PrimitiveType::Int,
        PrimitiveType::Long,
        PrimitiveType::Float,
        PrimitiveType::Double,
        PrimitiveType::Decimal { precision: 20, scale: 3 },
        PrimitiveType::Date,
        PrimitiveType::Timestamp,
        PrimitiveType::Timestamptz,
        PrimitiveType::String,
        PrimitiveType::Uuid,
        PrimitiveType::Fixed(3),
        PrimitiveType::Binary,
        PrimitiveType::Time,
    ]
}

fn bound(primitive: &PrimitiveType, number: i64) -> Datum {
    let bytes: Vec<u8> = match primitive {
        PrimitiveType::Boolean => vec![(number % 2) as u8],
        PrimitiveType::Int | PrimitiveType::Date => (number as i32 - 9).to_le_bytes().to_vec(),
        PrimitiveType::Float => (number as f32 / 2.0).to_le_bytes().to_vec(),
        PrimitiveType::Double => (number as f64 / 2.0).to_le_bytes().to_vec(),
        PrimitiveType::Decimal { .. } => vec![(number - 20) as u8, 200],
        PrimitiveType::String => format!("ü{number}").into_bytes(),
        PrimitiveType::Uuid => vec![number as u8; 16],
        PrimitiveType::Fixed(_) => vec![number as u8; 3],
        PrimitiveType::Binary => vec![number as u8; number as usize],
        _ => (number - 20).to_le_bytes().to_vec(),
    };
    Datum::try_from_bytes(&bytes, primitive.clone()).unwrap()
}

/// The oracle's bound in a form that ours has, too.
fn datum(datum: Option<&Datum>) -> Option<String> {
    use ::iceberg::spec::PrimitiveLiteral as L;
    Some(match datum?.literal() {
        L::Boolean(v) => v.to_string(),
        L::Int(v) => v.to_string(),
        L::Long(v) => v.to_string(),
        L::Float(v) => v.0.to_string(),
        L::Double(v) => v.0.to_string(),
        L::Int128(v) => v.to_string(),
        L::String(v) => v.clone(),
        L::Binary(v) => format!("{v:?}"),
        L::UInt128(v) => format!("{:?}", v.to_be_bytes()),
        _ => panic!("no bound"),
    })
}

fn text(value: &Option<ScalarValue>) -> Option<String> {
    use ScalarValue as S;
    Some(match value.as_ref()? {
        S::Boolean(Some(v)) => v.to_string(),
        S::Int32(Some(v)) | S::Date32(Some(v)) => v.to_string(),
        S::Int64(Some(v)) | S::Time64Microsecond(Some(v)) | S::TimestampMicrosecond(Some(v), _) => {
            v.to_string()
        }
        S::Float32(Some(v)) => v.to_string(),
        S::Float64(Some(v)) => v.to_string(),
        S::Decimal128(Some(v), 20, 3) => v.to_string(),
        S::Utf8View(Some(v)) => v.clone(),
        S::BinaryView(Some(v)) | S::FixedSizeBinary(_, Some(v)) => format!("{v:?}"),
        other => panic!("no bound: {other:?}"),
    })
}

fn line(sequence_number: i64) -> ManifestFile {
    ManifestFile {
        path: "m.avro".to_owned(),
        deletes: false,
        spec_id: 4,
        sequence_number,
        first_row_id: None,
        live_files: None,
        live_rows: None,
        encrypted: false,
        partitions: Vec::new(),
    }
}

fn table() -> TableName {
    TableName::new("c", "s", "t")
}
