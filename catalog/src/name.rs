//! Names of tables, and of the moments they are read at.

use std::fmt;

/// A table, in full.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Its catalog, by the name in the configuration.
    pub catalog: String,
    /// Its schema; the levels of a nested namespace are joined by dots.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// A name of its three parts.
    pub fn new(catalog: impl Into<String>, schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { catalog: catalog.into(), schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.schema, self.table)
    }
}

/// Which of a table's snapshots is read, if not the current one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TimeTravel {
    /// The snapshot with this id, with the schema it was written with.
    Snapshot(i64),
    /// A branch, with the table's current schema, or a tag, with its snapshot's schema.
    Ref(String),
    /// What was current at this time in milliseconds since the epoch, with the schema it was written with.
    Timestamp(i64),
}

impl fmt::Display for TimeTravel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(id) => write!(f, "version {id}"),
            Self::Ref(name) => write!(f, "version {name:?}"),
            Self::Timestamp(ms) => match chrono::DateTime::from_timestamp_millis(*ms) {
                Some(time) => write!(f, "timestamp {}", time.format("%Y-%m-%d %H:%M:%S%.3f UTC")),
                None => write!(f, "timestamp {ms} ms"),
            },
        }
    }
}
