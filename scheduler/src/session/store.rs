//! The sessions that live: bounded in number and in idle time.

use std::time::Duration;

use moka::sync::Cache;

use super::{Session, Settings};

/// How many sessions live, and how long an idle one does.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Most sessions at once; beyond it the least recently used one ends.
    pub sessions_max: u64,
    /// A session that is not used for so long ends.
    pub idle_timeout: Duration,
    /// Catalog of new sessions.
    pub catalog: String,
    /// Schema of new sessions.
    pub schema: String,
    /// Settings of new sessions.
    pub settings: Settings,
}

/// The sessions by id. A cheap handle.
#[derive(Debug, Clone)]
pub struct Store {
    sessions: Cache<String, Session>,
    config: StoreConfig,
}

impl Store {
    /// An empty store.
    pub fn new(config: StoreConfig) -> Self {
        let sessions =
            Cache::builder().max_capacity(config.sessions_max).time_to_idle(config.idle_timeout).build();
        Self { sessions, config }
    }

    /// Opens a session for a principal.
    pub fn create(&self, principal: &str) -> Session {
        let config = &self.config;
        let session = Session::new(principal, &config.catalog, &config.schema, config.settings.clone());
        self.sessions.insert(session.id().to_string(), session.clone());
        session
    }

    /// The session of an id, if it lives; this counts as use.
    pub fn get(&self, id: &str) -> Option<Session> {
        self.sessions.get(id)
    }

    /// Ends a session; false if there was none.
    pub fn close(&self, id: &str) -> bool {
        self.sessions.remove(id).is_some()
    }
}
