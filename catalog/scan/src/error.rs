//! What can go wrong with storage and data files.
//!
//! Errors of a scan travel inside DataFusion's error and cross the cluster as
//! text, so every message here names the table and the file by itself.

use datafusion::error::DataFusionError;

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
            Self::Setup { .. } | Self::Store { .. } => ErrorKind::Storage,
            Self::ColumnType { .. }
            | Self::RequiredColumnMissing { .. }
            | Self::DamagedFile { .. }
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

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}
