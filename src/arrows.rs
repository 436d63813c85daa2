//! Holds the arrows of ARCHITECTURE.md: which crate may use which, and which library has which home.
//!
//! A test reads the manifests and the source, so that a third arrow is noticed when it is drawn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Crate, and the crates of ours that it may use.
const CRATES: &[(&str, &[&str])] = &[
    ("scheduler", &["tarn-catalog", "tarn-functions", "tarn-runtime", "tarn-scan", "tarn-wire"]),
    ("executor", &["tarn-functions", "tarn-runtime", "tarn-scan"]),
    ("executor/functions", &[]),
    ("executor/runtime", &[]),
    ("catalog", &["tarn-scan"]),
    ("catalog/scan", &[]),
    ("client", &["tarn-wire"]),
    ("client/wire", &[]),
];

/// Library, and the folders or files in which it may be named.
const HOMES: &[(&str, &[&str])] = &[
    (
        "axum",
        &[
            "scheduler/src/web",
            "scheduler/src/server.rs",
            "executor/src/http.rs",
            // A server for the client to be tested against.
            "catalog/src/backend/rest/tests.rs",
        ],
    ),
    ("ballista_core", &["scheduler/src/engine/staged", "executor/src/staged"]),
    ("ballista_scheduler", &["scheduler/src/engine/staged"]),
    ("ballista_executor", &["executor/src/staged"]),
    ("datafusion_distributed", &["scheduler/src/engine/pipelined", "executor/src/pipelined"]),
    ("iceberg", &["catalog/src/iceberg", "catalog/src/backend"]),
    ("sqlx", &["catalog/src/backend", "catalog/src/error.rs"]),
    ("rustyline", &["client/src/shell"]),
];

/// Room of the scheduler, and the rooms that it may not name.
const ROOMS: &[(&str, &[&str])] = &[
    ("query", &["flight_sql", "web"]),
    ("admission", &["flight_sql", "web", "query", "session", "sql", "engine", "cluster", "planner"]),
    ("engine", &["flight_sql", "web", "session", "sql", "result_cache"]),
    ("cluster", &["flight_sql", "web", "query", "session", "sql", "engine"]),
    ("sql", &["flight_sql", "web", "query", "session", "engine", "cluster"]),
    ("session", &["flight_sql", "web", "query", "cluster"]),
];

#[test]
fn crates_use_only_the_crates_they_may() {
    for (folder, allowed) in CRATES {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        for dependency in manifest["dependencies"].as_table().unwrap().keys() {
            if dependency.starts_with("tarn-") {
                assert!(allowed.contains(&dependency.as_str()), "{folder} may not use {dependency}");
            }
        }
    }
}

#[test]
fn large_libraries_stay_in_their_rooms() {
    let sources = sources();
    for (library, homes) in HOMES {
        for (path, text) in &sources {
            let at_home = homes.iter().any(|home| path.starts_with(home));
            // The catalog's own border module has the library's name.
            let own = text.contains(&format!("crate::{library}"))
                || path.starts_with("catalog/src") && text.contains(&format!("mod {library};"));
            let foreign = mentions(text, &format!("{library}::")).filter(|_| !own);
            assert!(at_home || foreign.is_none(), "{path} names {library}: {}", foreign.unwrap_or_default());
        }
    }
}

#[test]
fn rooms_of_the_scheduler_keep_their_arrows() {
    let sources = sources();
    for (room, forbidden) in ROOMS {
        let prefix = format!("scheduler/src/{room}");
        for (path, text) in sources.iter().filter(|(path, _)| path.starts_with(&prefix)) {
            for other in *forbidden {
                let arrow = mentions(text, &format!("crate::{other}::"));
                assert!(arrow.is_none(), "{path} reaches into {other}: {}", arrow.unwrap_or_default());
            }
        }
    }
}

/// The first line of code that names the library at a word's beginning.
fn mentions(text: &str, name: &str) -> Option<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = code.filter(|line| {
        line.match_indices(name).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
        })
    });
    found.next().map(str::trim).map(String::from)
}

fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    for (folder, _) in CRATES {
        read(&root().join(folder).join("src"), &mut sources);
    }
    sources
}

fn read(folder: &Path, sources: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            sources.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
