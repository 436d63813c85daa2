//! The snapshot producer: written files in, manifests and a manifest list out.
//!
//! Manifests are written once and kept over retries, since the snapshot id is;
//! the manifest list names the manifests of the version below, so each attempt
//! has its own. Everything written is remembered until the outcome is known.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use tarn_scan::storage::Router;
use tarn_scan::write::WrittenFile;
use tracing::debug;
use uuid::Uuid;

use crate::backend::LoadedTable;
use crate::error::{Error, Result};
use crate::iceberg::{self, Metadata, NewManifest, NewSnapshot};
use crate::name::TableName;

/// Key of our commit id in a snapshot's summary.
pub(super) const COMMIT_ID: &str = "tarn.commit-id";

/// Key of the query's id in a snapshot's summary.
pub(super) const QUERY_ID: &str = "tarn.query-id";

/// Files a manifest: about 8 MB with the metrics of some twenty columns, as Iceberg's writers aim at.
const FILES_PER_MANIFEST: usize = 5_000;

/// A snapshot in the making.
#[derive(Debug)]
pub(super) struct Producer {
    router: Router,
    name: TableName,
    query_id: String,
    commit_id: Uuid,
    snapshot_id: i64,
    files: Vec<WrittenFile>,
    manifests: Vec<NewManifest>,
    /// Manifest lists written so far, one an attempt.
    lists: Vec<String>,
}

impl Producer {
    pub(super) fn new(router: &Router, name: &TableName, query_id: &str, files: Vec<WrittenFile>) -> Self {
        Self {
            router: router.clone(),
            name: name.clone(),
            query_id: query_id.to_owned(),
            commit_id: Uuid::new_v4(),
            snapshot_id: new_snapshot_id(),
            files,
            manifests: Vec::new(),
            lists: Vec::new(),
        }
    }

    pub(super) fn snapshot_id(&self) -> i64 {
        self.snapshot_id
    }

