//! Analysts: tasks that ask one query after another, or at times of their own.
//!
//! *Closed loop*: each asks, reads the answer, asks again; the rate follows from the server. *Open loop*: each asks
//! at times drawn beforehand (a Poisson stream), whether answers came or not, as a dashboard of many tiles does;
//! latency counts from the planned time, so a server that stalls is charged for all that waited. Beside both a probe
//! asks `SELECT 1` ten times a second, at planned times too. The rule: whatever was asked is in the samples once.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::Error;
use crate::digest::Digest;
use crate::mix::{self, Order, Query};
use crate::target::{Failure, Session, Target};

/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(100);
const PROBE_DEADLINE: Duration = Duration::from_secs(30);
/// How long an analyst waits after an error, so that a server that refuses is not hammered.
const AFTER_ERROR: Duration = Duration::from_millis(500);
/// How long after the end of a phase answers are waited for.
pub const DRAIN_MAX: Duration = Duration::from_secs(90);
/// Queries of one analyst at once in an open loop; more wait, and their waiting counts.
const OUTSTANDING_MAX: usize = 64;

/// Queries, what is right, and whom to ask.
#[derive(Clone)]
pub struct Questions {
    /// The mix.
    pub queries: Arc<Vec<Query>>,
    /// What is right, by query.
    pub expected: Arc<Vec<Digest>>,
    /// Whom to ask.
    pub target: Target,
    /// How long one query may take.
    pub deadline: Duration,
    /// The seed of all orders.
    pub seed: u64,
}

/// How a phase loads the server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// A number of its own, so that orders differ from those of other phases.
    pub phase: u64,
    /// Analysts at once.
    pub analysts: usize,
    /// From start to end; what is under way then is waited for.
    pub length: Duration,
    /// Queries a second of all analysts together, in an open loop.
    pub rate: Option<f64>,
}

/// One query that was asked. Times count from the start of the phase.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Who asked.
    pub analyst: usize,
    /// What was asked, by its place in the mix.
    pub query: usize,
    /// When it was meant to be asked.
    pub due: Duration,
    /// When it was answered.
    pub ended: Duration,
    /// How.
    pub outcome: Outcome,
}

/// How a query ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With the rows that it has.
    Right,
    /// With other rows.
    Wrong(Digest),
    /// With an error.
    Failed(Failure),
    /// It was still under way long after the phase.
    Cut,
}

/// What was seen in a phase.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Of the analysts.
    pub samples: Vec<Sample>,
    /// Of the probe.
    pub probes: Vec<Sample>,
}

/// Runs a phase to its end.
pub async fn run(questions: &Questions, load: Load) -> Result<Seen, Error> {
    let mut sessions = Vec::with_capacity(load.analysts);
    for analyst in 0..load.analysts {
        sessions.push(questions.target.connect(&format!("analyst{analyst:02}")).await?);
    }
    let probe = questions.target.connect("probe").await?;
    let start = Instant::now();
    let mut analysts = JoinSet::new();
    for (analyst, session) in sessions.into_iter().enumerate() {
        let asked = Asked { questions: questions.clone(), load, analyst, start };
        analysts.spawn(async move {
            match load.rate {
                None => asked.closed(session).await,
                Some(rate) => asked.open(session, rate / load.analysts as f64).await,
            }
        });
    }
    let mut probes = JoinSet::new();
    probes.spawn(probe_until(probe, start, load.length));
    let mut seen = Seen::default();
    while let Some(samples) = analysts.join_next().await {
        seen.samples.extend(samples?);
    }
    while let Some(samples) = probes.join_next().await {
        seen.probes.extend(samples?);
    }
    seen.samples.sort_by_key(|sample| sample.due);
    Ok(seen)
}

/// One analyst in one phase.
#[derive(Clone)]
struct Asked {
    questions: Questions,
    load: Load,
    analyst: usize,
    start: Instant,
}

impl Asked {
    fn order(&self) -> Order {
        Order::new(&self.questions.queries, self.questions.seed, self.load.phase, self.analyst as u64)
    }

    async fn closed(self, session: Session) -> Vec<Sample> {
        let mut order = self.order();
        let mut samples = Vec::new();
        while self.start.elapsed() < self.load.length {
            let sample = self.ask(&session, order.draw(), Instant::now()).await;
            let failed = matches!(sample.outcome, Outcome::Failed(_));
            samples.push(sample);
            if failed {
                sleep(AFTER_ERROR).await;
            }
        }
        samples
    }

    async fn open(self, session: Session, rate: f64) -> Vec<Sample> {
        let mut order = self.order();
        let permits = Arc::new(Semaphore::new(OUTSTANDING_MAX));
        let mut queries = JoinSet::new();
        let mut samples = Vec::new();
        // The stream of arrivals is not that of the order, so that a change of one leaves the other.
        let mut random = mix::random(self.questions.seed ^ u64::MAX, self.load.phase, self.analyst as u64);
        let mut due = Duration::ZERO;
        loop {
            let uniform: f64 = random.random();
            due += Duration::from_secs_f64(-(1.0 - uniform).ln() / rate);
            if due >= self.load.length {
                break;
            }
            sleep_until(self.start + due).await;
            let (asked, session, query) = (self.clone(), session.clone(), order.draw());
            let permits = Arc::clone(&permits);
            queries.spawn(async move {
                let _permit = permits.acquire().await;
                asked.ask(&session, query, asked.start + due).await
            });
            while let Some(sample) = queries.try_join_next() {
                samples.extend(sample);
            }
        }
        while let Some(sample) = queries.join_next().await {
            samples.extend(sample);
        }
        samples
    }

    async fn ask(&self, session: &Session, query: usize, due: Instant) -> Sample {
        let answer = session.run(&self.questions.queries[query].sql, self.questions.deadline);
        let outcome = match timeout_at(self.start + self.load.length + DRAIN_MAX, answer).await {
            Err(_) => Outcome::Cut,
            Ok(Err(failure)) => Outcome::Failed(failure),
            Ok(Ok(digest)) if digest == self.questions.expected[query] => Outcome::Right,
            Ok(Ok(digest)) => Outcome::Wrong(digest),
        };
        let ended = self.start.elapsed();
        Sample { analyst: self.analyst, query, due: due - self.start, ended, outcome }
    }
}

async fn probe_until(session: Session, start: Instant, length: Duration) -> Vec<Sample> {
    // Each at its time, whether the one before came back or not: one after another they would wait for each other
    // as soon as one takes longer than the pause, and the times would be those of the probe's own queue.
    let permits = Arc::new(Semaphore::new(OUTSTANDING_MAX));
    let mut probes = JoinSet::new();
    let mut due = Duration::ZERO;
    while due < length {
        sleep_until(start + due).await;
        let (session, permits) = (session.clone(), Arc::clone(&permits));
        probes.spawn(async move {
            let _permit = permits.acquire().await;
            let outcome = match session.run("SELECT 1", PROBE_DEADLINE).await {
                Ok(digest) if digest.rows == 1 => Outcome::Right,
                Ok(digest) => Outcome::Wrong(digest),
                Err(failure) => Outcome::Failed(failure),
            };
            Sample { analyst: 0, query: 0, due, ended: start.elapsed(), outcome }
        });
        due += PROBE_EVERY;
    }
    probes.join_all().await
}
