//! Data folders: an empty lakehouse, TPC-H and TPC-DS at small scales, made once for all tests of a run.
//!
//! Everything lies below one folder of this process. Statics are not dropped when a test binary
//! ends, so the next run removes what ended processes have left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use object_store::ObjectStore;
use tarn::config::{self, Config};
use tarn::demo::load;
use tarn_catalog::{CatalogKind, Lakehouse};
use tarn_runtime::Runtime;
use tarn_scan::storage::{Layer, Router, S3Config};
use tarn_scheduler::Shared;
use tokio::sync::OnceCell;

use crate::fixtures::Moved;
use crate::s3::S3Server;
use crate::tpcds;

/// The catalog of every data folder.
pub const CATALOG: &str = "lake";
/// Scale of the TPC-H data: the one of the committed answers.
pub const TPCH_SCALE: f64 = 0.02;
/// Scale of the TPC-DS data, likewise.
pub const TPCDS_SCALE: f64 = 0.01;

/// Threads and memory of each runtime in a test.
const CPU_THREADS: usize = 2;
const MEMORY_BYTES: u64 = 1 << 30;

/// A data folder, and the configuration of servers over it.
#[derive(Debug, Clone)]
pub struct Data {
    /// What servers over it are configured with; change it before they start.
    pub config: Config,
    /// Where the tables of other engines are read: see [`crate::fixtures`].
    pub tables: PathBuf,
}

impl Data {
    /// An empty lakehouse: catalog `lake` in SQLite, warehouse on the local disk, schema `default`.
    pub fn empty() -> Self {
        let folder = fresh_folder("data");
        let flags = [
            ("data_dir", folder.to_string_lossy().as_ref().into()),
            ("scheduler.flight_sql_listen", "127.0.0.1:0".into()),
            ("scheduler.http_listen", "127.0.0.1:0".into()),
            ("scheduler.cluster_listen", "127.0.0.1:0".into()),
            ("runtime.cpu_threads", toml::Value::Integer(CPU_THREADS as i64)),
            ("runtime.memory_bytes", toml::Value::Integer(MEMORY_BYTES as i64)),
        ];
        let nothing = std::iter::empty();
        let config =
            config::load(Some(Path::new("/dev/null")), nothing, flags.into()).expect("a valid configuration");
        Self { config, tables: crate::fixtures::folder().join("tables") }
    }

    /// Schema `tpch` with the data that the committed answers are for. One folder for the whole
    /// run: read it, and write only in schemas of your own.
    pub async fn tpch() -> &'static Self {
        static TPCH: OnceCell<Data> = OnceCell::const_new();
        TPCH.get_or_init(|| async {
            let data = Self::empty();
            data.load_tpch().await;
            data
        })
        .await
    }

    /// As [`Data::tpch`], in a folder of its own and with the warehouse in a bucket, to which the environment
    /// has the keys: for servers in processes of their own.
    pub async fn tpch_on(storage: S3Config, warehouse: &str) -> Self {
        let mut data = Self::empty();
        data.config.storage.s3 = storage;
        let lake = data.config.catalogs.get_mut(CATALOG).expect("the embedded catalog has this name");
        lake.warehouse = warehouse.to_string();
        data.load_tpch().await;
        // What the load left there is no server's.
        let _ = std::fs::remove_dir_all(data.folder().join("work"));
        data
    }

    async fn load_tpch(&self) {
        let shared = self.shared(Vec::new()).await;
        let mut options = load::Options::new(CATALOG, TPCH_SCALE);
        options.schemas = vec!["tpch"];
        load::load(&shared.lakehouse, &shared.runtime, &options).await.expect("TPC-H can be loaded");
    }

    /// Schema `tpcds` with the data that the committed answers are for, loaded from DuckDB's files; as
    /// [`Data::tpch`], one folder for the whole run.
    pub async fn tpcds() -> &'static Self {
        static TPCDS: OnceCell<Data> = OnceCell::const_new();
        TPCDS
            .get_or_init(|| async {
                let data = Self::empty();
                let shared = data.shared(Vec::new()).await;
                let schema = tpcds::SCHEMA;
                shared
                    .lakehouse
                    .create_schema(CATALOG, schema, true)
                    .await
                    .expect("the catalog takes a schema");
                for table in tpcds::tables() {
                    let rows = load::make_table(&shared.lakehouse, &shared.runtime, CATALOG, &table).await;
                    assert_eq!(table.rows, rows.expect("a table can be loaded"), "rows of {table}");
                }
                data
            })
            .await
    }

    /// An empty lakehouse whose warehouse is on an S3 server, beside a catalog `local` with the
    /// TPC-H data on the local disk.
    pub async fn on_s3(server: &S3Server) -> Self {
        let mut data = Self::empty();
        data.config.storage.s3 = server.storage();
        let lake = data.config.catalogs.get_mut(CATALOG).expect("the embedded catalog has this name");
        lake.warehouse = server.uri("warehouse");
        let mut local = Self::tpch().await.config.catalogs[CATALOG].clone();
        local.name = Some(CATALOG.to_string());
        data.config.catalogs.insert("local".to_string(), local);
        data.config.scheduler.session.catalog = CATALOG.to_string();
        data
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.config.data_dir
    }

    /// What a scheduler in this process stands on, with layers around every store.
    pub async fn shared(&self, layers: Vec<Arc<dyn Layer>>) -> Shared {
        let work_dir = self.folder().join("work").join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir_all(&work_dir).expect("the data folder takes a folder");
        let (runtime, router) = self.runtime(layers);
        let lakehouse =
            Lakehouse::open(self.config.catalog(), router.clone()).await.expect("the catalog opens");
        let only_read = |name: &String| {
            self.config.catalogs.get(name).is_some_and(|catalog| catalog.kind == CatalogKind::Filesystem)
        };
        for catalog in lakehouse.catalogs().into_iter().filter(|name| !only_read(name)) {
            lakehouse.create_schema(&catalog, "default", true).await.expect("the catalog takes a schema");
        }
        Shared { runtime, router, lakehouse, work_dir, history: None }
    }

    /// Threads, memory and stores of one more server.
    pub fn runtime(&self, layers: Vec<Arc<dyn Layer>>) -> (Runtime, Router) {
        let mut config = self.config.runtime.clone();
        config.spill_dir = self.folder().join("work").join(format!("spill-{}", uuid::Uuid::new_v4()));
        let runtime = Runtime::new(config).expect("threads can be started");
        let mut all: Vec<Arc<dyn Layer>> =
            vec![Arc::new(Moved::to(&self.tables)), Arc::new(OnIoThreads(runtime.clone()))];
        all.extend(layers);
        let router = Router::new(self.config.storage.clone(), all);
        router.register(&runtime.env());
        (runtime, router)
    }
}

/// Store calls run on the runtime's IO threads, as in the real process.
#[derive(Debug)]
struct OnIoThreads(Runtime);

impl Layer for OnIoThreads {
    fn wrap(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        self.0.io_store(inner)
    }
}

/// A new folder with a name of its own.
pub fn fresh_folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = run_folder().join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
    folder
}

/// The folder of this process; the first call removes those of processes that have ended.
pub fn run_folder() -> &'static Path {
    static FOLDER: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    FOLDER.get_or_init(|| {
        remove_leftovers();
        let folder = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
        folder
    })
}

const PREFIX: &str = "tarn-e2e-";

fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        // Where there is no /proc we cannot know, and leave it.
        let ended = Path::new("/proc/self").exists() && !Path::new("/proc").join(id).exists();
        if ended {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
