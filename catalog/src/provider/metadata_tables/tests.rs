//! Metadata tables, over tables of files that were never written: nothing here opens a data file.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use tarn_scan::storage::Router;
use tarn_scan::write::{ColumnMetrics, Transform, WrittenFile};

use super::*;
use crate::config::{CatalogConfig, CatalogKind, Config};
use crate::write::{CreateMode, NewPartitionField, NewTable};
use crate::{Lakehouse, TimeTravel};

#[test]
fn a_name_with_a_kind_is_split_at_its_last_dollar() {
    assert_eq!(MetadataTable::split("orders$files"), Some(("orders", MetadataTable::Files)));
    assert_eq!(MetadataTable::split("a$b$refs"), Some(("a$b", MetadataTable::Refs)));
    assert_eq!(MetadataTable::split("orders$no_such"), None);
    assert_eq!(MetadataTable::split("$files"), None);
    assert_eq!(MetadataTable::split("orders"), None);
}

#[tokio::test]
async fn snapshots_history_and_refs_tell_of_every_commit() {
    let table = Table::with_two_commits().await;
    let rows = table
        .sql(
            MetadataTable::Snapshots,
            "select operation, summary['added-data-files'], parent_id is null from t order by committed_at",
        )
        .await;
    assert_eq!(rows, ["append 2 true", "append 1 false"]);
    let rows = table
        .sql(
            MetadataTable::History,
            "select is_current_ancestor, parent_id is null from t order by made_current_at",
        )
        .await;
    assert_eq!(rows, ["true true", "true false"]);
    let rows = table.sql(MetadataTable::Refs, "select name, type from t").await;
    assert_eq!(rows, ["main BRANCH"]);
    // Made, then two commits: two older files and the one of now.
    let rows = table
        .sql(MetadataTable::MetadataLog, "select latest_snapshot_id is null from t order by timestamp")
        .await;
    assert_eq!(rows, ["true", "false", "false"]);
}

#[tokio::test]
async fn manifests_say_what_the_list_says_in_words() {
    let table = Table::with_two_commits().await;
    let rows = table
        .sql(
            MetadataTable::Manifests,
            "select content, added_data_files_count, existing_data_files_count, added_delete_files_count, \
             partition_summaries[1]['lower_bound'], partition_summaries[1]['upper_bound'], \
             partition_summaries[1]['contains_null'] from t order by added_data_files_count",
        )
        .await;
    assert_eq!(rows, ["0 1 0 0 1970-03 1970-03 false", "0 2 0 0 1970-01 1970-02 false"]);
}

#[tokio::test]
async fn files_and_entries_have_partitions_metrics_and_inherited_numbers() {
    let table = Table::with_two_commits().await;
    let rows = table
        .sql(
            MetadataTable::Files,
            "select content, file_format, spec_id, partition['day_month'], record_count, \
             map_values(null_value_counts)[1], split_offsets[1], equality_ids is null from t order by file_path",
        )
        .await;
    assert_eq!(rows, ["0 PARQUET 0 0 10 0 4 true", "0 PARQUET 0 1 20 0 4 true", "0 PARQUET 0 2 30 0 4 true"]);
    let rows = table
        .sql(
            MetadataTable::Entries,
            "select status, sequence_number, file_sequence_number, snapshot_id is null, data_file['record_count'] \
             from t order by 5",
        )
        .await;
    assert_eq!(rows, ["1 1 1 false 10", "1 1 1 false 20", "1 2 2 false 30"]);
    // Both snapshots, and no manifest twice.
    assert_eq!(table.sql(MetadataTable::AllFiles, "select count(*) from t").await, ["3"]);
}

#[tokio::test]
async fn partitions_are_files_added_up() {
    let table = Table::with_two_commits().await;
    table.append(&[(2, 40)]).await;
    let rows = table
        .sql(
            MetadataTable::Partitions,
            "select partition['day_month'], spec_id, record_count, file_count, position_delete_file_count, \
             last_updated_snapshot_id is null from t order by 1",
        )
        .await;
    assert_eq!(rows, ["0 0 10 1 0 false", "1 0 20 1 0 false", "2 0 70 2 0 false"]);
}

