//! Keys to storage that came with tables: handed to the storage router, and renewed before they expire.
//!
//! The router holds the keys; here is only whose they are and until when. The rule: a table that
//! queries may still read has a key that has not expired, for as long as its catalog gives one.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tarn_scan::storage::{Credential, Credentials, Secret};

use super::messages::{Properties, StorageCredential};
use super::server::storage_properties;
use crate::backend::TableIdent;
use crate::iceberg::Metadata;

/// Keys are renewed when less than this is left, or less than a quarter of their life.
const RENEWAL_MAX: Duration = Duration::from_secs(300);

/// Time from one try to renew a table's keys to the next.
const RENEWAL_PAUSE: Duration = Duration::from_secs(2);

/// After this time without a load a table's keys are left to expire: no query runs longer.
const IDLE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Tables whose keys are remembered.
const TABLES_MAX: usize = 20_000;

/// Table properties with folders outside the table's own.
const FOLDERS: [&str; 4] =
    ["write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path"];

pub(super) struct Vended {
    catalog: String,
    credentials: Credentials,
    /// Protects only the map.
    tables: Mutex<HashMap<TableIdent, Lease>>,
}

struct Lease {
    /// What came for the table as a whole: settings, and maybe keys.
    config: Vec<(String, Secret)>,
    renew_at_ms: Option<i64>,
    /// When that was last begun.
    tried: Option<Instant>,
    used: Instant,
}

impl Vended {
    pub(super) fn new(catalog: &str, credentials: Credentials) -> Self {
        Self { catalog: catalog.to_owned(), credentials, tables: Mutex::default() }
    }

    /// Takes in what came with a table: `general` for all of the catalog, `config` for the table, and keys for
    /// parts of storage.
    pub(super) fn put(
        &self,
        ident: &TableIdent,
        metadata: &Metadata,
        general: &[(String, Secret)],
        config: Properties,
        parts: Vec<StorageCredential>,
    ) {
        self.put_properties(ident, metadata, general, storage_properties(config), parts);
    }

    /// Takes in new keys for parts of storage. Says whether that is all that the table needs: a key that came for the
    /// table as a whole and expires comes only with the table, and so does everything if there are no parts.
    pub(super) fn renew(
        &self,
        ident: &TableIdent,
        metadata: &Metadata,
        general: &[(String, Secret)],
        parts: Vec<StorageCredential>,
    ) -> bool {
        let Some(config) = self.tables.lock().get(ident).map(|lease| lease.config.clone()) else {
            return false;
        };
        let whole = Credential { prefix: String::new(), properties: config.iter().cloned().collect() };
        if parts.is_empty() || whole.expires_at_ms().is_some() {
            return false;
        }
        self.put_properties(ident, metadata, general, config, parts);
        true
    }

    fn put_properties(
        &self,
        ident: &TableIdent,
        metadata: &Metadata,
        general: &[(String, Secret)],
        config: Vec<(String, Secret)>,
        parts: Vec<StorageCredential>,
    ) {
        let mut whole: BTreeMap<String, Secret> = general.iter().cloned().collect();
        whole.extend(config.iter().cloned());
        let folders = FOLDERS.iter().filter_map(|key| metadata.properties().get(*key));
        let own = folders.map(String::as_str).chain([metadata.location()]);
        let own = own.map(|folder| Credential { prefix: folder.to_owned(), properties: whole.clone() });
        // A key for a part of storage counts more than one for the table, also where both name one prefix.
        let mut credentials: Vec<_> = if whole.is_empty() { Vec::new() } else { own.collect() };
        credentials.extend(parts.into_iter().map(|part| {
            let mut properties = whole.clone();
            properties.extend(storage_properties(part.config));
            Credential { prefix: part.prefix, properties }
        }));
        let renew_at_ms = credentials.iter().filter_map(Credential::expires_at_ms).min().map(renew_at);
        let owner = self.owner(ident);
        if credentials.is_empty() {
            self.credentials.remove(&owner);
            self.tables.lock().remove(ident);
            return;
        }
        self.credentials.put(&owner, credentials);
        let mut tables = self.tables.lock();
        if tables.len() >= TABLES_MAX {
            tables.retain(|_, lease| lease.used.elapsed() < IDLE_MAX / 24);
        }
        if tables.len() < TABLES_MAX {
            tables.insert(ident.clone(), Lease { config, renew_at_ms, tried: None, used: Instant::now() });
        }
    }

    /// A query has asked for the table. Says whether its keys are good for a while yet.
    pub(super) fn used(&self, ident: &TableIdent) -> bool {
        match self.tables.lock().get_mut(ident) {
            Some(lease) => {
                lease.used = Instant::now();
                lease.renew_at_ms.is_none_or(|at| now_ms() < at)
            }
            None => true,
        }
    }

    /// The tables whose keys are to be renewed now.
    pub(super) fn due(&self) -> Vec<TableIdent> {
        let now = now_ms();
        let mut tables = self.tables.lock();
        tables.retain(|ident, lease| {
            let idle = lease.used.elapsed() >= IDLE_MAX;
            if idle {
                self.credentials.remove(&self.owner(ident));
            }
            !idle
        });
        let due = tables.iter_mut().filter(|(_, lease)| {
            // A catalog that does not answer is not asked all the time.
            let paused = lease.tried.is_some_and(|tried| tried.elapsed() < RENEWAL_PAUSE);
            !paused && lease.renew_at_ms.is_some_and(|at| now >= at)
        });
        let due = due.map(|(ident, lease)| {
            lease.tried = Some(Instant::now());
            ident.clone()
        });
        due.collect()
    }

    /// The table is gone.
    pub(super) fn forget(&self, ident: &TableIdent) {
        self.tables.lock().remove(ident);
        self.credentials.remove(&self.owner(ident));
    }

    fn owner(&self, ident: &TableIdent) -> String {
        format!("{}/{}/{}", self.catalog, ident.schema, ident.table)
    }
}

fn renew_at(expires_at_ms: i64) -> i64 {
    let left = (expires_at_ms - now_ms()).max(0);
    let margin = i64::try_from(RENEWAL_MAX.as_millis()).unwrap_or(i64::MAX).min(left / 4);
    expires_at_ms.saturating_sub(margin)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
