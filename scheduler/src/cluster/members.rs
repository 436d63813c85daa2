//! Who is in the cluster.
//!
//! An executor is a member from its registration until it leaves, or until its signs of life stop for longer
//! than the configuration allows. Readers get a snapshot; whoever must hear of changes subscribes.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{IntGaugeVec, Opts};
use tarn_runtime::control::messages::RunStats;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Config;
use crate::error::{Error, ErrorCode, Result};

static EXECUTORS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let opts = Opts::new("scheduler_executors", "executors that are members, by state");
    let gauge = IntGaugeVec::new(opts, &["state"]).expect("the metric is well formed");
    // Refused only if the name is taken; the metric then still counts, unseen.
    let _ = prometheus::default_registry().register(Box::new(gauge.clone()));
    gauge
});

/// Whether a member takes new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Alive,
    /// It finishes what it has and goes.
    Draining,
}

/// How busy a member is, as it last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Queries that have work there.
    pub queries_active: u32,
    /// Bytes reserved in its memory pool.
    pub memory_used_bytes: u64,
}

/// One executor.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Unique over executors and restarts: `host:port#nonce`.
    pub id: String,
    /// The host under which others reach it.
    pub host: String,
    /// Its exchange of rows and its control service: `http://host:port`.
    pub flight_url: Url,
    /// Its tasks of the staged engine.
    pub task_addr: (String, u16),
    /// Its probes and metrics: `host:port`.
    pub http: Option<String>,
    /// Threads that run plans.
    pub cores: usize,
    /// Bytes of its memory pool.
    pub memory_bytes: u64,
    /// Version of its program.
    pub version: String,
    /// Whether it takes new work.
    pub state: State,
}

/// Every member, as one cheap handle.
#[derive(Clone)]
pub struct Members {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    /// What time it is; tests bring a clock of their own.
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    /// Members by id, with what was last heard of them. Held for short reads and writes.
    entries: Mutex<BTreeMap<String, Entry>>,
    /// The members that take work, by id.
    alive: watch::Sender<Arc<Vec<Member>>>,
    /// The members that would take work, and are held, by id.
    held: watch::Sender<Arc<Vec<Member>>>,
    /// Whether who joins now is held.
    holds: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    /// Who hears what runs do on executors.
    listener: OnceLock<RunsListener>,
}

/// Hears from which executor what its runs did.
type RunsListener = Box<dyn Fn(&str, &[RunStats]) + Send + Sync>;

#[derive(Debug)]
struct Entry {
    member: Member,
    load: Load,
    heard: Instant,
    /// An engine could not reach it since it was last heard.
    suspect: bool,
    /// It lacks something without which it cannot work.
    held: bool,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members").field("alive", &self.alive()).finish_non_exhaustive()
    }
}

