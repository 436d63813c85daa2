//! The data: the demo's tables, and `lineitem` and `orders` once more in files of some megabytes.
//!
//! Made once for a scale by the very binary that is measured, in a folder that servers take as their own. The copies
//! are there because a new table's files are large: at small scales there would be fewer of them than executors, and
//! the measure would be of that. The rule: a mark is written last, and a load that was cut short goes on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tarn_client::Connection;
use tokio::time::{sleep, timeout};

use crate::Error;
use crate::server;

/// Written when everything else is there.
const MARK: &str = "scale.json";
/// Bytes after which a file of the copies ends.
const FILE_BYTES: u64 = 4 << 20;
/// How long the demo's data and the copies may take.
const LOAD_MAX: Duration = Duration::from_secs(1_800);

/// Makes the data unless the folder holds it; the folder.
pub async fn prepare(tarn: &Path, parent: &Path, scale: f64, logs: &Path) -> Result<PathBuf, Error> {
    let folder = std::path::absolute(parent.join(format!("sf{scale}")))?;
    if !folder.join(MARK).exists() {
        std::fs::create_dir_all(&folder)?;
        timeout(LOAD_MAX, make(tarn, &folder, scale, logs)).await.map_err(|_| "loading took too long")??;
        std::fs::write(folder.join(MARK), serde_json::json!({ "file_bytes": FILE_BYTES }).to_string())?;
    }
    Ok(folder)
}

async fn make(tarn: &Path, folder: &Path, scale: f64, logs: &Path) -> Result<(), Error> {
    let began = Instant::now();
    let address = || server::free_port().map(|port| format!("127.0.0.1:{port}"));
    let (flight_sql, http, cluster) = (address()?, address()?, address()?);
    let mut command = server::program(tarn);
    command
        .args(["demo", "--no-shell", "--scale", &scale.to_string(), "--log", "warn", "--data-dir"])
        .arg(folder);
    command.args(["--flight-sql-listen", &flight_sql, "--http-listen", &http, "--cluster-listen", &cluster]);
    let mut demo = server::spawn_logged(command, logs, "demo")?;
    let url = format!("grpc://{flight_sql}");
    // It listens once the demo's tables are there.
    let mut connection = loop {
        if let Some(status) = demo.try_wait()? {
            return Err(format!("the demo ended with {status}; its log says why").into());
        }
        match Connection::connect(&url).await {
            Ok(connection) => break connection,
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    };
    connection.update("create schema if not exists lake.scale").await?;
    for table in ["lineitem", "orders"] {
        // A table is seen whole or not at all, so one that is there is right.
        let sql = format!(
            "create table if not exists lake.scale.{table} \
             with ('write.target-file-size-bytes' = '{FILE_BYTES}') as select * from lake.tpch.{table}"
        );
        connection.update(&sql).await?;
    }
    eprintln!("data: scale {scale} in {:.1} s", began.elapsed().as_secs_f64());
    demo.kill().await?;
    Ok(())
}
