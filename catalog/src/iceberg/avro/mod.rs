//! Avro, as far as manifests and manifest lists need it.
//!
//! - `container`: the file: header, codecs, blocks
//! - `schema`: the writer's schema, with Iceberg's field ids
//! - `cursor`: values, one after the other
//!
//! Nothing here makes a tree of values: who reads knows what it wants of each
//! record, and skips the rest. The one rule: bytes from outside give a value or
//! a reason, and never more memory than they have themselves, times a bound.

mod container;
mod cursor;
mod schema;

pub(super) use container::Container;
pub(super) use cursor::Cursor;
pub(super) use schema::{Field, Kind};

/// Why bytes cannot be read.
pub(super) type Result<T> = std::result::Result<T, String>;