#[tokio::test]
async fn an_older_state_is_read_where_there_is_one() {
    let table = Table::with_two_commits().await;
    let first = table.pin(None).await.metadata().history()[0].snapshot_id;
    let pinned = table.pin(Some(TimeTravel::Snapshot(first))).await;
    let provider = pinned.metadata_table(MetadataTable::Files, true).unwrap();
    assert_eq!(run(provider, "select count(*), sum(record_count) from t").await, ["2 30"]);
    let error = pinned.metadata_table(MetadataTable::Refs, true).unwrap_err();
    assert_eq!(error.to_string(), r#"table "lake.s.t$refs" has no older states"#);
}

#[tokio::test]
async fn a_table_never_written_to_has_no_files_and_no_history() {
    let table = Table::new().await;
    for kind in [
        MetadataTable::Snapshots,
        MetadataTable::History,
        MetadataTable::Refs,
        MetadataTable::Manifests,
        MetadataTable::Files,
        MetadataTable::AllFiles,
        MetadataTable::Entries,
        MetadataTable::Partitions,
        MetadataTable::PositionDeletes,
    ] {
        assert_eq!(table.sql(kind, "select count(*) from t").await, ["0"], "{kind:?}");
    }
}

#[tokio::test]
async fn system_tables_tell_the_age_and_size_of_every_table() {
    let table = Table::with_two_commits().await;
    table.lakehouse.create_schema("lake", "other", false).await.unwrap();
    let name = TableName::new("lake", "other", "empty");
    table.lakehouse.create_table(&name, new_table(), CreateMode::Create).await.unwrap();
    let rows = run(
        table.lakehouse.system_table("lake", "tables").unwrap(),
        "select \"schema\", \"table\", files, \"rows\", bytes, age_seconds >= 0, snapshot_id is null from t order by 1",
    )
    .await;
    assert_eq!(rows, ["other empty 0 0 0 NULL true", "s t 3 60 3000 true false"]);
    assert!(table.lakehouse.system_table("lake", "no_such").is_none());
    assert!(table.lakehouse.system_table("no_such", "tables").is_none());
}

struct Table {
    lakehouse: Lakehouse,
    name: TableName,
    _folder: tempfile::TempDir,
}

impl Table {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let catalog = CatalogConfig {
            kind: CatalogKind::Sql,
            uri: format!("sqlite://{path}/catalog.db"),
            warehouse: format!("file://{path}/warehouse"),
            ..CatalogConfig::default()
        };
        let config = Config { catalogs: BTreeMap::from([("lake".to_owned(), catalog)]), ..Config::default() };
        let router = Router::new(tarn_scan::storage::Config::default(), Vec::new());
        let lakehouse = Lakehouse::open(config, router).await.unwrap();
        lakehouse.create_schema("lake", "s", false).await.unwrap();
        let name = TableName::new("lake", "s", "t");
        lakehouse.create_table(&name, new_table(), CreateMode::Create).await.unwrap();
        Self { lakehouse, name, _folder: folder }
    }

    /// Months 0 and 1 with 10 and 20 rows, then month 2 with 30.
    async fn with_two_commits() -> Self {
        let table = Self::new().await;
        table.append(&[(0, 10), (1, 20)]).await;
        table.append(&[(2, 30)]).await;
        table
    }

    /// One file each, by month and rows.
    async fn append(&self, files: &[(i32, u64)]) {
        let pinned = self.pin(None).await;
        let append = self.lakehouse.begin_append(&pinned, "q").await.unwrap();
        let folder = append.spec.data_location.clone();
        let file = |(month, rows): &(i32, u64)| WrittenFile {
            uri: format!("{folder}/{month}-{rows}.parquet"),
            size_bytes: 1000,
            record_count: *rows,
            spec_id: append.spec.partition.spec_id,
            partition: vec![Some(ScalarValue::Int32(Some(*month)))],
            columns: vec![ColumnMetrics {
                field_id: 1,
                size_bytes: 80,
                value_count: *rows,
                null_count: 0,
                nan_count: None,
                lower: Some((month * 31).to_le_bytes().to_vec()),
                upper: Some((month * 31).to_le_bytes().to_vec()),
            }],
            split_offsets: vec![4],
        };
        let files = files.iter().map(file).collect();
        append.commit(files).await.unwrap();
    }

    async fn pin(&self, at: Option<TimeTravel>) -> PinnedTable {
        self.lakehouse.pin(&self.name, at.as_ref()).await.unwrap()
    }

    async fn sql(&self, kind: MetadataTable, sql: &str) -> Vec<String> {
        run(self.pin(None).await.metadata_table(kind, false).unwrap(), sql).await
    }
}

fn new_table() -> NewTable {
    let month = NewPartitionField { column: "day".to_owned(), transform: Transform::Month, name: None };
    NewTable {
        schema: Schema::new(vec![Field::new("day", DataType::Date32, true)]),
        partition: vec![month],
        properties: BTreeMap::new(),
        location: None,
    }
}

async fn run(provider: Arc<dyn TableProvider>, sql: &str) -> Vec<String> {
    run_in(&SessionContext::new(), provider, sql).await
}

/// Rows as text, cell by cell.
pub(super) async fn run_in(
    context: &SessionContext,
    provider: Arc<dyn TableProvider>,
    sql: &str,
) -> Vec<String> {
    context.register_table("t", provider).unwrap();
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(|cell| match cell.trim() {
            "" => "NULL",
            cell => cell,
        });
        cells.collect::<Vec<_>>().join(" ")
    };
    text.lines().filter(|line| line.starts_with('|')).skip(1).map(cells).collect()
}
