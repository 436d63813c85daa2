//! What can go wrong with storage and data files.
//!
//! Errors of a scan travel inside DataFusion's error and cross the cluster as
//! text, so every message here names the table and the file by itself.

use std::error::Error as StdError;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of storage, or of a data file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A URI that no store can be found for.
    #[error("unsupported location {uri:?}: {reason}")]
    Location {
        /// The URI as given.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A store that could not be set up.
    #[error("cannot set up storage for {location:?}: {source}")]
    Setup {
        /// Bucket or disk.
        location: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// The object does not exist.
    #[error("{uri:?} not found")]
    NotFound {
        /// The object.
        uri: String,
    },
    /// The object exists and must not.
    #[error("{uri:?} already exists")]
    AlreadyExists {
        /// The object.
        uri: String,
    },
    /// A request failed, after retries.
    #[error("request for {uri:?} failed: {source}")]
    Store {
        /// The object.
        uri: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// A file holds a column with a type that may not be read as the table's type.
    #[error("table {table}: column {column:?} is {expected} but file {file:?} holds {found}")]
    ColumnType {
        /// The table.
        table: String,
        /// The column, dotted if nested.
        column: String,
        /// The type in the table.
        expected: String,
        /// The type in the file.
        found: String,
        /// URI of the file.
        file: String,
    },
    /// A required column is absent from a file and has no partition value.
    #[error("table {table}: required column {column:?} is missing from file {file:?}")]
    RequiredColumnMissing {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// URI of the file.
        file: String,
    },
    /// A column is absent from a file, and its default cannot be read.
    #[error("table {table}: default value of column {column:?} (needed for file {file:?}): {reason}")]
    DefaultValue {
        /// The table.
        table: String,
        /// The column, dotted if nested.
        column: String,
        /// What is wrong with it.
        reason: String,
        /// URI of the file.
        file: String,
    },
    /// Something legal that is not done yet.
    #[error("table {table}: {feature} is not supported yet (file {file:?})")]
    NotSupported {
        /// The table.
        table: String,
        /// What is missing.
        feature: String,
        /// URI of the file.
        file: String,
    },
    /// A file that is not what the manifest says, or not readable.
    #[error("table {table}: file {file:?} is damaged: {reason}")]
    DamagedFile {
        /// The table.
        table: String,
        /// URI of the file.
        file: String,
        /// What was found.
        reason: String,
    },
    /// A file of a table could not be read.
    #[error("table {table}: cannot read file {file:?}: {}", brief(.cause))]
    Read {
        /// The table.
        table: String,
        /// URI of the file.
        file: String,
        /// Whether the file is to blame, and not its store.
        damaged: bool,
        /// Why. Not the error's `source`: who looks for the root of an engine's error shall find this one.
        cause: Box<DataFusionError>,
    },
    /// A data file could not be written.
    #[error("cannot write data file {uri:?}: {source}")]
    Write {
        /// The file.
        uri: String,
        /// Why.
        #[source]
        source: ParquetError,
    },
    /// The table's name mapping cannot be used.
    #[error("table {table}: invalid name mapping: {reason}")]
    NameMapping {
        /// The table.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// A file inside a scan without its file task: its side table was lost on the way.
    #[error("table {table}: no file task for {path:?}")]
    MissingFileTask {
        /// The table.
        table: String,
        /// Path inside the storage router.
        path: String,
    },
    /// Bytes that are not one of our plans, or of another version.
    #[error("cannot decode plan: {0}")]
    Codec(String),
    /// A plan node that was not made by this crate.
    #[error("{0} is not a scan of this crate")]
    NotAScan(String),
}

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// An object is not there.
    NotFound,
    /// A store failed or refused.
    Storage,
    /// A file is damaged, or not what its table says.
    Corrupt,
    /// Legal, but not done yet.
    NotSupported,
    /// What was given cannot be.
    Invalid,
    /// A defect of ours.
    Internal,
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Setup { .. } | Self::Store { .. } | Self::Write { .. } => ErrorKind::Storage,
            Self::Read { damaged: false, .. } => ErrorKind::Storage,
            Self::ColumnType { .. }
            | Self::RequiredColumnMissing { .. }
            | Self::DefaultValue { .. }
            | Self::DamagedFile { .. }
            | Self::Read { damaged: true, .. }
            | Self::NameMapping { .. } => ErrorKind::Corrupt,
            Self::NotSupported { .. } => ErrorKind::NotSupported,
            Self::Location { .. } | Self::AlreadyExists { .. } => ErrorKind::Invalid,
            Self::MissingFileTask { .. } | Self::Codec(_) | Self::NotAScan(_) => ErrorKind::Internal,
        }
    }

    /// Names the object that a request was for.
    pub(crate) fn store(uri: &str, source: object_store::Error) -> Self {
        let uri = uri.to_owned();
        match source {
            object_store::Error::NotFound { .. } => Self::NotFound { uri },
            object_store::Error::AlreadyExists { .. } => Self::AlreadyExists { uri },
            source => Self::Store { uri, source },
        }
    }
}

