//! What can go wrong with catalogs, tables and their metadata.
//!
//! Messages name the object and its kind. Where a file is to blame they give
//! its name without the folder: the whole location is in the field, for logs.

use datafusion::error::DataFusionError;

use crate::TableName;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the lakehouse.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No catalog of this name is configured.
    #[error("catalog {catalog:?} not found")]
    CatalogNotFound {
        /// The name asked for.
        catalog: String,
        /// The name most like it.
        near: Option<String>,
    },
    /// The catalog has no such schema.
    #[error("schema {:?} not found", format!("{catalog}.{schema}"))]
    SchemaNotFound {
        /// The catalog.
        catalog: String,
        /// The name asked for.
        schema: String,
        /// The name most like it.
        near: Option<String>,
    },
    /// The schema has no such table.
    #[error("table {:?} not found", name.to_string())]
    TableNotFound {
        /// The name asked for.
        name: TableName,
        /// The name most like it.
        near: Option<String>,
    },
    /// The schema has no such view.
    #[error("view {:?} not found", name.to_string())]
    ViewNotFound {
        /// The name asked for.
        name: TableName,
        /// The name most like it.
        near: Option<String>,
    },
    /// The view exists and must not.
    #[error("view {:?} already exists", name.to_string())]
    ViewExists {
        /// The view.
        name: TableName,
    },
    /// A view without a text in a dialect that we read.
    #[error("view {:?} is written for dialect {found}, and not for \"tarn\"", name.to_string())]
    ViewDialect {
        /// The view.
        name: TableName,
        /// The dialects that it has.
        found: String,
    },
    /// The table has no such snapshot, branch or tag, or had none at that time.
    #[error("table {:?} has no {what}", table.to_string())]
    SnapshotNotFound {
        /// The table.
        table: TableName,
        /// What was asked for.
        what: String,
        /// The name most like it, of branches and tags.
        near: Option<String>,
    },
    /// The schema exists and must not.
    #[error("schema {:?} already exists", format!("{catalog}.{schema}"))]
    SchemaExists {
        /// The catalog.
        catalog: String,
        /// The schema.
        schema: String,
    },
    /// The table exists and must not.
    #[error("table {:?} already exists", name.to_string())]
    TableExists {
        /// The table.
        name: TableName,
    },
    /// A schema that holds tables cannot be dropped.
    #[error("schema {:?} is not empty: it holds table {table:?}", format!("{catalog}.{schema}"))]
    SchemaNotEmpty {
        /// The catalog.
        catalog: String,
        /// The schema.
        schema: String,
        /// One of its tables, or of its schemas.
        table: String,
    },
    /// A statement that cannot be done to this object.
    #[error("{0}")]
    Invalid(String),
    /// Something legal in a table that is not done yet.
    #[error("table {:?}: {feature} is not supported yet", table.to_string())]
    NotSupported {
        /// The table.
        table: TableName,
        /// What is missing.
        feature: String,
    },
    /// Others committed in between, more often than we tried.
    #[error("commit to table {:?} conflicts with a newer one", table.to_string())]
    CommitConflict {
        /// The table.
        table: TableName,
    },
    /// The commit may or may not have happened.
    #[error("outcome of the commit to table {:?} is unknown: {reason}", table.to_string())]
    CommitUnknown {
        /// The table.
        table: TableName,
        /// What is known.
        reason: String,
    },
    /// A metadata file that is not what the specification says.
    #[error("table {:?}: metadata file {:?} is damaged: {reason}", table.to_string(), file_name(file))]
    Corrupt {
        /// The table.
        table: TableName,
        /// URI of the file.
        file: String,
        /// What was found.
        reason: String,
    },
    /// A metadata file could not be read or written.
    #[error("table {:?}: metadata file {:?}: {}", table.to_string(), file_name(file), storage_reason(source))]
    MetadataFile {
        /// The table.
        table: TableName,
        /// URI of the file.
        file: String,
        /// Why.
        #[source]
        source: Box<tarn_scan::Error>,
    },
    /// A request to storage failed.
    #[error(transparent)]
    Storage(Box<tarn_scan::Error>),
    /// The catalog's database failed.
    #[error("catalog {catalog:?}: {reason}")]
    Database {
        /// The catalog.
        catalog: String,
        /// Why.
        reason: String,
    },
    /// A request to a catalog's server failed.
    #[error("catalog {catalog:?}: {reason}")]
    CatalogRequest {
        /// The catalog.
        catalog: String,
        /// What is known; no key is in it.
        reason: String,
    },
    /// A catalog's server does not let us do this.
    #[error("catalog {catalog:?} refused: {reason}")]
    CatalogRefused {
        /// The catalog.
        catalog: String,
        /// What it said; no key is in it.
        reason: String,
    },
    /// A catalog that is only read.
    #[error("catalog {catalog:?} is read-only: it does not {what}")]
    ReadOnly {
        /// The catalog.
        catalog: String,
        /// What was to be done.
        what: String,
    },
    /// Our own mistake.
    #[error("internal error: {0}")]
    Internal(String),
    /// Another query asked for the same at the same time, and this is what it got.
    #[error(transparent)]
    Shared(std::sync::Arc<Error>),
}

