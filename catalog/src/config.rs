//! Settings of the lakehouse.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metadata_cache;

/// The catalogs, and what is kept of them in memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Catalogs by the name they have in SQL.
    pub catalogs: BTreeMap<String, CatalogConfig>,
    /// The caches of pointers, table metadata and manifests.
    pub metadata_cache: metadata_cache::Config,
}

/// One catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogConfig {
    /// What kind of catalog it is.
    #[serde(default)]
    pub kind: CatalogKind,
    /// Where it is: for `sql`, `sqlite:///absolute/path/catalog.db`. The file is made if it does not exist.
    pub uri: String,
    /// URI of the folder below which schemas and tables are made: `file:///…` or `s3://…`.
    pub warehouse: String,
    /// The name of the catalog inside its database, which several may share. Not set: its name in SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The kinds of catalogs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogKind {
    /// A SQLite file in the schema of Java's `JdbcCatalog` and PyIceberg's `SqlCatalog`.
    #[default]
    Sql,
}

impl Config {
    /// Every fault of these settings, each with the key's name (below the section that holds them).
    pub fn validate(&self) -> Vec<String> {
        let mut faults = self.metadata_cache.validate();
        for (name, catalog) in &self.catalogs {
            let key = format!("catalogs.{name}");
            if name.is_empty() || name.contains('.') {
                faults.push(format!("{key}: a catalog's name is not empty and has no dot"));
            }
            if name.eq_ignore_ascii_case("information_schema") {
                faults.push(format!("{key}: this name is taken"));
            }
            if !catalog.uri.starts_with("sqlite:") {
                faults.push(format!("{key}.uri: {:?} does not begin with \"sqlite:\"", catalog.uri));
            }
            if let Err(error) = tarn_scan::storage::path_of(&catalog.warehouse) {
                faults.push(format!("{key}.warehouse: {error}"));
            }
        }
        faults
    }
}
