//! Plans over the wire.
//!
//! ```text
//!   "TARN" version tag payload      scan:  stock encoding of the Parquet scan + table + file tasks by group
//!                                   write: see `write`
//! ```
//!
//! The stock encoding carries options, predicate, projection, ranges and
//! statistics; the file tasks travel beside it and are put back file by file,
//! their numbers checked. Nodes that are not ours go to the next codec, an
//! engine's own. The one rule: whatever does not fit is an error, since a
//! scan that lost its file tasks would still run and answer wrongly.

mod deletes;
mod message;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering};
use datafusion::physical_expr_common::physical_expr::proto_decode::PhysicalExprDecodeCtx;
use datafusion::physical_expr_common::physical_expr::proto_encode::PhysicalExprEncodeCtx;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr, SortOrderPushdownResult};
use datafusion_datasource::PartitionedFile;
use datafusion_datasource::file::FileSource;
use datafusion_proto::physical_plan::from_proto::parse_physical_sort_exprs;
use datafusion_proto::physical_plan::to_proto::serialize_physical_sort_exprs;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use prost::Message;

use crate::error::Error;
use crate::exec::leaf;
use crate::source::IcebergSource;
use crate::task::{FileTask, TableScan};

const MAGIC: &[u8; 4] = b"TARN";
/// Scheduler and executors of one cluster run one version; another is refused, not guessed at.
const VERSION: u8 = 3;
const TAG_SCAN: u8 = 1;
const TAG_WRITE: u8 = 2;

/// Where a query's id is looked up if the plan does not carry it: section and key of the session's options.
const QUERY_ID_OPTION: (&str, &str) = ("tarn", "query_id");

/// Encodes our leaves and writes; the rest goes to the next codec.
#[derive(Debug)]
pub struct Codec {
    next: Arc<dyn PhysicalExtensionCodec>,
}

impl Codec {
    /// In front of an engine's own codec, or of DataFusion's default, which knows no extension.
    pub fn new(next: Arc<dyn PhysicalExtensionCodec>) -> Self {
        Self { next }
    }

