//! The client against a server that says what the protocol allows, and what it does not.
//!
//! The server is a script: it answers by method and path, and keeps what it was asked. What a real
//! server does is in the end-to-end tests, by the suite that all backends share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router as Routes;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tarn_scan::storage::{Config as StorageConfig, Router, Secret};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::error::ErrorKind;
use crate::iceberg::{NewSnapshot, new_table, with_snapshot};
use crate::metadata_cache;
use crate::write::NewTable;

const T: &str = "/v1/namespaces/s/tables/t";

#[tokio::test]
async fn configuration_gives_prefix_separator_and_place() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/config" => {
            assert_eq!(asked.query, "warehouse=wh%2F1");
            ok(json!({ "defaults": { "prefix": "no" },
                "overrides": { "prefix": "ws/one", "namespace-separator": "%2E", "x": null } }))
        }
        "/v1/ws/one/namespaces/a%20b%2Ec%2Fd/tables" => ok(json!({ "identifiers": [] })),
        _ => not_found(),
    })
    .await;
    let backend = server.backend(|config| config.warehouse = "wh/1".to_owned());
    assert!(backend.list_tables("a b.c/d").await.unwrap().is_empty());
    let asked = server.asked();
    assert_eq!(asked[1].headers.get("authorization"), None);
}

#[tokio::test]
async fn listings_have_pages_and_levels() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.query.as_str()) {
        ("/v1/config", _) => config(),
        ("/v1/namespaces", "pageToken=") => ok(json!({ "namespaces": [["b"]], "next-page-token": "2 +" })),
        ("/v1/namespaces", "pageToken=2+%2B") => {
            ok(json!({ "namespaces": [["a"]], "next-page-token": null }))
        }
        ("/v1/namespaces", "pageToken=&parent=a") => {
            ok(json!({ "namespaces": [["a", "x"], ["a", "dotted.name"]] }))
        }
        ("/v1/namespaces", "pageToken=&parent=a%1Fx") => ok(json!({ "namespaces": [] })),
        ("/v1/namespaces", "pageToken=&parent=b") => error(404, "NoSuchNamespaceException", "gone meanwhile"),
        other => panic!("{other:?}"),
    })
    .await;
    let backend = server.backend(|_| {});
    assert_eq!(backend.list_schemas().await.unwrap(), ["a", "a.x", "b"]);
}

#[tokio::test]
async fn token_is_fetched_renewed_before_its_end_and_after_a_refusal() {
    let tokens = AtomicUsize::new(0);
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/v1/oauth/tokens" => {
            assert_eq!(
                asked.body,
                "grant_type=client_credentials&client_id=me&client_secret=s%3Acret&scope=catalog"
            );
            let number = tokens.fetch_add(1, Ordering::SeqCst);
            // The first one is over at once, so that it is renewed.
            let life = if number == 0 { 0 } else { 3600 };
            ok(json!({ "access_token": format!("token-{number}"), "token_type": "bearer", "expires_in": life }))
        }
        "/v1/config" => config(),
        // The second one is refused although it has not expired.
        _ if asked.header("authorization") == "Bearer token-1" => error(401, "NotAuthorizedException", "revoked"),
        _ => ok(json!({ "identifiers": [] })),
    })
    .await;
    let backend = server.backend(|config| config.rest.credential = Secret::new("me:s:cret"));
    backend.list_tables("s").await.unwrap();
    backend.list_tables("s").await.unwrap();
    let sent: Vec<_> = server.asked().iter().map(|asked| asked.header("authorization").to_owned()).collect();
    let expected = ["", "Bearer token-0", "", "Bearer token-1", "", "Bearer token-2", "Bearer token-2"];
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn no_error_holds_a_key() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/config" if asked.header("authorization").is_empty() => error(400, "BadRequest", "no"),
        "/v1/config" => config(),
        _ => {
            let told = format!("bad {} and {}\nstack", asked.header("authorization"), asked.header("x-key"));
            error(403, "ForbiddenException", &told)
        }
    })
    .await;
    let backend = server.backend(|config| {
        config.rest.token = Secret::new("hunter2-token");
        config.rest.headers.insert("X-Key".to_owned(), Secret::new("hunter2-header"));
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!serde_json::to_string(config).unwrap().contains("hunter2"));
    });
    let found = backend.list_tables("s").await.unwrap_err();
    assert_eq!(found.kind(), ErrorKind::Refused);
    assert_eq!(found.to_string(), r#"catalog "c" refused: bad Bearer [secret] and [secret] (status 403)"#);
    assert!(!format!("{backend:?} {found:?}").contains("hunter2"));
}

