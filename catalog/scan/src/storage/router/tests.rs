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
    for bad in [
        "gs://b/k",
        "s3://",
        "s3:///k",
        "s3:b/k",
        "file:a",
        "file://host/a",
        "relative/a",
        "s3://b/a//c",
        "s3://b/../c",
    ] {
        assert!(matches!(path_of(bad), Err(Error::Location { .. })), "{bad}");
    }
}

#[test]
fn paths_become_uris() {
    let round = |uri: &str| uri_of(&path_of(uri).unwrap()).unwrap();
    assert_eq!(round("s3a://b/k%2F/ü"), "s3://b/k%2F/ü");
    assert_eq!(round("/a/b"), "file:///a/b");
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
