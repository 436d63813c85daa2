//! Names of metadata files.

use std::collections::HashMap;

use uuid::Uuid;

use crate::iceberg::{Metadata, ViewMetadata};

/// Table property with the folder for metadata files.
const METADATA_PATH_PROPERTY: &str = "write.metadata.path";

/// The first metadata file of a table.
pub(super) fn first(metadata: &Metadata) -> String {
    file(metadata, 0)
}

/// The metadata file after the one at `current`.
pub(super) fn next(current: &str, metadata: &Metadata) -> String {
    file(metadata, version(current).map_or(0, |version| version.saturating_add(1)))
}

/// The first metadata file of a view.
pub(super) fn first_of_view(view: &ViewMetadata) -> String {
    file_in(&folder(view.properties(), view.location()), 0)
}

/// The metadata file after the one at `current`.
pub(super) fn next_of_view(current: &str, view: &ViewMetadata) -> String {
    file_in(
        &folder(view.properties(), view.location()),
        version(current).map_or(0, |version| version.saturating_add(1)),
    )
}

fn file(metadata: &Metadata, version: u32) -> String {
    file_in(&folder(metadata.properties(), metadata.location()), version)
}

fn folder(properties: &HashMap<String, String>, location: &str) -> String {
    let own = properties.get(METADATA_PATH_PROPERTY).map(|path| path.trim_end_matches('/').to_owned());
    own.unwrap_or_else(|| format!("{location}/metadata"))
}

fn file_in(folder: &str, version: u32) -> String {
    format!("{folder}/{version:05}-{}.metadata.json", Uuid::new_v4())
}

/// The number in a file's name: `00012-<uuid>.metadata.json`, or `v12.metadata.json` as Hadoop tables have it.
pub(super) fn version(location: &str) -> Option<u32> {
    let name = location.rsplit('/').next()?;
    let digits = match name.split_once('-') {
        Some((digits, _)) => digits,
        None => name.strip_prefix('v')?.split('.').next()?,
    };
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_number_in_the_name() {
        assert_eq!(version("s3://b/t/metadata/00012-0b1e.metadata.json"), Some(12));
        assert_eq!(version("s3://b/t/metadata/00012-0b1e.gz.metadata.json"), Some(12));
        assert_eq!(version("/t-1/metadata/v7.metadata.json"), Some(7));
        assert_eq!(version("/t/metadata/current.json"), None);
    }
}