    pub(super) fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.record_count).sum()
    }

    /// Whether this version of the table holds our snapshot.
    pub(super) fn is_in(&self, table: &Metadata) -> bool {
        iceberg::snapshot_with(table, COMMIT_ID, &self.commit_id.to_string()).is_some()
    }

    /// `base` with our snapshot on top. `base_file` is where `base` is stored, if it is.
    pub(super) async fn append(&mut self, base: &Metadata, base_file: Option<&str>) -> Result<Metadata> {
        if self.manifests.is_empty() {
            self.write_manifests(base).await?;
        }
        let parent = base.current_snapshot_id().and_then(|id| base.snapshot(id));
        let existing = match &parent {
            Some(parent) => {
                let list = self.router.get(&parent.manifest_list).await;
                Some(list.map_err(|source| self.file_error(&parent.manifest_list, source))?)
            }
            None => None,
        };
        let existing = existing.as_ref().zip(parent.as_ref().map(|parent| parent.manifest_list.as_str()));
        let list =
            iceberg::manifest_list(base, &self.name, self.snapshot_id, existing, &self.manifests).await?;
        let attempt = self.lists.len();
        let uri =
            format!("{}/snap-{}-{attempt}-{}.avro", metadata_folder(base), self.snapshot_id, self.commit_id);
        self.lists.push(uri.clone());
        self.put(&uri, list).await?;
        let snapshot = NewSnapshot {
            snapshot_id: self.snapshot_id,
            manifest_list: uri,
            summary: self.summary(parent.as_ref().map(|parent| &parent.summary)),
        };
        iceberg::with_snapshot(base, base_file, &snapshot)
    }

    /// The same on a version that is stored.
    pub(super) async fn append_to(&mut self, base: &LoadedTable) -> Result<Metadata> {
        self.append(&base.metadata, Some(&base.metadata_location)).await
    }

    /// Deletes the manifest lists of attempts that did not become the snapshot.
    pub(super) async fn clean_up_attempts(&self) {
        let (_, failed) =
            self.lists.split_last().map_or((None, &[][..]), |(last, failed)| (Some(last), failed));
        self.delete(failed.iter()).await;
    }

    /// Deletes all that was written, data files included: only if certainly nothing was committed.
    pub(super) async fn clean_up_all(&self) {
        let manifests = self.manifests.iter().map(|manifest| &manifest.uri);
        let data = self.files.iter().map(|file| &file.uri);
        self.delete(self.lists.iter().chain(manifests).chain(data)).await;
    }

    async fn write_manifests(&mut self, base: &Metadata) -> Result<()> {
        let folder = metadata_folder(base);
        let mut by_spec: BTreeMap<i32, Vec<WrittenFile>> = BTreeMap::new();
        for file in &self.files {
            by_spec.entry(file.spec_id).or_default().push(file.clone());
        }
        let mut manifests = Vec::new();
        for (spec_id, files) in &by_spec {
            for files in files.chunks(FILES_PER_MANIFEST) {
                let uri = format!("{folder}/{}-m{}.avro", self.commit_id, manifests.len());
                let manifest = iceberg::manifest(base, *spec_id, self.snapshot_id, uri, files).await?;
                manifests.push(manifest);
            }
        }
        for manifest in &manifests {
            self.put(&manifest.uri, manifest.bytes.clone()).await?;
        }
        self.manifests = manifests;
        Ok(())
    }

    fn summary(&self, parent: Option<&HashMap<String, String>>) -> BTreeMap<String, String> {
        let added = [
            ("data-files", self.files.len() as u64),
            ("records", self.rows()),
            ("files-size", self.files.iter().map(|file| file.size_bytes).sum()),
            ("delete-files", 0),
            ("position-deletes", 0),
            ("equality-deletes", 0),
        ];
        let mut summary = BTreeMap::new();
        for (what, added) in added {
            // Our files go into the total, if the total so far is known.
            let before = match parent {
                None => Some(0),
                Some(parent) => {
                    parent.get(&format!("total-{what}")).and_then(|total| total.parse::<u64>().ok())
                }
            };
            if let Some(before) = before {
                summary.insert(format!("total-{what}"), (before + added).to_string());
            }
            if added > 0 {
                summary.insert(format!("added-{what}"), added.to_string());
            }
        }
        let partitions = self.files.iter().map(|file| format!("{}{:?}", file.spec_id, file.partition));
        let partitions = partitions.collect::<BTreeSet<_>>().len();
        let ours = [
            ("changed-partition-count", partitions.to_string()),
            ("engine-name", "tarn".to_owned()),
            ("engine-version", env!("CARGO_PKG_VERSION").to_owned()),
            (COMMIT_ID, self.commit_id.to_string()),
            (QUERY_ID, self.query_id.clone()),
        ];
        summary.extend(ours.map(|(key, value)| (key.to_owned(), value)));
        summary
    }

    async fn put(&self, uri: &str, bytes: Bytes) -> Result<()> {
        match self.router.put_new(uri, bytes).await {
            // Names hold an id of our own, so it is our own request that came through and was repeated.
            Ok(()) | Err(tarn_scan::Error::AlreadyExists { .. }) => Ok(()),
            Err(source) => Err(self.file_error(uri, source)),
        }
    }

    fn file_error(&self, uri: &str, source: tarn_scan::Error) -> Error {
        Error::MetadataFile { table: self.name.clone(), file: uri.to_owned(), source: Box::new(source) }
    }

    async fn delete(&self, uris: impl Iterator<Item = &String>) {
        for uri in uris {
            if let Err(error) = self.router.delete(uri).await {
                debug!(uri, %error, "file of a failed commit not deleted");
            }
        }
    }
}

/// The folder of a table's manifests.
fn metadata_folder(metadata: &Metadata) -> String {
    folder(metadata, "write.metadata.path", "metadata")
}

/// The folder of a table's data files.
pub(super) fn data_folder(metadata: &Metadata) -> String {
    let legacy = metadata.properties().get("write.folder-storage.path");
    match legacy.filter(|_| !metadata.properties().contains_key("write.data.path")) {
        Some(folder) => folder.trim_end_matches('/').to_owned(),
        None => folder(metadata, "write.data.path", "data"),
    }
}

fn folder(metadata: &Metadata, property: &str, default: &str) -> String {
    match metadata.properties().get(property) {
        Some(folder) => folder.trim_end_matches('/').to_owned(),
        None => format!("{}/{default}", metadata.location()),
    }
}

fn new_snapshot_id() -> i64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    ((high ^ low) & i64::MAX as u64) as i64
}
