//! Data files that no snapshot refers to: what a dead or failed query left.
//!
//! Names of data files begin with the id of their query, so they are found by
//! listing. The one rule of this room holds here, too: a file is deleted only
//! if the table certainly does not refer to it.

use std::collections::HashSet;

use futures::{StreamExt, stream};
use tarn_scan::storage::{Router, path_of};
use tracing::{debug, info};

use super::producer::{QUERY_ID, data_folder};
use crate::Lakehouse;
use crate::backend::TableIdent;
use crate::error::Result;
use crate::iceberg::{self, Metadata};
use crate::name::TableName;

/// Deletions on their way at once.
const DELETES_MAX: usize = 16;

impl Lakehouse {
    /// Deletes the data files that a query wrote into a table and did not commit, and returns how many.
    ///
    /// For queries that are over: a running one would lose its files. What the query did commit stays, so
    /// this is also for after a commit, if tasks were tried more than once.
    pub async fn remove_leftovers(&self, name: &TableName, query_id: &str) -> Result<usize> {
        let ident = TableIdent::new(&name.schema, &name.table);
        let table = self.backend(&name.catalog)?.load_table(&ident).await?;
        let keep = committed_files(self.router(), name, &table.metadata, query_id).await?;
        delete_by_prefix(self.router(), &data_folder(&table.metadata), query_id, &keep).await
    }
}

/// Deletes the files below `folder` whose names begin with the query's id, except those in `keep`.
pub(super) async fn delete_by_prefix(
    router: &Router,
    folder: &str,
    query_id: &str,
    keep: &HashSet<String>,
) -> Result<usize> {
    let prefix = format!("{query_id}-");
    let found = router.list(folder).await?.into_iter().map(|(uri, _)| uri);
    let leftovers = found.filter(|uri| {
        let name = uri.rsplit('/').next().unwrap_or(uri);
        name.starts_with(&prefix) && !keep.contains(&key(uri))
    });
    let leftovers = leftovers.collect::<Vec<_>>();
    let count = leftovers.len();
    delete_all(router, leftovers).await;
    if count > 0 {
        info!(query_id, count, "leftover data files deleted");
    }
    Ok(count)
}

/// Deletes files, as far as that is possible.
pub(super) async fn delete_all(router: &Router, uris: impl IntoIterator<Item = String>) {
    let deletes = stream::iter(uris).for_each_concurrent(DELETES_MAX, |uri| async move {
        if let Err(error) = router.delete(&uri).await {
            debug!(uri, %error, "file not deleted");
        }
    });
    deletes.await;
}

/// The data files of the snapshots that a query committed, by [`key`].
async fn committed_files(
    router: &Router,
    name: &TableName,
    metadata: &Metadata,
    query_id: &str,
) -> Result<HashSet<String>> {
    let mut files = HashSet::new();
    for snapshot in metadata.snapshots() {
        if snapshot.summary.get(QUERY_ID).is_none_or(|id| id != query_id) {
            continue;
        }
        let list = router.get(&snapshot.manifest_list).await?;
        for (manifest, added_by) in iceberg::manifests_in(metadata, name, &list, &snapshot.manifest_list)? {
            if added_by == snapshot.id {
                let manifest = router.get(&manifest).await?;
                files.extend(iceberg::files_in(&manifest)?.iter().map(|uri| key(uri)));
            }
        }
    }
    Ok(files)
}

/// The same for all ways to write a file's location.
fn key(uri: &str) -> String {
    path_of(uri).map_or_else(|_| uri.to_owned(), |path| path.to_string())
}
