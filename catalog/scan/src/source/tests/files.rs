//! Files that are missing, cut, or not what their manifest says; footers.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::{FileTask, ScanObserver, scan_of, with_groups, with_query_id};

#[tokio::test]
async fn a_file_without_its_task_fails_the_scan() {
    let table = renamed();
    let plan = table.plan();
    let (config, _) = crate::exec::leaf(&plan).unwrap();
    let mut config = config.clone();
    for group in &mut config.file_groups {
        let files =
            group.iter().map(|file| PartitionedFile { extensions: Default::default(), ..file.clone() });
        *group = files.collect::<Vec<_>>().into();
    }
    let plan = datafusion::datasource::source::DataSourceExec::from_data_source(config);
    let ctx = table.context(&[]);
    let error = run(plan, &ctx).await.unwrap_err().to_string();
    assert!(error.contains("no file task") && error.contains("lake.db.t"), "{error}");
}

#[tokio::test]
async fn missing_cut_and_swapped_files_are_errors_that_name_them() {
    let gone = renamed();
    std::fs::remove_file(gone.path(0)).unwrap();
    let cut = renamed();
    let bytes = std::fs::read(cut.path(0)).unwrap();
    std::fs::write(cut.path(0), &bytes[..bytes.len() / 2]).unwrap();
    let empty = renamed();
    std::fs::write(empty.path(0), b"").unwrap();
    let garbled = renamed();
    let mut bytes = std::fs::read(garbled.path(0)).unwrap();
    bytes[4..200].fill(0xff);
    std::fs::write(garbled.path(0), bytes).unwrap();
    let swapped = renamed();
    std::fs::copy(swapped.path(1), swapped.path(0)).unwrap();
    for (what, table) in
        [("gone", gone), ("cut", cut), ("empty", empty), ("garbled", garbled), ("swapped", swapped)]
    {
        let uri = table.groups[0][0].task.uri.clone();
        let error = table.sql("select a, b from t").await.unwrap_err().to_string();
        assert!(error.contains("lake.db.t") && error.contains(&uri), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_length_in_the_manifest_is_survived() {
    for change in [-3_i64, 5] {
        let mut table = renamed();
        let task = table.task(0);
        task.size_bytes = task.size_bytes.checked_add_signed(change).unwrap();
        assert_eq!(table.sql("select count(b) from t where b >= 0").await.unwrap(), "41");
    }
}

#[tokio::test]
async fn footers_are_read_once_and_the_observer_hears_of_files_and_rows() {
    #[derive(Default)]
    struct Observed {
        opened: Mutex<Vec<(Option<String>, String)>>,
        rows: AtomicUsize,
    }
    impl ScanObserver for Observed {
        fn opened(&self, query_id: Option<&str>, task: &FileTask, _range: Option<std::ops::Range<u64>>) {
            self.opened.lock().push((query_id.map(str::to_owned), task.uri.clone()));
        }
        fn rows(&self, n: usize) {
            self.rows.fetch_add(n, Ordering::Relaxed);
        }
    }
    let observed = Arc::new(Observed::default());
    let table = renamed();
    table.router.observe(Arc::clone(&observed) as Arc<dyn ScanObserver>);
    let plan = with_query_id(table.plan(), "q1").unwrap();
    let uris: Vec<_> =
        table.groups.iter().flatten().map(|file| (Some("q1".to_owned()), file.task.uri.clone())).collect();
    let ctx = table.context(&[]);
    run(plan, &ctx).await.unwrap();
    let mut opened = observed.opened.lock().clone();
    opened.sort();
    assert_eq!(opened, uris);
    assert_eq!(observed.rows.load(Ordering::Relaxed), 41);
    let cached = ctx.runtime_env().cache_manager.get_file_metadata_cache().list_entries();
    assert_eq!(cached.len(), 2);
    query(&ctx, "select b from t").await.unwrap();
    let cached = ctx.runtime_env().cache_manager.get_file_metadata_cache().list_entries();
    assert!(cached.values().all(|entry| entry.hits > 0), "{cached:?}");
}

#[tokio::test]
async fn a_leaf_shows_its_files_and_takes_others() {
    let table = renamed();
    let plan = table.plan();
    let view = scan_of(&plan).unwrap();
    assert_eq!(view.scan.table, "lake.db.t");
    assert_eq!(view.groups.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    let one = with_groups(&plan, vec![view.groups[1].clone(), Vec::new()]).unwrap();
    assert_eq!(scan_of(&one).unwrap().groups, [view.groups[1].clone(), Vec::new()]);
    let (config, _) = crate::exec::leaf(&one).unwrap();
    assert_eq!(config.statistics().num_rows.is_exact(), Some(false));
    let ctx = table.context(&[]);
    assert_eq!(run(one, &ctx).await.unwrap(), "5|100|y");
}
