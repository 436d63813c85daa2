//! The configuration of the process: defaults, then a file, then the environment, then flags.
//!
//! One typed struct, nested as the rooms are. [`load`] layers the four sources as TOML tables,
//! reads them into [`Config`], and reports every fault with its key: a person who starts a
//! server sees all that is wrong at once. The rule: nobody reads a file or an environment
//! variable for settings anywhere else (keys to object stores excepted, which never enter here).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tarn_catalog::CatalogConfig;
use toml::{Table, Value};

/// The annotated defaults, as `tarn config` prints them.
pub const ANNOTATED_DEFAULTS: &str = include_str!("defaults.toml");

/// Prefix of environment variables: `TARN_SCHEDULER__HTTP_LISTEN` sets `scheduler.http_listen`.
const ENVIRONMENT_PREFIX: &str = "TARN_";
/// File that is read when none is named, if it is there.
const FILE: &str = "tarn.toml";
/// The catalog of the embedded default.
const CATALOG: &str = "lake";
/// Most faults that are reported at once.
const FAULTS_MAX: usize = 50;

/// Everything the process can be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the embedded catalog, the warehouse and the work folders.
    pub data_dir: PathBuf,
    /// How and what is logged.
    pub log: Log,
    /// Catalogs by name; without one, `lake` in the data folder.
    pub catalogs: BTreeMap<String, CatalogConfig>,
    /// Caches of table metadata.
    pub metadata_cache: tarn_catalog::metadata_cache::Config,
    /// Object stores; keys come from the environment of each process.
    pub storage: tarn_scan::storage::Config,
    /// Cores and memory for plans.
    pub runtime: tarn_runtime::Config,
    /// The scheduler.
    pub scheduler: tarn_scheduler::Config,
    /// The executor.
    pub executor: tarn_executor::Config,
}

/// Section `log`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// What is logged, as `level` or `target=level,…`.
    pub filter: String,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./tarn-data"),
            log: Log::default(),
            catalogs: BTreeMap::new(),
            metadata_cache: Default::default(),
            storage: Default::default(),
            runtime: Default::default(),
            scheduler: Default::default(),
            executor: Default::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_string() }
    }
}

/// Why the process does not start: one line a fault.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} fault{}:{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
pub struct Faults(pub Vec<String>);

/// Reads all four sources. `flags` are `(key, value)` with dotted keys, in TOML values.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: Vec<(&str, Value)>,
) -> Result<Config, Faults> {
    let mut faults = Vec::new();
    let defaults = Table::try_from(Config::default()).expect("the defaults are a TOML table");
    let mut table = Table::new();
    match read_file(file) {
        Ok(Some(read)) => merge(&mut table, read),
        Ok(None) => {}
        Err(fault) => return Err(Faults(vec![fault])),
    }
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let key = key.to_lowercase().replace("__", ".");
        let value = scalar(&value, look_up(&defaults, &key));
        put(&mut table, &key, value);
    }
    for (key, value) in flags {
        put(&mut table, key, value);
    }
    let config = read_table(table, &mut faults);
    let mut config = config.unwrap_or_default();
    config.complete(&mut faults);
    faults.extend(config.validate());
    match faults.is_empty() {
        true => Ok(config),
        false => Err(Faults(faults)),
    }
}

impl Config {
    /// Derived values: absolute folders, and the embedded catalog where none is named.
    fn complete(&mut self, faults: &mut Vec<String>) {
        match std::path::absolute(&self.data_dir) {
            Ok(absolute) => self.data_dir = absolute,
            Err(error) => faults.push(format!("data_dir: {error}")),
        }
        if self.catalogs.is_empty() {
            let folder = self.data_dir.display();
            let catalog = CatalogConfig {
                uri: format!("sqlite://{folder}/catalog.db"),
                warehouse: format!("file://{folder}/warehouse"),
                ..CatalogConfig::default()
            };
            self.catalogs.insert(CATALOG.to_string(), catalog);
        }
        if self.runtime.spill_dir.as_os_str().is_empty() {
            self.runtime.spill_dir = self.data_dir.join("work").join(format!("spill-{}", std::process::id()));
        }
    }

    fn validate(&self) -> Vec<String> {
        let mut faults = self.catalog().validate();
        faults.extend(self.storage.validate().into_iter().map(|fault| format!("storage.{fault}")));
        faults.extend(self.scheduler.validate().into_iter().map(|fault| format!("scheduler.{fault}")));
        faults.extend(self.executor.validate().into_iter().map(|fault| format!("executor.{fault}")));
        if let Err(error) = self.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            faults.push(format!("log.filter: {error}"));
        }
        faults
    }

    /// The section that the lakehouse takes.
    pub fn catalog(&self) -> tarn_catalog::Config {
        tarn_catalog::Config { catalogs: self.catalogs.clone(), metadata_cache: self.metadata_cache.clone() }
    }
}

