//! Paths, and requests against the local disk.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn uris_become_paths_with_the_key_as_it_stands() {
    let path = |uri: &str| path_of(uri).map(|path| path.to_string());
    for scheme in ["s3", "s3a", "s3n"] {
        assert_eq!(path(&format!("{scheme}://b/k/f.parquet")).unwrap(), "s3/b/k/f.parquet");
    }
    assert_eq!(
        path("s3://b/ts=2020-01-01T00%3A00/ä b+c.parquet").unwrap(),
        "s3/b/ts=2020-01-01T00%3A00/ä b+c.parquet"
    );
    assert_eq!(path("file:///a/b%20c").unwrap(), "file/-/a/b%20c");
    assert_eq!(path("file:/a/b").unwrap(), "file/-/a/b");
    assert_eq!(path("file://localhost/a/b").unwrap(), "file/-/a/b");
    assert_eq!(path("/a/b:c").unwrap(), "file/-/a/b:c");
    assert_eq!(path("s3://b").unwrap(), "s3/b");
    assert_eq!(path("gs://b/k").unwrap(), "gs/b/k");
    for scheme in ["abfs", "abfss", "wasb", "wasbs"] {
        let uri = format!("{scheme}://c@a.dfs.core.windows.net/k");
        assert_eq!(path(&uri).unwrap(), "abfs/c@a.dfs.core.windows.net/k");
    }
    assert_eq!(path("hdfs:///a/b").unwrap(), "hdfs/-/a/b");
    for bad in
        ["s3://", "s3:///k", "s3:b/k", "file:a", "file://host/a", "relative/a", "s3://b/a//c", "s3://b/../c"]
    {
        assert!(matches!(path_of(bad), Err(Error::Location { .. })), "{bad}");
    }
}

#[test]
fn paths_become_uris() {
    let round = |uri: &str| uri_of(&path_of(uri).unwrap()).unwrap();
    assert_eq!(round("s3a://b/k%2F/ü"), "s3://b/k%2F/ü");
    assert_eq!(round("/a/b"), "file:///a/b");
    assert_eq!(round("hdfs:///a/b"), "hdfs:///a/b");
    assert_eq!(round("gs://b/k"), "gs://b/k");
    assert!(uri_of(&Path::from("elsewhere/x")).is_err());
}

#[tokio::test]
async fn objects_are_written_once_read_listed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let router = Router::new(Config::default(), Vec::new());
    let uri = format!("file://{}/a=1%2F2/ü #.bin", folder.path().display());
    assert!(matches!(router.get(&uri).await, Err(Error::NotFound { .. })));
    router.put_new(&uri, Bytes::from_static(b"hello")).await.unwrap();
    assert!(folder.path().join("a=1%2F2/ü #.bin").exists());
    let again = router.put_new(&uri, Bytes::from_static(b"other")).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    assert_eq!(router.get(&uri).await.unwrap(), "hello");
    assert_eq!(router.get_range(&uri, 1..3).await.unwrap(), "el");
    assert_eq!(router.head(&uri).await.unwrap(), 5);
    let listed = router.list(folder.path().to_str().unwrap()).await.unwrap();
    assert_eq!(listed, [(uri.clone(), 5)]);
    router.delete(&uri).await.unwrap();
    assert!(router.list(folder.path().to_str().unwrap()).await.unwrap().is_empty());
    assert!(router.list("/no/such/folder").await.unwrap().is_empty());
}

#[tokio::test]
async fn layers_wrap_each_backing_store_once() {
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);
    impl Layer for Counting {
        fn wrap(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
            self.0.fetch_add(1, Ordering::Relaxed);
            inner
        }
    }
    let layer = Arc::new(Counting::default());
    let router = Router::new(Config::default(), vec![Arc::clone(&layer) as Arc<dyn Layer>]);
    let _ = router.head("/nothing/1").await;
    let _ = router.head("/nothing/2").await;
    let _ = router.clone().locate(&path_of("s3://bucket/key").unwrap()).unwrap();
    assert_eq!(layer.0.load(Ordering::Relaxed), 2);
}

#[test]
fn configuration_has_defaults_and_refuses_unknown_keys() {
    let config: Config =
        serde_json::from_str(r#"{"s3": {"endpoint": "http://x", "path_style": true}}"#).unwrap();
    assert_eq!(config.retries_max, Config::default().retries_max);
    assert!(serde_json::from_str::<Config>(r#"{"s3": {"secret_access_key": "x"}}"#).is_err());
}

#[tokio::test]
async fn objects_of_a_moved_warehouse_are_found_under_their_old_names() {
    let folder = tempfile::tempdir().unwrap();
    let here = format!("file://{}/wh", folder.path().display());
    let rewrites = [("hdfs://nn:8020/user/hive".to_owned(), here.clone())].into();
    let router = Router::new(Config { rewrites, ..Config::default() }, Vec::new());
    router.put_new(&format!("{here}/t/f"), Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(router.get("hdfs://nn:8020/user/hive/t/f").await.unwrap(), "hello");
    let listed = router.list("hdfs://nn:8020/user/hive/t").await.unwrap();
    assert_eq!(listed, [("hdfs://nn:8020/user/hive/t/f".to_owned(), 5)]);
    let elsewhere = router.get("hdfs://nn:8020/user/other/t/f").await.unwrap_err();
    assert!(elsewhere.to_string().contains("no store for this scheme"), "{elsewhere}");
}

#[test]
fn locations_without_a_store_are_refused_by_name() {
    for uri in ["s3a://b/k", "gs://b/k", "abfss://c@a.dfs.core.windows.net/k", "wasb://c@a/k", "/k"] {
        assert!(check_location(uri).is_ok(), "{uri}");
    }
    for uri in ["ftp://h/k", "hdfs://nn/k", "oss://b/k"] {
        let error = check_location(uri).unwrap_err().to_string();
        assert!(error.contains("no store for this scheme"), "{error}");
    }
}

#[test]
fn vended_keys_make_a_store_of_their_own_for_their_prefix() {
    let router = Router::new(Config::default(), Vec::new());
    let vend = |key: &str, region: &str| {
        let properties = [("s3.access-key-id", key), ("s3.secret-access-key", "x"), ("s3.region", region)];
        let properties = properties.map(|(key, value)| (key.to_owned(), super::super::Secret::new(value)));
        router
            .credentials()
            .put("t", vec![Credential { prefix: "s3://b/t/".into(), properties: properties.into() }]);
    };
    let store = |uri: &str| router.locate(&path_of(uri).unwrap()).unwrap().store;
    vend("one", "eu");
    let (inside, outside) = (store("s3://b/t/f"), store("s3://b/u/f"));
    assert!(!Arc::ptr_eq(&inside, &outside));
    vend("two", "eu");
    assert!(Arc::ptr_eq(&inside, &store("s3://b/t/f")), "a newer key is used by the same store");
    vend("two", "us");
    assert!(!Arc::ptr_eq(&inside, &store("s3://b/t/f")), "other settings are another store");
}
