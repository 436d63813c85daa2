//! What a scan tells about itself while it runs.
//!
//! The process that makes both the runtime and the storage router hands the
//! router one observer; every scan that reads through that router reports to it.

use std::ops::Range;

use crate::task::FileTask;

/// Watches the scans of a process. Calls come from the scan's own thread, so they must be cheap.
pub trait ScanObserver: Send + Sync {
    /// A file, or a range of it, is about to be read.
    fn opened(&self, query_id: Option<&str>, task: &FileTask, range: Option<Range<u64>>);

    /// A batch of so many rows left a scan.
    fn rows(&self, n: usize);

    /// The same, with the query it was for.
    fn rows_of(&self, query_id: Option<&str>, n: usize) {
        let _ = query_id;
        self.rows(n);
    }
}
