//! Keys to parts of storage, as catalogs vend them for their tables.
//!
//! Each is for all locations that begin with its prefix; of several the longest prefix wins, and of
//! those with the same prefix the one that came last. The scheduler puts in what its catalogs say and
//! sends the whole to executors; an executor takes it in by [`Credentials::replace`]. The rule:
//! a key leaves here for the store that signs with it and for [`Credentials::export`], never for a
//! plan, an error or a log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Secret;

/// Owners whose keys are kept; a catalog with more tables in use at once loses the oldest.
const OWNERS_MAX: usize = 20_000;

/// Schedulers whose versions are remembered; each start of one is another.
const SCHEDULERS_MAX: usize = 1000;

/// How long a request waits for a newer key when the one at hand has expired.
const RENEWAL_WAIT_MAX: Duration = Duration::from_secs(10);

/// Keys to everything below a prefix.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Beginning of the URIs that it is for.
    pub prefix: String,
    /// The properties as Iceberg names them: `s3.access-key-id`, `s3.region`, …
    pub properties: BTreeMap<String, Secret>,
}

impl Credential {
    /// One property.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(Secret::expose).filter(|value| !value.is_empty())
    }

    /// When it expires, in milliseconds since the epoch, if it says so.
    pub fn expires_at_ms(&self) -> Option<i64> {
        const KEYS: [&str; 2] = ["s3.session-token-expires-at-ms", "gcs.oauth2.token-expires-at"];
        let fixed = KEYS.iter().filter_map(|key| self.property(key)?.parse().ok());
        let by_account =
            self.properties.iter().filter(|(key, _)| key.starts_with("adls.sas-token-expires-at-ms"));
        fixed.chain(by_account.filter_map(|(_, value)| value.expose().parse().ok())).min()
    }

    /// Whether it holds a key at all, and not only settings.
    pub fn has_key(&self) -> bool {
        const KEYS: [&str; 3] = ["s3.access-key-id", "gcs.oauth2.token", "adls.sas-token"];
        self.properties.keys().any(|key| KEYS.iter().any(|begin| key.starts_with(begin)))
    }

    fn is_expired(&self) -> bool {
        self.expires_at_ms().is_some_and(|at| at <= now_ms())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// All keys of a process, as a cheap handle.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
}

struct Inner {
    /// Saves the lookup where no catalog vends anything.
    any: AtomicBool,
    state: RwLock<State>,
    /// Counts changes of what this process was given by its own catalogs: what is to be delivered.
    version: watch::Sender<u64>,
    /// Counts all changes: what a request may wait for.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// What each owner has; an owner is a table of a catalog, as its scheduler names it.
    owners: HashMap<String, Owned>,
    /// By the prefix inside the router, with what each owner has for it, the newest last.
    by_prefix: HashMap<String, Vec<(String, Arc<Credential>)>>,
    /// The lengths of all prefixes.
    lengths: BTreeSet<usize>,
    changes: u64,
    /// The version that each scheduler sent last.
    received: HashMap<String, u64>,
}

struct Owned {
    credentials: Vec<Credential>,
    since: u64,
}

/// What crosses from a scheduler to an executor.
#[derive(Serialize, Deserialize)]
struct Wire {
    owners: BTreeMap<String, Vec<(String, Plain)>>,
}

/// Properties that are no secret any more, on their way.
type Plain = BTreeMap<String, String>;

