//! `system.tables`: the tables of a catalog, with the age and the size of what is in them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::TaskContext;
use futures::stream;
use futures::{StreamExt, TryStreamExt};
use tracing::debug;

use super::{Batches, Provider, Rows, column, internal, micros, moment};
use crate::Lakehouse;
use crate::error::{Error, Result};
use crate::name::TableName;
use crate::provider::PinnedTable;

/// Tables that are looked up at once.
const TABLES_CONCURRENT: usize = 8;

/// Tables of one batch of rows.
const ROWS_MAX: usize = 256;

/// The tables of a catalog.
pub(crate) fn tables(lakehouse: Lakehouse, catalog: &str) -> Arc<dyn TableProvider> {
    let rows: Arc<dyn Rows> = Arc::new(Listing { lakehouse, catalog: catalog.to_owned() });
    Arc::new(Provider { schema: rows.schema(), rows })
}

struct Listing {
    lakehouse: Lakehouse,
    catalog: String,
}

impl Rows for Listing {
    fn schema(&self) -> SchemaRef {
        let long = |name| column(name, DataType::Int64, true);
        Arc::new(Schema::new(vec![
            column("catalog", DataType::Utf8, false),
            column("schema", DataType::Utf8, false),
            column("table", DataType::Utf8, false),
            column("last_commit", moment(), true),
            column("age_seconds", DataType::Float64, true),
            long("snapshot_id"),
            long("files"),
            long("rows"),
            long("bytes"),
        ]))
    }

    fn read(&self, _ctx: &Arc<TaskContext>) -> Batches {
        let (lakehouse, catalog, schema) = (self.lakehouse.clone(), self.catalog.clone(), self.schema());
        let names = stream::once(async move {
            let schemas = lakehouse.schemas(&catalog).await?;
            let lakehouse = lakehouse.clone();
            let tables = stream::iter(schemas).map(move |schema| {
                let (lakehouse, catalog) = (lakehouse.clone(), catalog.clone());
                async move {
                    let tables = match lakehouse.tables(&catalog, &schema).await {
                        // Dropped since the schemas were listed.
                        Err(Error::SchemaNotFound { .. }) => Vec::new(),
                        other => other?,
                    };
                    let named = tables.into_iter().map(move |table| TableName::new(&catalog, &schema, table));
                    Ok::<_, Error>(stream::iter(named.collect::<Vec<_>>()).map(Ok::<_, Error>))
                }
            });
            Ok::<_, Error>(tables.buffered(TABLES_CONCURRENT).try_flatten())
        });
        let lakehouse = self.lakehouse.clone();
        let rows = names.try_flatten().map_ok(move |name| {
            let lakehouse = lakehouse.clone();
            async move {
                // One broken table must not hide the others: of it there is only the name.
                let pinned = lakehouse.pin(&name, None).await;
                let pinned = pinned.inspect_err(|error| debug!(table = %name, %error, "table not looked up"));
                Ok::<_, Error>((name, pinned.ok()))
            }
        });
        let chunks = rows.try_buffered(TABLES_CONCURRENT).try_chunks(ROWS_MAX).map_err(|error| error.1);
        chunks.and_then(move |rows| std::future::ready(batch(&rows, Arc::clone(&schema)))).err_into().boxed()
    }
}

fn batch(rows: &[(TableName, Option<PinnedTable>)], schema: SchemaRef) -> Result<RecordBatch> {
    let now_ms = chrono::Utc::now().timestamp_millis();
    let text = |part: fn(&TableName) -> &String| -> ArrayRef {
        Arc::new(rows.iter().map(|(name, _)| Some(part(name).as_str())).collect::<StringArray>())
    };
    let long = |value: fn(&PinnedTable) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, table)| value(table.as_ref()?)).collect::<Int64Array>())
    };
    let commits: Vec<_> = rows.iter().map(|(_, table)| table.as_ref()?.last_commit_ms()).collect();
    let ages = commits.iter().map(|ms| ms.map(|ms| (now_ms - ms) as f64 / 1000.0));
    let moments = commits.iter().map(|ms| ms.map(micros));
    let whole = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    let columns: Vec<ArrayRef> = vec![
        text(|name| &name.catalog),
        text(|name| &name.schema),
        text(|name| &name.table),
        Arc::new(moments.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(ages.collect::<Float64Array>()),
        long(PinnedTable::snapshot_id),
        Arc::new(rows.iter().map(|(_, t)| whole(t.as_ref()?.file_count())).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(_, t)| whole(t.as_ref()?.row_count())).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(_, t)| whole(t.as_ref()?.size_bytes())).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(schema, columns).map_err(internal)
}