impl Members {
    /// Nobody yet.
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, Box::new(Instant::now))
    }

    fn with_clock(config: Config, clock: Box<dyn Fn() -> Instant + Send + Sync>) -> Self {
        let (alive, held) = (watch::Sender::default(), watch::Sender::default());
        // So that the metric is there before the first executor is.
        EXECUTORS.with_label_values(&["alive"]).set(0);
        let (entries, holds, listener) = (Mutex::default(), OnceLock::new(), OnceLock::new());
        Self { inner: Arc::new(Inner { config, clock, entries, alive, held, holds, listener }) }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// From now on a member gets no work until [`Members::release`], if `holds` says so when it joins. Asked under
    /// the lock of the members: whatever it goes by has changed before a reader sees that the member is there.
    pub fn hold_newcomers(&self, holds: impl Fn() -> bool + Send + Sync + 'static) {
        let first = self.inner.holds.set(Box::new(holds)).is_ok();
        debug_assert!(first, "one reason to hold members");
    }

    /// From now on `listener` hears what each executor says of its runs.
    pub fn listen(&self, listener: impl Fn(&str, &[RunStats]) + Send + Sync + 'static) {
        let first = self.inner.listener.set(Box::new(listener)).is_ok();
        debug_assert!(first, "one listener");
    }

    /// An executor said what its runs did.
    pub fn runs(&self, id: &str, runs: &[RunStats]) {
        if let Some(listener) = self.inner.listener.get() {
            listener(id, runs);
        }
    }

    /// The member gets no work until it is released.
    pub fn hold(&self, id: &str) {
        if let Some(entry) = self.inner.entries.lock().get_mut(id) {
            entry.held = true;
        }
        self.publish();
    }

    /// The member may work.
    pub fn release(&self, id: &str) {
        let released = match self.inner.entries.lock().get_mut(id) {
            Some(entry) => std::mem::take(&mut entry.held),
            None => false,
        };
        if released {
            self.publish();
        }
    }

    /// The members that take new work, by id.
    pub fn alive(&self) -> Vec<Member> {
        self.chosen(|entry| self.takes_work(entry))
    }

    /// The members that would take new work, and are held, by id.
    pub fn held(&self) -> Vec<Member> {
        self.chosen(|entry| entry.held && self.would_work(entry))
    }

    /// Whether a member is held.
    pub fn is_held(&self, id: &str) -> bool {
        self.inner.entries.lock().get(id).is_some_and(|entry| entry.held)
    }

    fn chosen(&self, choose: impl Fn(&Entry) -> bool) -> Vec<Member> {
        let entries = self.inner.entries.lock();
        entries.values().filter(|entry| choose(entry)).map(|entry| entry.member.clone()).collect()
    }

    /// Everyone, also those that drain, with how busy they are.
    pub fn all(&self) -> Vec<(Member, Load)> {
        let entries = self.inner.entries.lock();
        entries.values().filter(|entry| self.is_heard(entry)).map(|e| (e.member.clone(), e.load)).collect()
    }

    /// The member with this id, also if it drains.
    pub fn get(&self, id: &str) -> Option<Member> {
        let entries = self.inner.entries.lock();
        entries.get(id).filter(|entry| self.is_heard(entry)).map(|entry| entry.member.clone())
    }

    /// Waits until there is a member that takes work. Fails with `no_executors` after `timeout`.
    pub async fn wait_for_one(&self, timeout: Duration) -> Result<()> {
        let mut alive = self.inner.alive.subscribe();
        let found = tokio::time::timeout(timeout, alive.wait_for(|members| !members.is_empty())).await;
        match found {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::new(ErrorCode::NoExecutors, "no executor joined the cluster in time")
                .with_hint("start one with `tarn executor`, or run with `set execution_mode = 'local'`")),
        }
    }

    /// Changes of the members that take work.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        self.inner.alive.subscribe()
    }

    /// Changes of the members that are held.
    pub fn subscribe_held(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        self.inner.held.subscribe()
    }

    /// Takes a member in, or refreshes it. One that came back on the same port replaces the old one.
    pub fn join(&self, member: Member) {
        {
            let mut entries = self.inner.entries.lock();
            entries.retain(|id, entry| *id == member.id || entry.member.flight_url != member.flight_url);
            tracing::info!(executor = member.id, cores = member.cores, "executor joined");
            let held = self.inner.holds.get().is_some_and(|holds| holds());
            let (load, heard) = (Load::default(), (self.inner.clock)());
            let entry = Entry { member, load, heard, suspect: false, held };
            entries.insert(entry.member.id.clone(), entry);
        }
        self.publish();
    }

    /// A sign of life; says whether the member is known.
    pub fn heard(&self, id: &str, draining: bool, load: Load) -> bool {
        {
            let mut entries = self.inner.entries.lock();
            let Some(entry) = entries.get_mut(id).filter(|entry| self.is_heard(entry)) else { return false };
            entry.heard = (self.inner.clock)();
            entry.suspect = false;
            entry.load = load;
            entry.member.state = if draining { State::Draining } else { State::Alive };
        }
        self.publish();
        true
    }

    /// An engine could not reach the member: it gets no new work until it is heard again.
    pub fn suspect(&self, id: &str) {
        if let Some(entry) = self.inner.entries.lock().get_mut(id) {
            tracing::warn!(executor = id, "executor could not be reached");
            entry.suspect = true;
        }
        self.publish();
    }

    /// The member has gone.
    pub fn leave(&self, id: &str) {
        if self.inner.entries.lock().remove(id).is_some() {
            tracing::info!(executor = id, "executor left");
        }
        self.publish();
    }

    /// Buries members that are no longer heard, until `shutdown`.
    pub async fn watch(self, shutdown: CancellationToken) {
        let mut ticks =
            tokio::time::interval(Duration::from_millis(self.inner.config.heartbeat_ms.max(10) / 2));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => self.bury(),
            }
        }
    }

    fn bury(&self) {
        let dead: Vec<String> = {
            let mut entries = self.inner.entries.lock();
            let dead = entries.values().filter(|entry| !self.is_heard(entry)).map(|e| e.member.id.clone());
            let dead: Vec<String> = dead.collect();
            entries.retain(|_, entry| self.is_heard(entry));
            dead
        };
        for id in &dead {
            tracing::warn!(executor = id, "executor is dead: no sign of life in time");
        }
        if !dead.is_empty() {
            self.publish();
        }
    }

    fn is_heard(&self, entry: &Entry) -> bool {
        let silent = (self.inner.clock)().saturating_duration_since(entry.heard);
        silent <= Duration::from_millis(self.inner.config.dead_after_ms)
    }

    fn takes_work(&self, entry: &Entry) -> bool {
        !entry.held && self.would_work(entry)
    }

    fn would_work(&self, entry: &Entry) -> bool {
        entry.member.state == State::Alive && !entry.suspect && self.is_heard(entry)
    }

    /// Tells subscribers and the gauge, if who takes work has changed.
    fn publish(&self) {
        let (alive, held) = (Arc::new(self.alive()), Arc::new(self.held()));
        let all = self.inner.entries.lock().len();
        EXECUTORS.with_label_values(&["alive"]).set(alive.len() as i64);
        EXECUTORS.with_label_values(&["other"]).set(all.saturating_sub(alive.len()) as i64);
        for (sender, now) in [(&self.inner.alive, alive), (&self.inner.held, held)] {
            sender.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn silent_member_dies_and_its_sign_of_life_is_refused() {
        let (members, clock) = members();
        members.join(member("a", 1));
        assert_eq!(ids(&members), ["a"]);
        clock.advance(4900);
        assert!(members.heard("a", false, Load::default()));
        clock.advance(4900);
        assert_eq!(ids(&members), ["a"]);
        clock.advance(200);
        assert!(ids(&members).is_empty());
        assert!(!members.heard("a", false, Load::default()));
    }

    #[tokio::test]
    async fn death_is_told_to_subscribers() {
        let (members, clock) = members();
        let shutdown = CancellationToken::new();
        let mut changes = members.subscribe();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(members.clone().watch(shutdown.clone()));
        members.join(member("a", 1));
        changes.wait_for(|alive| alive.len() == 1).await.unwrap();
        clock.advance(6000);
        changes.wait_for(|alive| alive.is_empty()).await.unwrap();
        shutdown.cancel();
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn draining_or_suspect_member_gets_no_work_and_stays_known() {
        let (members, _) = members();
        members.join(member("a", 1));
        members.join(member("b", 2));
        members.suspect("a");
        assert_eq!(ids(&members), ["b"]);
        assert!(members.heard("a", false, Load::default()));
        assert!(members.heard("b", true, Load::default()));
        assert_eq!(ids(&members), ["a"]);
        assert_eq!(members.get("b").unwrap().state, State::Draining);
        members.leave("b");
        assert!(members.get("b").is_none());
    }

    #[tokio::test]
    async fn held_member_gets_no_work_until_it_is_released() {
        let (members, _) = members();
        members.join(member("a", 1));
        members.hold_newcomers(|| true);
        let held = |members: &Members| members.held().into_iter().map(|m| m.id).collect::<Vec<_>>();
        let mut told = members.subscribe_held();
        members.join(member("b", 2));
        assert_eq!((ids(&members), held(&members)), (vec!["a".to_string()], vec!["b".to_string()]));
        assert!(told.has_changed().unwrap() && members.is_held("b"));
        members.release("b");
        assert_eq!(ids(&members), ["a", "b"]);
        // One that could not be reached is asked again when it is heard.
        members.hold("b");
        members.suspect("b");
        assert!(held(&members).is_empty());
        told.mark_unchanged();
        assert!(members.heard("b", false, Load::default()));
        assert_eq!((ids(&members), held(&members)), (vec!["a".to_string()], vec!["b".to_string()]));
        assert!(told.has_changed().unwrap());
    }

    #[tokio::test]
    async fn restarted_executor_replaces_its_former_self() {
        let (members, _) = members();
        members.join(member("h:1#x", 1));
        members.join(member("h:1#y", 1));
        assert_eq!(ids(&members), ["h:1#y"]);
    }

    #[tokio::test]
    async fn waiting_for_one_ends_with_the_first_or_the_timeout() {
        let (members, _) = members();
        let error = members.wait_for_one(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NoExecutors);
        let waiting = members.wait_for_one(Duration::from_secs(60));
        let (waited, ()) = tokio::join!(waiting, async { members.join(member("a", 1)) });
        waited.unwrap();
    }

    /// A clock that stands until it is moved.
    #[derive(Clone, Default)]
    struct Clock(Arc<AtomicU64>);

    impl Clock {
        fn advance(&self, ms: u64) {
            self.0.fetch_add(ms, Ordering::SeqCst);
        }
    }

    fn members() -> (Members, Clock) {
        let (clock, start) = (Clock::default(), Instant::now());
        let now = clock.clone();
        let now = move || start + Duration::from_millis(now.0.load(Ordering::SeqCst));
        (Members::with_clock(Config::default(), Box::new(now)), clock)
    }

    fn ids(members: &Members) -> Vec<String> {
        members.alive().into_iter().map(|member| member.id).collect()
    }

    fn member(id: &str, port: u16) -> Member {
        Member {
            id: id.to_string(),
            host: "h".to_string(),
            flight_url: Url::parse(&format!("http://h:{port}")).unwrap(),
            task_addr: ("h".to_string(), 100 + port),
            http: None,
            cores: 2,
            memory_bytes: 1,
            version: String::new(),
            state: State::Alive,
        }
    }
}
