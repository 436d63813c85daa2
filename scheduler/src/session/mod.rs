//! Who is connected, and with which settings.
//!
//! A [`Session`] is our own struct, not the engine's: each execution builds a fresh engine
//! session from a template, these settings and the query's pins. [`Store`] holds the sessions,
//! bounded in number and idle time. The rule: no query state lives here.

mod settings;
mod store;

use std::sync::{Arc, Mutex, MutexGuard};

pub use settings::{SETTINGS, Setting, Settings, UsageLimits};
pub use store::{Store, StoreConfig};

use uuid::Uuid;

/// One client's session. A cheap handle; clones are the same session.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    principal: String,
    /// Current catalog, schema and settings: what `USE` and `SET` change.
    state: Mutex<State>,
}

#[derive(Debug, Clone)]
struct State {
    catalog: String,
    schema: String,
    settings: Settings,
}

impl Session {
    /// A new session of a principal, in a catalog and schema, with the server's defaults.
    pub fn new(principal: &str, catalog: &str, schema: &str, settings: Settings) -> Self {
        let state = State { catalog: catalog.to_string(), schema: schema.to_string(), settings };
        Self {
            inner: Arc::new(Inner {
                id: Uuid::new_v4().simple().to_string(),
                principal: principal.to_string(),
                state: Mutex::new(state),
            }),
        }
    }

    /// Unique id, not guessable: it serves as a cookie.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Who this is.
    pub fn principal(&self) -> &str {
        &self.inner.principal
    }

    /// The catalog in which unqualified names resolve.
    pub fn catalog(&self) -> String {
        self.state().catalog.clone()
    }

    /// The schema in which unqualified names resolve.
    pub fn schema(&self) -> String {
        self.state().schema.clone()
    }

    /// Changes the current catalog.
    pub fn set_catalog(&self, catalog: &str) {
        self.state().catalog = catalog.to_string();
    }

    /// Changes the current schema.
    pub fn set_schema(&self, schema: &str) {
        self.state().schema = schema.to_string();
    }

    /// A copy of the settings as they are now.
    pub fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// Changes one setting; refuses an unknown name or a value that does not fit.
    pub fn set(&self, name: &str, value: &str) -> crate::error::Result<()> {
        self.state().settings.set(name, value)
    }

    /// Puts one setting back to the server's default.
    pub fn reset(&self, name: &str) -> crate::error::Result<()> {
        self.state().settings.reset(name)
    }

    /// Puts every setting back to the server's default.
    pub fn reset_all(&self) {
        self.state().settings.reset_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
