//! Plans on the wire under the fuzzer of `tests/fuzz`: what is ours in them, and whole plans around it.

use std::sync::Arc;

use datafusion::physical_plan::empty::EmptyExec;
use datafusion::prelude::SessionContext;
use datafusion_proto::physical_plan::{AsExecutionPlan, DefaultPhysicalProtoConverter};
use tarn_fuzz::{Shape, Target, check};

use super::tests::{codec, encode, table};
use super::*;

/// Begins a whole plan among the inputs, as long as the beginning of what is ours.
const WHOLE: &[u8; 6] = b"WHOLE:";

#[test]
fn fuzzed_plan() {
    let ctx = SessionContext::new();
    let task_ctx = ctx.task_ctx();
    let inputs: [Arc<dyn ExecutionPlan>; 1] = [Arc::new(EmptyExec::new(Arc::clone(&table().scan.schema)))];
    let decode = |input: &[u8]| {
        let decoded = match input.strip_prefix(WHOLE) {
            Some(plan) => match PhysicalPlanNode::decode(plan) {
                Ok(node) => guarded(|| node.try_into_physical_plan(&task_ctx, &codec())),
                Err(error) => return error.to_string(),
            },
            None => codec().try_decode(input, &inputs, &task_ctx, &DefaultPhysicalProtoConverter {}),
        };
        match decoded {
            Ok(plan) => format!("{} {}", plan.name(), plan.children().len()),
            Err(error) => error.strip_backtrace(),
        }
    };
    let queries = [
        "select * from t",
        "select b + 1 from t where day = 'mon' and b < 5",
        "select b from t order by b desc limit 3",
        "select a, sum(b) from t where b > 10 and day is null group by a",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut seeds = Vec::new();
    for sql in queries {
        let ctx = table().context(&[("datafusion.execution.parquet.pushdown_filters", "true")]);
        let plan =
            runtime.block_on(async { ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap() });
        seeds.push([WHOLE.as_slice(), &encode(&plan).unwrap()].concat());
        let mut leaves = vec![plan];
        while let Some(plan) = leaves.pop() {
            leaves.extend(plan.children().into_iter().map(Arc::clone));
            let mut bytes = Vec::new();
            let encoded = codec().try_encode(plan, &mut bytes, &DefaultPhysicalProtoConverter {});
            if encoded.is_ok() && bytes.starts_with(MAGIC) {
                seeds.push(bytes);
            }
        }
    }
    check(&Target {
        name: "plan",
        shape: Shape::Protobuf(WHOLE.len()),
        seeds,
        repair: &|_| {},
        decode: &decode,
    });
}