#[tokio::test]
async fn what_changes_nothing_is_tried_again_and_a_bound_ends_it() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/config" => config(),
        _ => error(503, "ServiceUnavailable", "later"),
    })
    .await;
    let backend = server.backend(|config| config.rest.retries_max = 2);
    let found = backend.list_tables("s").await.unwrap_err();
    assert_eq!(found.kind(), ErrorKind::Storage);
    assert_eq!(server.asked().len(), 1 + 3);
}

#[tokio::test]
async fn table_that_has_not_changed_is_not_sent_again() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/config" => config(),
        T => {
            assert_eq!(asked.query, "snapshots=all");
            match asked.header("if-none-match") {
                "\"v1\"" => status(304),
                _ => tagged(ok(loaded("file:///t", json!({}), json!([]))), "\"v1\""),
            }
        }
        _ => not_found(),
    })
    .await;
    let backend = server.backend(|_| {});
    let first = backend.load_present(&t()).await.unwrap();
    let second = backend.load_present(&t()).await.unwrap();
    assert!(Arc::ptr_eq(&first.metadata, &second.metadata));
    assert_eq!(first.metadata_location, "file:///t/metadata/00000-a.metadata.json");
    assert_eq!(server.asked()[1].header("x-iceberg-access-delegation"), "vended-credentials");
    let missing = backend.load_table(&TableIdent::new("s", "none")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn outcome_of_a_commit_is_known_or_said_not_to_be() {
    let answers = [
        (409, "conflict"),
        (404, "conflict"),
        (500, "unknown"),
        (502, "unknown"),
        (503, "unknown"),
        (504, "unknown"),
        (400, "error"),
        (403, "error"),
        (200, "unknown"),
    ];
    for (code, expected) in answers {
        let server = Server::start(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
            (_, "/v1/config") => config(),
            ("POST", T) if code == 200 => ok(json!({ "metadata-location": "cut" })),
            ("POST", T) => error(code, "SomeException", "no"),
            _ => not_found(),
        })
        .await;
        let backend = server.backend(|_| {});
        let base = LoadedTable { metadata_location: "file:///t/m.json".into(), metadata: Arc::new(table()) };
        let outcome = backend.commit(&t(), &base, next(&base)).await;
        let found = match outcome {
            Ok(Outcome::Conflict) => "conflict",
            Ok(Outcome::Unknown(_)) => "unknown",
            Ok(Outcome::Committed(_)) => "committed",
            Err(_) => "error",
        };
        assert_eq!(found, expected, "{code}");
        assert_eq!(server.asked().len(), 2, "a commit is sent once: {code}");
        let body: Value = serde_json::from_str(&server.asked()[1].body).unwrap();
        assert_eq!(body["identifier"], json!({ "namespace": ["s"], "name": "t" }));
        assert_eq!(body["requirements"][0]["type"], "assert-table-uuid");
    }
}

