//! Names of metadata files.

use uuid::Uuid;

use crate::iceberg::Metadata;

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

fn file(metadata: &Metadata, version: u32) -> String {
    let own =
        metadata.properties().get(METADATA_PATH_PROPERTY).map(|path| path.trim_end_matches('/').to_owned());
    let folder = own.unwrap_or_else(|| format!("{}/metadata", metadata.location()));
    format!("{folder}/{version:05}-{}.metadata.json", Uuid::new_v4())
}

/// The number in a file's name: `00012-<uuid>.metadata.json`, or `v12.metadata.json` as Hadoop tables have it.
fn version(location: &str) -> Option<u32> {
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
