//! There and back, and what must not go through.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::DataType;
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionContext;
use datafusion_proto::physical_plan::{AsExecutionPlan, DefaultPhysicalExtensionCodec};
use datafusion_proto::protobuf::PhysicalPlanNode;

use super::*;
use crate::task::FileFormat;
use crate::testing::{Table, field, run, text};
use crate::{
    DeleteFile, Deletes, DeletionVector, EqualityDeletes, EqualityKey, JoinedDeletes, scan_of, with_groups,
    with_query_id,
};

pub(super) fn codec() -> Codec {
    Codec::new(Arc::new(DefaultPhysicalExtensionCodec {}))
}

pub(super) fn table() -> Table {
    let ints = |range: std::ops::Range<i32>| Arc::new(Int32Array::from_iter_values(range)) as ArrayRef;
    let mut table = Table::new(vec![
        field(2, "a", DataType::Int32),
        field(1, "b", DataType::Int64),
        field(3, "day", DataType::Utf8View),
    ])
    .file(vec![(field(1, "a", DataType::Int32), ints(0..50))])
    .file(vec![
        (field(2, "a", DataType::Int32), ints(0..50)),
        (field(1, "b", DataType::Int32), ints(50..100)),
    ])
    .with_name_mapping("[]");
    table.task(0).constants = vec![(3, text("mon"))];
    table
}

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<u8>> {
    let node = PhysicalPlanNode::try_from_physical_plan(Arc::clone(plan), &codec())?;
    Ok(node.encode_to_vec())
}

fn decode(bytes: &[u8], ctx: &SessionContext) -> Result<Arc<dyn ExecutionPlan>> {
    let node = PhysicalPlanNode::decode(bytes).unwrap();
    node.try_into_physical_plan(&ctx.task_ctx(), &codec())
}

#[tokio::test]
async fn plans_come_back_and_give_the_same_rows() {
    let queries = [
        "select * from t",
        "select a, sum(b) from t where b > 10 and day is null group by a",
        "select b + 1 from t where day = 'mon' and b < 5",
        "select b from t order by b desc limit 3",
        "select b, upper(day) from t limit 100",
        "select t.b, u.a from t join t u on t.b = u.b where u.b between 40 and 60",
    ];
    for pushdown in ["false", "true"] {
        let ctx = table().context(&[("datafusion.execution.parquet.pushdown_filters", pushdown)]);
        for sql in queries {
            let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
            let back = decode(&encode(&plan).unwrap(), &ctx).unwrap();
            let show = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
            assert_eq!(
                show(&plan).contains("sort_order_for_reorder"),
                show(&back).contains("sort_order_for_reorder"),
                "{sql}"
            );
            assert_eq!(run(back, &ctx).await.unwrap(), run(plan, &ctx).await.unwrap(), "{sql}");
        }
    }
}

#[tokio::test]
async fn everything_about_a_scan_survives() {
    let mut table = table();
    table.task(0).range = Some(4..1000);
    let plan = with_query_id(table.plan(), "q7").unwrap();
    let ctx = table.context(&[]);
    let back = decode(&encode(&plan).unwrap(), &ctx).unwrap();
    let (before, after) = (scan_of(&plan).unwrap(), scan_of(&back).unwrap());
    assert_eq!(before.scan, after.scan);
    assert_eq!(before.groups, after.groups);
    assert_eq!(leaf(&back).unwrap().1.query_id(), Some("q7"));
}

#[tokio::test]
async fn deletes_survive_and_are_sent_once() {
    let file = |uri: &str| {
        Arc::new(DeleteFile {
            uri: uri.to_owned(),
            format: FileFormat::Avro,
            size_bytes: 9,
            record_count: 3,
            data_sequence_number: 4,
        })
    };
    let nested = DataType::Struct(vec![field(8, "x", DataType::Int32)].into());
    let key = EqualityKey { field: Arc::new(field(7, "gone", nested)), path: vec![8] };
    let list = Arc::new(EqualityDeletes { keys: vec![key], files: vec![file("/e1"), file("/e2")] });
    let mut table = table();
    table.task(0).deletes = Deletes {
        positions: vec![file("/p"), file("/e2")],
        equality: vec![Arc::clone(&list)],
        ..Deletes::default()
    };
    let vector = DeletionVector { uri: "/v".to_owned(), offset: 4, size_bytes: 90, cardinality: 12 };
    let joined = vec![JoinedDeletes { layer: 1, group: 7, list: Arc::clone(&list) }];
    table.task(1).deletes =
        Deletes { vector: Some(vector), equality: vec![list], joined, ..Deletes::default() };
    let plan = table.plan();
    let ctx = table.context(&[]);
    let bytes = encode(&plan).unwrap();
    let back = decode(&bytes, &ctx).unwrap();
    let groups = scan_of(&back).unwrap().groups;
    assert_eq!(groups, scan_of(&plan).unwrap().groups);
    assert!(Arc::ptr_eq(&groups[0][0].deletes.equality[0], &groups[1][0].deletes.equality[0]));
    let times = |text: &[u8]| bytes.windows(text.len()).filter(|window| *window == text).count();
    assert_eq!((times(b"/e1"), times(b"/e2"), times(b"/p")), (1, 1, 1));
    let unknown = deletes::Reader::new(Vec::new(), Vec::new()).unwrap();
    let mut writer = deletes::Writer::default();
    let references = writer.references(&groups[0][0].deletes).unwrap();
    assert!(unknown.resolve(references).is_err());
}

#[tokio::test]
async fn a_scan_without_files_has_no_partitions() {
    let table = table();
    let plan = with_groups(&table.plan(), Vec::new()).unwrap();
    let ctx = table.context(&[]);
    let back = decode(&encode(&plan).unwrap(), &ctx).unwrap();
    assert_eq!(back.properties().partitioning.partition_count(), 0);
}

#[test]
fn without_the_codec_a_scan_cannot_be_encoded() {
    let plan = table().plan();
    let result = PhysicalPlanNode::try_from_physical_plan(plan, &DefaultPhysicalExtensionCodec {});
    assert!(result.is_err());
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let table = table();
    let plan = table.plan();
    let ctx = table.context(&[]);
    let node = PhysicalPlanNode::decode(encode(&plan).unwrap().as_slice()).unwrap();
    let Some(datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType::Extension(extension)) =
        node.physical_plan_type
    else {
        panic!("a scan is an extension node");
    };
    let decode = |bytes: &[u8]| {
        let converter = datafusion_proto::physical_plan::DefaultPhysicalProtoConverter {};
        codec().try_decode(bytes, &[], &ctx.task_ctx(), &converter)
    };
    let good = extension.node;
    assert!(decode(&good).is_ok());
    let mut version = good.clone();
    version[4] = 9;
    let mut lost = message::Scan::decode(&good[6..]).unwrap();
    lost.groups[1].files.clear();
    let mut moved = message::Scan::decode(&good[6..]).unwrap();
    moved.groups.swap(0, 1);
    let again = |scan: message::Scan| [&good[..6], &scan.encode_to_vec()].concat();
    for bad in [version, good[..5].to_vec(), good[1..].to_vec(), again(lost), again(moved)] {
        assert!(decode(&bad).is_err());
    }
}
