//! The sums of a process: what is promised, what is lent, what is used.

use std::sync::Arc;

use parking_lot::Mutex;

use super::share::Share;

/// Share of the memory that is promised to runs; the rest is lent to whoever needs more.
const PROMISED_PERCENT: usize = 50;
/// What a run that names no promise is promised of the promised half: so many runs get one.
const USUAL_PART: usize = 16;

/// The memory of one process. Handed about as an `Arc`.
#[derive(Debug)]
pub struct Ledger {
    total: usize,
    /// The sums, for short sections; no lock of another object is taken inside.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    promised: usize,
    lent: usize,
    used: usize,
}

impl Ledger {
    /// A ledger over so many bytes.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, state: Mutex::default() })
    }

    /// Bytes in all.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes that runs hold now.
    pub fn used(&self) -> usize {
        self.state.lock().used
    }

    /// Bytes that are promised now.
    pub fn promised(&self) -> usize {
        self.state.lock().promised
    }

    /// The share of a run that begins. It is promised what it asks for, as far as there is that much left to
    /// promise; `None` stands for the usual part.
    pub fn share(self: &Arc<Self>, run_id: &str, asked: Option<usize>) -> Arc<Share> {
        let all = self.promised_max();
        let mut state = self.state.lock();
        let promise = asked.unwrap_or(all / USUAL_PART).min(all - state.promised);
        state.promised += promise;
        Arc::new(Share::new(Arc::clone(self), run_id, promise))
    }

    /// Bytes that may be promised in all.
    pub fn promised_max(&self) -> usize {
        self.total / 100 * PROMISED_PERCENT
    }

    /// The most that a run may hold which has borrowed `own` so far: its promise, and three quarters of what others
    /// left of the other half.
    pub(super) fn limit(&self, promise: usize, own: usize) -> usize {
        let others = self.state.lock().lent.saturating_sub(own);
        let left = (self.total - self.promised_max()).saturating_sub(others);
        promise + left / 4 * 3
    }

    /// Whether so many bytes can be lent at all.
    pub(super) fn has_left(&self, bytes: usize) -> bool {
        self.state.lock().lent + bytes <= self.total - self.promised_max()
    }

    /// A run holds `after` bytes where it held `before`.
    pub(super) fn moved(&self, promise: usize, before: usize, after: usize) {
        let mut state = self.state.lock();
        state.used = (state.used + after).saturating_sub(before);
        state.lent =
            (state.lent + after.saturating_sub(promise)).saturating_sub(before.saturating_sub(promise));
    }

    /// A run that holds `bytes` gives its promise back; what it still holds is borrowed from now on.
    pub(super) fn released(&self, promise: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.promised = state.promised.saturating_sub(promise);
        state.lent += bytes.min(promise);
    }
}
