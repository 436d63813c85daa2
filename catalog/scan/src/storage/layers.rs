//! What a process puts around its stores: cache, IO runtime, faults.

use std::fmt::Debug;
use std::sync::Arc;

use object_store::ObjectStore;

/// A wrapper for every backing store. Layers are applied in order: the last one is asked first.
pub trait Layer: Debug + Send + Sync {
    /// The store with this layer around it.
    fn wrap(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>;
}
