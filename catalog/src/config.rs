//! Settings of the lakehouse.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tarn_scan::storage::{Secret, check_location};
use url::Url;

use crate::backend::RestConfig;
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CatalogConfig {
    /// What kind of catalog it is.
    pub kind: CatalogKind,
    /// Where it is: for `sql`, `sqlite:///absolute/path/catalog.db`, which is made if it does not exist, or
    /// `postgresql://user@host:port/database`; for `rest`, the URL in front of `/v1`.
    pub uri: String,
    /// For `sql`, the URI of the folder below which schemas and tables are made: `file:///…` or `s3://…`. For
    /// `filesystem`, the folder of the tables. For `rest`, the warehouse as the server knows it, if it has several.
    pub warehouse: String,
    /// The name of the catalog inside its database, which several may share. Not set: its name in SQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For `sql` over PostgreSQL, the password.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub password: Secret,
    /// For `rest`, how its server is spoken to.
    pub rest: RestConfig,
}

/// The kinds of catalogs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogKind {
    /// A database in the schema of Java's `JdbcCatalog` and PyIceberg's `SqlCatalog`: SQLite or PostgreSQL.
    #[default]
    Sql,
    /// A server that speaks Iceberg's REST protocol.
    Rest,
    /// A folder of tables, without a catalog; only read.
    Filesystem,
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
            faults.extend(catalog.validate().into_iter().map(|fault| format!("{key}.{fault}")));
        }
        faults
    }
}

impl CatalogConfig {
    fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.kind {
            CatalogKind::Sql if self.uri.starts_with("sqlite:") => {}
            CatalogKind::Sql if is_postgres(&self.uri) => {
                if Url::parse(&self.uri).is_ok_and(|url| url.password().is_some()) {
                    faults.push("uri: a password does not stand here, but in key \"password\"".to_owned());
                }
            }
            CatalogKind::Sql => {
                faults.push(format!("uri: {:?} does not begin with \"sqlite:\" or \"postgresql:\"", self.uri))
            }
            CatalogKind::Rest => faults.extend(self.rest.validate(&self.uri)),
            CatalogKind::Filesystem if !self.uri.is_empty() => {
                faults.push("uri: a catalog of kind \"filesystem\" has only a warehouse".to_owned());
            }
            CatalogKind::Filesystem => {}
        }
        if self.kind != CatalogKind::Rest
            && let Err(error) = check_location(&self.warehouse)
        {
            faults.push(format!("warehouse: {error}"));
        }
        faults
    }
}

/// Whether a URI names a PostgreSQL database.
pub(crate) fn is_postgres(uri: &str) -> bool {
    uri.starts_with("postgresql:") || uri.starts_with("postgres:")
}