impl Default for Credentials {
    fn default() -> Self {
        let inner = Inner {
            any: AtomicBool::new(false),
            state: RwLock::default(),
            version: watch::Sender::new(0),
            changes: watch::Sender::new(0),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("version", &*self.inner.version.borrow()).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Gives an owner these in place of what it had.
    pub fn put(&self, owner: &str, credentials: Vec<Credential>) {
        let changed = {
            let mut state = self.inner.state.write();
            let same = state.owners.get(owner).is_some_and(|owned| owned.credentials == credentials);
            if !same {
                state.remove(owner);
                state.insert(owner, credentials);
                state.bound();
            }
            self.inner.any.store(!state.by_prefix.is_empty(), Ordering::Release);
            !same
        };
        if changed {
            self.own_changed();
        }
    }

    fn own_changed(&self) {
        self.inner.version.send_modify(|version| *version += 1);
        self.inner.changes.send_modify(|changes| *changes += 1);
    }

    /// Forgets what an owner has.
    pub fn remove(&self, owner: &str) {
        let had = {
            let mut state = self.inner.state.write();
            let had = state.owners.contains_key(owner);
            state.remove(owner);
            self.inner.any.store(!state.by_prefix.is_empty(), Ordering::Release);
            had
        };
        if had {
            self.own_changed();
        }
    }

    /// Counts changes of what is to be delivered.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        !self.inner.any.load(Ordering::Acquire)
    }

    /// Everything, for [`Credentials::replace`] in another process, and the version that it is of.
    pub fn export(&self) -> (u64, Bytes) {
        let version = *self.inner.version.borrow();
        let state = self.inner.state.read();
        let plain = |credential: &Credential| {
            let properties = credential.properties.iter();
            let properties =
                properties.map(|(key, value)| (key.clone(), value.expose().to_owned())).collect();
            (credential.prefix.clone(), properties)
        };
        let owners = state.owners.iter().filter(|(owner, _)| !owner.starts_with(FOREIGN));
        let owners =
            owners.map(|(owner, owned)| (owner.clone(), owned.credentials.iter().map(plain).collect()));
        let wire = Wire { owners: owners.collect() };
        (version, Bytes::from(serde_json::to_vec(&wire).expect("maps of texts are JSON")))
    }

    /// Takes in what a scheduler exported, in place of what it sent before; an older version changes nothing.
    pub fn replace(&self, scheduler: &str, version: u64, exported: &[u8]) -> Result<(), &'static str> {
        // The parser's own message would quote what it found.
        let wire: Wire = serde_json::from_slice(exported).map_err(|_| "the credentials are not readable")?;
        let begin = format!("{FOREIGN}{scheduler}/");
        {
            let mut state = self.inner.state.write();
            if state.received.get(scheduler).is_some_and(|received| *received >= version) {
                return Ok(());
            }
            if state.received.len() >= SCHEDULERS_MAX {
                state.received.clear();
            }
            state.received.insert(scheduler.to_owned(), version);
            let gone: Vec<_> =
                state.owners.keys().filter(|owner| owner.starts_with(&begin)).cloned().collect();
            gone.iter().for_each(|owner| state.remove(owner));
            for (owner, credentials) in wire.owners {
                let credentials = credentials.into_iter().map(|(prefix, properties)| Credential {
                    prefix,
                    properties: properties
                        .into_iter()
                        .map(|(key, value)| (key, Secret::new(value)))
                        .collect(),
                });
                state.insert(&format!("{begin}{owner}"), credentials.collect());
            }
            state.bound();
            self.inner.any.store(!state.by_prefix.is_empty(), Ordering::Release);
        }
        self.inner.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// What decides for a location.
    pub fn for_uri(&self, uri: &str) -> Option<Arc<Credential>> {
        let path = super::path_of(uri).ok()?;
        self.find(path.as_ref()).map(|(_, credential)| credential)
    }

    /// The prefix, as [`Credentials::current`] takes it, that decides for a path of the router.
    pub(super) fn find(&self, path: &str) -> Option<(String, Arc<Credential>)> {
        if self.is_empty() {
            return None;
        }
        let state = self.inner.state.read();
        state.lengths.iter().rev().filter(|length| **length <= path.len()).find_map(|length| {
            let prefix = path.get(..*length)?;
            let credential = &state.by_prefix.get(prefix)?.last()?.1;
            Some((prefix.to_owned(), Arc::clone(credential)))
        })
    }

    /// The key of a prefix at this moment; waits a little for a newer one if it has expired.
    pub(super) async fn current(&self, prefix: &str) -> Result<Arc<Credential>, &'static str> {
        let mut changes = self.inner.changes.subscribe();
        let look = || {
            let state = self.inner.state.read();
            Some(Arc::clone(&state.by_prefix.get(prefix)?.last()?.1))
        };
        let valid = async {
            loop {
                changes.borrow_and_update();
                match look() {
                    Some(credential) if !credential.is_expired() => return Some(credential),
                    _ if changes.changed().await.is_err() => return None,
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(RENEWAL_WAIT_MAX, valid).await {
            Ok(Some(credential)) => Ok(credential),
            _ => Err("the credentials that the catalog vended have expired"),
        }
    }
}

/// The key of a prefix, whichever is the newest when it is asked for.
#[derive(Debug)]
pub(super) struct VendedKey {
    prefix: String,
    credentials: Credentials,
}

impl VendedKey {
    pub(super) fn new(prefix: &str, credentials: &Credentials) -> Self {
        Self { prefix: prefix.to_owned(), credentials: credentials.clone() }
    }

    /// What the store at hand signs with, made of the key by `make`. The store's kind is for the error.
    pub(super) async fn current<T>(
        &self,
        store: &'static str,
        make: impl FnOnce(&Credential) -> Result<T, &'static str>,
    ) -> object_store::Result<Arc<T>> {
        let made = match self.credentials.current(&self.prefix).await {
            Ok(credential) => make(&credential).map(Arc::new),
            Err(reason) => Err(reason),
        };
        made.map_err(|reason| object_store::Error::Generic { store, source: reason.into() })
    }
}

/// Begins the owners that another process sent; they are not sent on.
const FOREIGN: &str = "\u{1f}";

impl State {
    fn insert(&mut self, owner: &str, credentials: Vec<Credential>) {
        self.changes += 1;
        for credential in &credentials {
            let prefix = inner_prefix(&credential.prefix);
            self.lengths.insert(prefix.len());
            self.by_prefix.entry(prefix).or_default().push((owner.to_owned(), Arc::new(credential.clone())));
        }
        self.owners.insert(owner.to_owned(), Owned { credentials, since: self.changes });
    }

    fn remove(&mut self, owner: &str) {
        let Some(owned) = self.owners.remove(owner) else { return };
        for credential in &owned.credentials {
            let prefix = inner_prefix(&credential.prefix);
            if let Some(entries) = self.by_prefix.get_mut(&prefix) {
                entries.retain(|(other, _)| other != owner);
                if entries.is_empty() {
                    self.by_prefix.remove(&prefix);
                }
            }
        }
        self.lengths = self.by_prefix.keys().map(String::len).collect();
    }

    fn bound(&mut self) {
        while self.owners.len() > OWNERS_MAX {
            let oldest =
                self.owners.iter().min_by_key(|(_, owned)| owned.since).map(|(owner, _)| owner.clone());
            let Some(oldest) = oldest else { return };
            self.remove(&oldest);
        }
    }
}

/// A prefix of URIs as a prefix of paths inside the router. The specification allows a bare scheme, too.
fn inner_prefix(prefix: &str) -> String {
    let (scheme, rest) = match prefix.split_once("://") {
        Some((scheme, rest)) => (scheme, Some(rest)),
        None => (prefix.trim_end_matches(':'), None),
    };
    let scheme = match scheme {
        "s3a" | "s3n" => "s3",
        "abfss" | "wasb" | "wasbs" => "abfs",
        scheme => scheme,
    };
    match rest {
        Some(rest) => format!("{scheme}/{rest}"),
        None => format!("{scheme}/"),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_wins_and_schemes_are_one() {
        let credentials = Credentials::default();
        credentials.put(
            "a",
            vec![credential("s3://b/wh", "outer", None), credential("s3a://b/wh/t/", "inner", None)],
        );
        assert_eq!(found(&credentials, "s3/b/wh/t/data/f"), Some("inner".to_owned()));
        assert_eq!(found(&credentials, "s3/b/wh/u/data/f"), Some("outer".to_owned()));
        assert_eq!(found(&credentials, "s3/c/wh/u"), None);
        credentials.put("b", vec![credential("s3", "any", None)]);
        assert_eq!(found(&credentials, "s3/c/wh/u"), Some("any".to_owned()));
        credentials.remove("a");
        assert_eq!(found(&credentials, "s3/b/wh/t/data/f"), Some("any".to_owned()));
    }

    #[test]
    fn what_was_exported_is_taken_in_and_not_sent_on() {
        let (scheduler, executor) = (Credentials::default(), Credentials::default());
        scheduler.put("lake.s.t", vec![credential("s3://b/t", "k", None)]);
        executor.replace("one", scheduler.export().0, &scheduler.export().1).unwrap();
        assert_eq!(found(&executor, "s3/b/t/f"), Some("k".to_owned()));
        assert!(!String::from_utf8_lossy(&executor.export().1).contains("s3://b/t"));
        let old = scheduler.export();
        scheduler.remove("lake.s.t");
        executor.replace("one", scheduler.export().0, &scheduler.export().1).unwrap();
        assert_eq!(found(&executor, "s3/b/t/f"), None);
        executor.replace("one", old.0, &old.1).unwrap();
        assert_eq!(found(&executor, "s3/b/t/f"), None, "what comes late is older");
    }

    #[tokio::test]
    async fn request_with_an_expired_key_waits_for_its_successor() {
        let credentials = Credentials::default();
        credentials.put("a", vec![credential("s3://b/t", "old", Some(1))]);
        let waiting = credentials.clone();
        let mut current = Box::pin(waiting.current("s3/b/t"));
        assert!(futures::poll!(current.as_mut()).is_pending());
        credentials.put("a", vec![credential("s3://b/t", "new", Some(i64::MAX))]);
        assert_eq!(current.await.unwrap().property("s3.access-key-id"), Some("new"));
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let credentials = Credentials::default();
        credentials.put("a", vec![credential("s3://b/t", "hunter2", None)]);
        let (_, found) = credentials.find("s3/b/t/f").unwrap();
        assert!(!format!("{credentials:?} {found:?}").contains("hunter2"));
        assert_eq!(
            credentials.replace("x", 1, b"{\"hunter2").unwrap_err(),
            "the credentials are not readable"
        );
    }

    fn found(credentials: &Credentials, path: &str) -> Option<String> {
        Some(credentials.find(path)?.1.property("s3.access-key-id")?.to_owned())
    }

    fn credential(prefix: &str, key: &str, expires_at_ms: Option<i64>) -> Credential {
        let mut properties = BTreeMap::from([("s3.access-key-id".to_owned(), Secret::new(key))]);
        if let Some(at) = expires_at_ms {
            properties.insert("s3.session-token-expires-at-ms".to_owned(), Secret::new(at.to_string()));
        }
        Credential { prefix: prefix.to_owned(), properties }
    }
}