    fn encode_scan(
        &self,
        config: &FileScanConfig,
        source: &IcebergSource,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Vec<u8>> {
        let scan = source.scan();
        let mut parquet = config.clone();
        parquet.file_source = Arc::clone(source.inner());
        let parquet: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(parquet);
        let mut deletes = deletes::Writer::default();
        let mut file = |file: &PartitionedFile| match file.extensions.get::<FileTask>() {
            Some(task) => message::File::new(task, &mut deletes),
            None => Err(Error::MissingFileTask {
                table: scan.table.clone(),
                path: file.object_meta.location.to_string(),
            }
            .into()),
        };
        let group = |group: &FileGroup| {
            Ok(message::Group { files: group.iter().map(&mut file).collect::<Result<_>>()? })
        };
        let groups = config.file_groups.iter().map(group).collect::<Result<_>>()?;
        let message = message::Scan {
            parquet: converter.execution_plan_to_proto(&parquet, self)?.encode_to_vec(),
            table: scan.table.clone(),
            table_uuid: scan.table_uuid.as_bytes().to_vec(),
            snapshot_id: scan.snapshot_id,
            name_mapping: scan.name_mapping.clone(),
            query_id: source.query_id().map(str::to_owned),
            groups,
            delete_files: deletes.files,
            equality_lists: deletes.lists,
            sort_hint: match source.sort_hint() {
                Some(hint) => serialize_physical_sort_exprs(hint.to_vec(), self, converter)?,
                None => Vec::new(),
            },
            preserve_order: config.preserve_order,
            format_version: u32::from(scan.format_version),
        };
        Ok(message.encode_to_vec())
    }

    fn decode_scan(
        &self,
        payload: &[u8],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let damaged = |error: prost::DecodeError| Error::Codec(error.to_string());
        let message = message::Scan::decode(payload).map_err(damaged)?;
        let node = PhysicalPlanNode::decode(message.parquet.as_slice()).map_err(damaged)?;
        let decode_ctx = PhysicalPlanDecodeContext::new(ctx, self);
        let plan = converter.proto_to_execution_plan(&node, &decode_ctx)?;
        let Some(config) = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>())
        else {
            return internal_err!("the scan of table {} decoded to {}", message.table, plan.name());
        };
        let Some(parquet) = config.file_source.downcast_ref::<ParquetSource>() else {
            return internal_err!("the scan of table {} decoded to another file source", message.table);
        };
        let scan = Arc::new(TableScan {
            table_uuid: message.uuid()?,
            snapshot_id: message.snapshot_id,
            format_version: message.format_version()?,
            schema: Arc::clone(parquet.table_schema().file_schema()),
            name_mapping: message.name_mapping,
            table: message.table,
        });
        let query_id = message.query_id.or_else(|| query_id(ctx));
        let source = IcebergSource::new(parquet.clone(), scan).with_query_id(query_id.as_deref());
        let schema = source.table_schema().table_schema();
        let hint = parse_physical_sort_exprs(&message.sort_hint, &decode_ctx, schema, converter)?;
        let mut config = config.clone();
        let deletes = deletes::Reader::new(message.delete_files, message.equality_lists)?;
        config.file_groups = reattach(&config.file_groups, message.groups, &deletes)?;
        config.file_source = with_sort_hint(source, LexOrdering::new(hint))?;
        config.preserve_order = message.preserve_order;
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Puts the file tasks back onto their files.
fn reattach(
    groups: &[FileGroup],
    tasks: Vec<message::Group>,
    deletes: &deletes::Reader,
) -> Result<Vec<FileGroup>> {
    if groups.len() != tasks.len() {
        let (files, tasks) = (groups.len(), tasks.len());
        return Err(Error::Codec(format!("{files} file groups but {tasks} groups of file tasks")).into());
    }
    let group = |(group, tasks): (&FileGroup, message::Group)| {
        if group.len() != tasks.files.len() {
            let (files, tasks) = (group.len(), tasks.files.len());
            return Err(Error::Codec(format!("{files} files but {tasks} file tasks")).into());
        }
        let files = group.iter().zip(tasks.files).map(|(file, task)| {
            let task = task.into_task(deletes)?;
            let path = crate::storage::path_of(&task.uri)?;
            if path != file.object_meta.location {
                let location = &file.object_meta.location;
                return Err(Error::Codec(format!("file {location} with the task of {path}")).into());
            }
            Ok(file.clone().with_extension(task))
        });
        Ok(FileGroup::new(files.collect::<Result<Vec<_>>>()?))
    };
    groups.iter().zip(tasks).map(group).collect()
}

/// Asks the decoded source once more for the sort it approximated; a source that now declines only
/// reads in another order.
fn with_sort_hint(source: IcebergSource, hint: Option<LexOrdering>) -> Result<Arc<dyn FileSource>> {
    let Some(hint) = hint else {
        return Ok(Arc::new(source));
    };
    let nothing_known = EquivalenceProperties::new(Arc::clone(source.table_schema().table_schema()));
    Ok(match source.try_pushdown_sort(&hint, &nothing_known)? {
        SortOrderPushdownResult::Inexact { inner } => inner,
        _ => Arc::new(source),
    })
}

fn query_id(ctx: &TaskContext) -> Option<String> {
    let (section, key) = QUERY_ID_OPTION;
    let extensions = &ctx.session_config().options().extensions;
    let (_, options) = extensions.iter().find(|(prefix, _)| *prefix == section)?;
    let named = |name: &str| {
        name == key || name.strip_prefix(section).is_some_and(|n| n.trim_start_matches('.') == key)
    };
    let value = options.entries().into_iter().find(|entry| named(&entry.key))?.value?;
    (!value.is_empty()).then_some(value)
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(rest) = buf.strip_prefix(MAGIC) else {
            return self.next.try_decode(buf, inputs, ctx, converter);
        };
        match rest {
            [VERSION, TAG_SCAN, payload @ ..] => guarded(|| self.decode_scan(payload, ctx, converter)),
            [VERSION, TAG_WRITE, payload @ ..] => crate::write::try_decode(payload, inputs),
            [VERSION, tag, ..] => Err(Error::Codec(format!("unknown kind of node {tag}")).into()),
            [version, ..] => {
                Err(Error::Codec(format!("version {version} of the plan encoding, not {VERSION}")).into())
            }
            [] => Err(Error::Codec("the plan is cut off".to_owned()).into()),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if let Some((config, source)) = leaf(&node) {
            let payload = self.encode_scan(config, source, converter)?;
            header(buf, TAG_SCAN);
            buf.extend_from_slice(&payload);
            return Ok(());
        }
        let mut payload = Vec::new();
        if let Some(result) = crate::write::try_encode(&node, &mut payload) {
            result?;
            header(buf, TAG_WRITE);
            buf.extend_from_slice(&payload);
            return Ok(());
        }
        self.next.try_encode(node, buf, converter)
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.next.try_decode_udf(name, buf)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.next.try_encode_udf(node, buf)
    }

    fn try_decode_higher_order_function(&self, name: &str, buf: &[u8]) -> Result<Arc<HigherOrderUDF>> {
        self.next.try_decode_higher_order_function(name, buf)
    }

    fn try_encode_higher_order_function(&self, node: &HigherOrderUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.next.try_encode_higher_order_function(node, buf)
    }

    fn try_decode_expr(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn PhysicalExpr>],
        ctx: &PhysicalExprDecodeCtx<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        self.next.try_decode_expr(buf, inputs, ctx)
    }

    fn try_encode_expr(
        &self,
        node: &Arc<dyn PhysicalExpr>,
        buf: &mut Vec<u8>,
        ctx: &PhysicalExprEncodeCtx<'_>,
    ) -> Result<()> {
        self.next.try_encode_expr(node, buf, ctx)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.next.try_decode_udaf(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.next.try_encode_udaf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.next.try_decode_udwf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.next.try_encode_udwf(node, buf)
    }
}

/// Decodes a plan, or a part of one, by the engine's decoder: it panics over some of what is none, which is an
/// error here.
pub fn guarded<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded,
        Err(_) => Err(Error::Codec("its parts are not what they should be".to_owned()).into()),
    }
}

fn header(buf: &mut Vec<u8>, tag: u8) {
    buf.extend_from_slice(MAGIC);
    buf.extend_from_slice(&[VERSION, tag]);
}

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tests;