fn read_file(named: Option<&Path>) -> Result<Option<Table>, String> {
    let path = named.unwrap_or(Path::new(FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => match text.parse() {
            Ok(table) => Ok(Some(table)),
            Err(error) => {
                Err(format!("{}: {}", path.display(), error.to_string().trim_end().replace('\n', "\n  ")))
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Reads the table; whatever does not fit is noted with its key and taken out, so that the
/// next fault is found too.
fn read_table(mut table: Table, faults: &mut Vec<String>) -> Option<Config> {
    while faults.len() < FAULTS_MAX {
        let error = match serde_path_to_error::deserialize::<_, Config>(Value::Table(table.clone())) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let message = error.inner().message().to_string();
        let key = match unknown_field(&message) {
            Some(field) if path == "." || path == field => field,
            Some(field) if !path.ends_with(&field) => format!("{path}.{field}"),
            _ => path,
        };
        faults.push(format!("{key}: {}", message.lines().next().unwrap_or_default()));
        if !remove(&mut table, &key) {
            return None;
        }
    }
    None
}

fn unknown_field(message: &str) -> Option<String> {
    let rest = message.split_once("unknown field `")?.1;
    Some(rest.split_once('`')?.0.to_string())
}

/// A value of the environment: read as the default's type, since every variable is text.
fn scalar(text: &str, default: Option<&Value>) -> Value {
    let parsed = || format!("x = {text}").parse::<Table>().ok()?.remove("x");
    match default {
        Some(Value::String(_)) => Value::String(text.to_string()),
        _ => parsed().unwrap_or_else(|| Value::String(text.to_string())),
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn look_up<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, rest)) => look_up(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        Some((section, rest)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            match section {
                Value::Table(section) => put(section, rest, value),
                other => {
                    let mut fresh = Table::new();
                    put(&mut fresh, rest, value);
                    *other = Value::Table(fresh);
                }
            }
        }
        None => {
            table.insert(key.to_string(), value);
        }
    }
}

fn remove(table: &mut Table, key: &str) -> bool {
    match key.split_once('.') {
        Some((section, rest)) => {
            table.get_mut(section).and_then(Value::as_table_mut).is_some_and(|section| remove(section, rest))
        }
        None => table.remove(key).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        read_table(text.parse().unwrap(), &mut faults);
        faults
    }

    #[test]
    fn every_fault_is_reported_by_its_key() {
        let faults =
            faults_of("no_such = 1\n[scheduler]\nhttp_listen = 'nowhere'\n[scheduler.query]\nfoo = 2\n");
        assert_eq!(faults.len(), 3, "{faults:?}");
        for key in ["no_such", "scheduler.http_listen", "scheduler.query.foo"] {
            assert!(faults.iter().any(|fault| fault.starts_with(&format!("{key}:"))), "{key} in {faults:?}");
        }
    }

    #[test]
    fn the_environment_sets_nested_keys_and_flags_win() {
        let environment = [
            ("TARN_DATA_DIR".to_string(), "/tmp/a".to_string()),
            ("TARN_SCHEDULER__QUERY__RELEASE_BYTES".to_string(), "7".to_string()),
            ("HOME".to_string(), "/root".to_string()),
        ];
        let flags = vec![("data_dir", Value::String("/tmp/b".to_string()))];
        let config = load(Some(Path::new("/dev/null")), environment.into_iter(), flags).unwrap();
        assert_eq!(config.data_dir, Path::new("/tmp/b"));
        assert_eq!(config.scheduler.query.release_bytes, 7);
        assert_eq!(config.catalogs[CATALOG].uri, "sqlite:///tmp/b/catalog.db");
    }

    #[test]
    fn the_annotated_defaults_are_the_defaults() {
        let mut faults = Vec::new();
        let annotated = read_table(ANNOTATED_DEFAULTS.parse().unwrap(), &mut faults).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        let written = Table::try_from(annotated).unwrap();
        assert_eq!(written, Table::try_from(Config::default()).unwrap());
        let text: Table = ANNOTATED_DEFAULTS.parse().unwrap();
        assert_eq!(
            missing(&written, &text, ""),
            Vec::<String>::new(),
            "settings that `tarn config` does not show"
        );
    }

    fn missing(all: &Table, shown: &Table, prefix: &str) -> Vec<String> {
        all.iter()
            .flat_map(|(key, value)| match (value, shown.get(key)) {
                (Value::Table(all), Some(Value::Table(shown))) => {
                    missing(all, shown, &format!("{prefix}{key}."))
                }
                (Value::Table(all), None) if all.is_empty() => Vec::new(),
                (_, Some(_)) => Vec::new(),
                _ => vec![format!("{prefix}{key}")],
            })
            .collect()
    }
}
