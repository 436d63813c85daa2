//! The SQL files of tests/slt, over Flight SQL, in every mode.
//!
//! `SLT_COMPLETE=1 cargo test -p tarn-e2e slt::local` writes the answers that Tarn gives into the
//! files. Read them before you commit: an answer is right because of what SQL says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tarn_client::{Answer, Connection, Error};
use tarn_harness::{Cluster, Data, run};

use crate::rows::{Rows, collect, describe};

#[test]
fn local() {
    run(check("local"));
}

#[test]
fn pipelined() {
    run(check("pipelined"));
}

#[test]
fn staged() {
    run(check("staged"));
}

/// Runs every file in a session of its own, on a cluster whose sessions begin in the mode.
async fn check(mode: &str) {
    let mut data = Data::empty();
    data.config.scheduler.session.settings.insert("execution_mode".into(), mode.into());
    // So that executors share even the smallest table.
    data.config.scheduler.session.settings.insert("split_bytes".into(), "1".into());
    let cluster = match mode {
        "local" => Cluster::one_process(&data).await,
        _ => Cluster::distributed(&data, 2).await,
    };
    let mut faults = Vec::new();
    for file in files() {
        let mut runner = Runner::new(|| async { Ok(Database(cluster.connect().await)) });
        if std::env::var_os("SLT_COMPLETE").is_some() {
            let normalizer = sqllogictest::default_normalizer;
            let validator = sqllogictest::default_validator;
            let columns = sqllogictest::default_column_validator;
            runner.update_test_file(&file, " ", validator, normalizer, columns).await.unwrap();
        } else if let Err(error) = runner.run_file_async(&file).await {
            faults.push(error.display(false).to_string());
        }
    }
    assert!(faults.is_empty(), "{mode}:\n{}", faults.join("\n\n"));
    cluster.stop().await;
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../slt");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "slt")).collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    files
}

struct Database(Connection);

/// What went wrong, with code and hint, so that a file can expect either.
#[derive(Debug, thiserror::Error)]
#[error("{}", describe(.0))]
struct Refused(Error);

#[async_trait]
impl AsyncDB for Database {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        match self.0.execute(sql).await.map_err(Refused)? {
            Answer::Count(count) => Ok(DBOutput::StatementComplete(count.unwrap_or(0).unsigned_abs())),
            Answer::Rows(stream) => Ok(output(&collect(*stream).await.map_err(Refused)?)),
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "tarn"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

fn output(result: &Rows) -> DBOutput<DefaultColumnType> {
    let kinds = result.schema.fields().iter().map(|field| {
        let data_type = field.data_type();
        if data_type.is_integer() {
            DefaultColumnType::Integer
        } else if data_type.is_floating() {
            DefaultColumnType::FloatingPoint
        } else {
            DefaultColumnType::Text
        }
    });
    // A row is one line in these files.
    let cell = |text: String| if text.is_empty() { "(empty)".to_string() } else { text.replace('\n', " ") };
    let rows = result.text().into_iter().map(|row| row.into_iter().map(cell).collect());
    DBOutput::Rows { types: kinds.collect(), rows: rows.collect() }
}
