//! The name of one query: unique over schedulers and restarts, safe in file names and tickets.

use std::fmt;

use uuid::Uuid;

/// A query's id: a time-ordered UUID in simple form, so that sorting by id is sorting by age.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(String);

impl QueryId {
    /// A new, unused id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().simple().to_string())
    }

    /// Reads an id that a client or a ticket names; `None` if it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(|id| Self(id.simple().to_string()))
    }

    /// The id as text: 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