#[tokio::test]
async fn vended_keys_reach_the_router_and_are_renewed_before_they_expire() {
    let loads = AtomicUsize::new(0);
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/v1/config" => ok(json!({ "defaults": { "s3.region": "eu" }, "overrides": {} })),
        T => {
            let number = loads.fetch_add(1, Ordering::SeqCst);
            // The first key has next to no time left.
            let left_ms = if number == 0 { 1 } else { 3_600_000 };
            let expires = (now_ms() + left_ms).to_string();
            let part = json!([{ "prefix": "s3://b/t/data", "config": {
                "s3.access-key-id": format!("part-{number}"), "s3.secret-access-key": "x", "s3.session-token": "y",
                "s3.session-token-expires-at-ms": expires } }]);
            let config = json!({ "s3.access-key-id": "whole", "s3.secret-access-key": "x", "other": "z" });
            tagged(ok(loaded("s3://b/t", config, part)), "\"v1\"")
        }
        _ => not_found(),
    })
    .await;
    let backend = server.backend(|_| {});
    let key = |path: &str| {
        let exported = server.router.credentials().export().1;
        let exported: Value = serde_json::from_slice(&exported).unwrap();
        let parts = exported["owners"]["c/s/t"].as_array().unwrap().clone();
        let part = parts.into_iter().find(|part| part[0] == path).unwrap();
        (part[1]["s3.access-key-id"].as_str().unwrap().to_owned(), part[1]["s3.region"].clone())
    };
    backend.load_table(&t()).await.unwrap();
    assert_eq!(key("s3://b/t"), ("whole".to_owned(), json!("eu")));
    assert_eq!(key("s3://b/t/data").0, "part-0");
    // A tag would save the answer, and with it the new key.
    backend.renew_credentials().await;
    assert_eq!(key("s3://b/t/data").0, "part-1");
    backend.renew_credentials().await;
    assert_eq!(server.asked().len(), 3, "a key that is good for a while is left alone");
}

#[tokio::test]
async fn renewed_keys_keep_the_settings_that_came_with_the_table() {
    // What the table's configuration holds, and how often the table is loaded when its keys are due.
    let (settings, key) =
        (json!({ "s3.endpoint": "http://store" }), json!({ "s3.session-token-expires-at-ms": "1" }));
    for (config, parts, loads) in [(settings.clone(), 1, 1), (settings, 0, 2), (key, 1, 2)] {
        let (renewed, expected) = (AtomicUsize::new(0), parts);
        let server = Server::start(move |asked| {
            let part = |left_ms: i64, key: &str| {
                json!([{ "prefix": "s3://b/t", "config": { "s3.access-key-id": key, "s3.secret-access-key": "x",
                    "s3.session-token-expires-at-ms": (now_ms() + left_ms).to_string() } }])
            };
            match asked.path.as_str() {
                "/v1/config" => ok(json!({ "defaults": {}, "overrides": {}, "endpoints": [
                    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials" ] })),
                "/v1/namespaces/s/tables/t/credentials" => {
                    renewed.fetch_add(1, Ordering::SeqCst);
                    ok(json!({ "storage-credentials": if parts == 1 { part(3_600_000, "new") } else { json!([]) } }))
                }
                T => tagged(ok(loaded("s3://b/t", config.clone(), part(1, "old"))), "\"v1\""),
                _ => not_found(),
            }
        })
        .await;
        let backend = server.backend(|_| {});
        let table = backend.load_present(&t()).await.unwrap();
        backend.renew_credentials().await;
        let asked = server.asked().iter().filter(|asked| asked.path == T).count();
        assert_eq!(asked, loads, "{expected} parts");
        let exported: Value = serde_json::from_slice(&server.router.credentials().export().1).unwrap();
        let known = exported["owners"]["c/s/t"].to_string();
        assert!(loads == 2 || known.contains("http://store") && known.contains("new"), "{known}");
        drop(table);
    }
}

#[tokio::test]
async fn keys_are_not_asked_for_if_the_configuration_says_so() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/config" => config(),
        _ => {
            ok(loaded("s3://b/t", json!({ "s3.access-key-id": "k", "s3.secret-access-key": "x" }), json!([])))
        }
    })
    .await;
    let backend = server.backend(|config| config.rest.vended_credentials = false);
    backend.load_table(&t()).await.unwrap();
    assert_eq!(server.asked()[1].header("x-iceberg-access-delegation"), "");
    assert!(server.router.credentials().is_empty());
}

#[tokio::test]
async fn server_that_is_away_is_an_error_and_no_unknown_commit() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = CatalogConfig {
        uri: format!("http://{gone}"),
        rest: RestConfig { retries_max: 0, ..RestConfig::default() },
        ..CatalogConfig::default()
    };
    let (router, files) = room();
    let backend = RestBackend::open("c", &config, &router, files);
    let base = LoadedTable { metadata_location: "file:///t/m.json".into(), metadata: Arc::new(table()) };
    let found = backend.commit(&t(), &base, next(&base)).await.unwrap_err();
    assert_eq!(found.kind(), ErrorKind::Storage);
    assert!(found.to_string().contains("cannot be reached"), "{found}");
}