/// The classes of errors, for whoever turns them into codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object asked for does not exist.
    NotFound,
    /// The object exists and must not.
    AlreadyExists,
    /// The statement cannot be done.
    Invalid,
    /// Legal, but not done yet.
    NotSupported,
    /// Others committed in between; trying again may succeed.
    CommitConflict,
    /// The commit may or may not have happened.
    CommitUnknown,
    /// The catalog does not let us.
    Refused,
    /// Storage, a catalog's database or its server failed.
    Storage,
    /// A file is not what it should be.
    Corrupt,
    /// Our own mistake.
    Internal,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CatalogNotFound { .. }
            | Self::SchemaNotFound { .. }
            | Self::TableNotFound { .. }
            | Self::ViewNotFound { .. }
            | Self::SnapshotNotFound { .. } => ErrorKind::NotFound,
            Self::SchemaExists { .. } | Self::TableExists { .. } | Self::ViewExists { .. } => {
                ErrorKind::AlreadyExists
            }
            Self::SchemaNotEmpty { .. } | Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotSupported { .. } | Self::ReadOnly { .. } | Self::ViewDialect { .. } => {
                ErrorKind::NotSupported
            }
            Self::CatalogRefused { .. } => ErrorKind::Refused,
            Self::CommitConflict { .. } => ErrorKind::CommitConflict,
            Self::CommitUnknown { .. } => ErrorKind::CommitUnknown,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            // A metadata file that is gone is damage to the table, not a wrong name in a query.
            Self::MetadataFile { source, .. } if matches!(**source, tarn_scan::Error::NotFound { .. }) => {
                ErrorKind::Corrupt
            }
            Self::MetadataFile { .. }
            | Self::Storage(_)
            | Self::Database { .. }
            | Self::CatalogRequest { .. } => ErrorKind::Storage,
            Self::Internal(_) => ErrorKind::Internal,
            Self::Shared(inner) => inner.kind(),
        }
    }

    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::CatalogNotFound { near, .. }
            | Self::SchemaNotFound { near, .. }
            | Self::TableNotFound { near, .. }
            | Self::ViewNotFound { near, .. }
            | Self::SnapshotNotFound { near, .. } => {
                near.as_ref().map(|near| format!("did you mean {near:?}?"))
            }
            Self::ViewDialect { .. } => {
                Some("make the view anew with CREATE OR REPLACE VIEW, or query its tables".to_owned())
            }
            Self::CommitConflict { .. } => Some("try the statement again".to_owned()),
            Self::CommitUnknown { .. } => {
                Some("look whether the table holds the change before you send it again".to_owned())
            }
            Self::Shared(inner) => inner.hint(),
            _ => None,
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<tarn_scan::Error> for Error {
    fn from(error: tarn_scan::Error) -> Self {
        Self::Storage(Box::new(error))
    }
}

impl From<std::sync::Arc<Error>> for Error {
    fn from(error: std::sync::Arc<Error>) -> Self {
        std::sync::Arc::try_unwrap(error).unwrap_or_else(Self::Shared)
    }
}

fn file_name(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap_or(uri)
}

/// The reason without the location that storage errors begin with.
fn storage_reason(error: &tarn_scan::Error) -> String {
    match error {
        tarn_scan::Error::NotFound { .. } => "not found".to_owned(),
        tarn_scan::Error::AlreadyExists { .. } => "already exists".to_owned(),
        tarn_scan::Error::Store { source, .. } => format!("request failed: {source}"),
        other => other.to_string(),
    }
}

/// The name most like `wanted`, if one is like enough to be meant.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const LIKENESS_MIN: f64 = 0.7;
    let wanted = wanted.to_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_like_enough_or_none() {
        let names = ["orders", "lineitem", "Customers"];
        assert_eq!(nearest("order", names).as_deref(), Some("orders"));
        assert_eq!(nearest("lineitme", names).as_deref(), Some("lineitem"));
        assert_eq!(nearest("customers", names).as_deref(), Some("Customers"));
        assert_eq!(nearest("x", names), None);
    }
}