/// A store's error anywhere in the chain: writers and buffers wrap it in errors of their own.
pub fn store_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a object_store::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(store) = error.downcast_ref::<object_store::Error>() {
            return Some(store);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// What a failed read of a file is to blame on; `None` if that is neither the file nor its store.
pub(crate) fn blame(error: &DataFusionError) -> Option<Blame> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    let mut blame = None;
    while let Some(error) = cause {
        if error.is::<object_store::Error>() || error.is::<std::io::Error>() {
            return Some(Blame::Store);
        }
        let damaged = match error.downcast_ref::<ArrowError>() {
            Some(ArrowError::IoError(..)) => return Some(Blame::Store),
            Some(ArrowError::ParquetError(_)) => true,
            _ => error.is::<ParquetError>(),
        };
        // Parquet's error may wrap the store's: the innermost counts.
        if damaged {
            blame = Some(Blame::File);
        }
        cause = within(error);
    }
    blame
}

/// Who is to blame for a failed read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// Its bytes are not what they should be.
    File,
    /// It did not arrive.
    Store,
}

/// The cause of an error; some wrappers do not tell by [`StdError::source`].
fn within<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return match error {
            DataFusionError::ArrowError(inner, _) => Some(inner.as_ref()),
            DataFusionError::ParquetError(inner) => Some(inner.as_ref()),
            DataFusionError::ObjectStore(inner) => Some(inner.as_ref()),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                Some(inner.as_ref())
            }
            DataFusionError::External(inner) => Some(inner.as_ref()),
            DataFusionError::Shared(inner) => Some(inner.as_ref()),
            other => other.source(),
        };
    }
    match error.downcast_ref::<ParquetError>() {
        Some(ParquetError::External(inner)) => Some(inner.as_ref()),
        _ => error.source(),
    }
}

/// The innermost cause, in one line: the message around it has said the rest.
fn brief(error: &DataFusionError) -> String {
    let mut innermost: &(dyn StdError + 'static) = error;
    while let Some(cause) = within(innermost) {
        if let Some(object_store::Error::NotFound { .. }) = cause.downcast_ref() {
            return "it is not there; its snapshot may have been expired while the query ran".to_owned();
        }
        innermost = cause;
    }
    let text = innermost.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_read_is_blamed_on_the_store_or_the_file() {
        let store = || object_store::Error::Generic { store: "S3", source: "gone".into() };
        let wrapped = ParquetError::External(Box::new(store()));
        let cases = [
            (DataFusionError::from(wrapped), Some(Blame::Store)),
            (DataFusionError::from(ArrowError::from_external_error(Box::new(store()))), Some(Blame::Store)),
            (DataFusionError::from(ParquetError::General("no footer".into())), Some(Blame::File)),
            (
                DataFusionError::from(ArrowError::ParquetError("page too long".into())).context("in a scan"),
                Some(Blame::File),
            ),
            (DataFusionError::from(ArrowError::DivideByZero), None),
            (DataFusionError::Execution("overflow".into()), None),
        ];
        for (error, expected) in cases {
            assert_eq!(blame(&error), expected, "{error}");
        }
    }

    #[test]
    fn a_failed_read_names_table_and_file_and_the_innermost_cause() {
        let cause = Box::new(DataFusionError::from(ParquetError::General("no footer".into())));
        let error = Error::Read { table: "a.b.c".into(), file: "s3://x/y".into(), damaged: true, cause };
        assert_eq!(error.to_string(), "table a.b.c: cannot read file \"s3://x/y\": Parquet error: no footer");
        let gone =
            object_store::Error::NotFound { path: "x/y".into(), source: "/a/path of the machine".into() };
        let wrapped = ParquetError::External(Box::new(gone));
        let cause = Box::new(DataFusionError::from(wrapped));
        let error = Error::Read { table: "a.b.c".into(), file: "s3://x/y".into(), damaged: false, cause };
        assert!(
            error.to_string().ends_with("its snapshot may have been expired while the query ran"),
            "{error}"
        );
    }
}