/// What the server was asked.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    query: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

type Script = Arc<dyn Fn(&Asked) -> Response + Send + Sync>;

struct Server {
    uri: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    router: Router,
    files: Arc<Files>,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(script: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let state = (Arc::clone(&asked), Arc::new(script) as Script);
        let routes = Routes::new().fallback(answer).with_state(state);
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let (router, files) = room();
        Self { uri, asked, router, files, _task: task }
    }

    fn backend(&self, change: impl FnOnce(&mut CatalogConfig)) -> RestBackend {
        let mut config = CatalogConfig { uri: self.uri.clone(), ..CatalogConfig::default() };
        change(&mut config);
        RestBackend::open("c", &config, &self.router, Arc::clone(&self.files))
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

async fn answer(
    State((asked, script)): State<(Arc<Mutex<Vec<Asked>>>, Script)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let one = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap(),
    };
    let response = script(&one);
    asked.lock().push(one);
    response
}

fn room() -> (Router, Arc<Files>) {
    let router = Router::new(StorageConfig::default(), Vec::new());
    let files = Arc::new(Files::new(&metadata_cache::Config::default(), router.clone()));
    (router, files)
}

fn config() -> Response {
    ok(json!({ "defaults": {}, "overrides": {} }))
}

fn ok(body: Value) -> Response {
    Response::new(Body::from(body.to_string()))
}

fn status(code: u16) -> Response {
    Response::builder().status(code).body(Body::empty()).unwrap()
}

fn tagged(mut response: Response, tag: &'static str) -> Response {
    response.headers_mut().insert("etag", HeaderValue::from_static(tag));
    response
}

fn error(code: u16, kind: &str, message: &str) -> Response {
    let body = json!({ "error": { "message": message, "type": kind, "code": code } });
    Response::builder().status(code).body(Body::from(body.to_string())).unwrap()
}

fn not_found() -> Response {
    error(404, "NoSuchTableException", "no such table")
}

fn loaded(location: &str, config: Value, credentials: Value) -> Value {
    let table = new_table(&new(), location).unwrap();
    let metadata: Value = serde_json::from_slice(&table.to_json().unwrap()).unwrap();
    json!({
        "metadata-location": format!("{location}/metadata/00000-a.metadata.json"),
        "metadata": metadata, "config": config, "storage-credentials": credentials,
    })
}

fn t() -> TableIdent {
    TableIdent::new("s", "t")
}

fn new() -> NewTable {
    let column = arrow::datatypes::Field::new("x", arrow::datatypes::DataType::Int64, true);
    NewTable {
        schema: arrow::datatypes::Schema::new(vec![column]),
        partition: Vec::new(),
        properties: BTreeMap::new(),
        location: None,
    }
}

fn table() -> Metadata {
    new_table(&new(), "file:///t").unwrap()
}

fn next(base: &LoadedTable) -> Metadata {
    let snapshot =
        NewSnapshot { snapshot_id: 1, manifest_list: "file:///t/s.avro".into(), summary: BTreeMap::new() };
    with_snapshot(&base.metadata, Some(&base.metadata_location), &snapshot).unwrap()
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
