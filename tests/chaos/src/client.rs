//! Who asks: clients that each draw a question and a mode, ask, and judge what comes.
//!
//! A session is opened anew when the mode changes, after an error, and after the scheduler went. The rule: every
//! question ends within its bound, as right, as an explained error, or as a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tarn_client::{Connection, Error};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::log::Log;
use crate::question::{Question, Questions};
use crate::rows::Progress;
use crate::tally::{Tally, judge};

/// The modes that are asked in.
pub const MODES: [&str; 3] = ["auto", "pipelined", "staged"];

/// The server's own bound of a query, and ours, after which it hangs.
const QUERY_TIMEOUT_S: u64 = 40;
pub const HANGS_AFTER: Duration = Duration::from_secs(QUERY_TIMEOUT_S + 20);
/// How long a session may take to be opened.
const OPEN: Duration = Duration::from_secs(30);
/// Between two attempts to open one.
const PAUSE: Duration = Duration::from_millis(300);
/// The share of questions, in percent, before which the mode changes.
const CHANGE_PERCENT: u32 = 20;

/// What all clients share.
#[derive(Clone)]
pub struct Shared {
    /// Who is asked.
    pub cluster: Arc<Cluster>,
    /// What is asked.
    pub questions: Arc<Questions>,
    /// What went wrong when.
    pub log: Arc<Log>,
    /// What came of it.
    pub tally: Arc<Tally>,
}

/// A session, and what it holds for.
struct Session {
    connection: Connection,
    /// The scheduler that it was opened on.
    epoch: u64,
}

/// Asks until `stop`; the last question is finished.
pub async fn run(shared: Shared, seed: u64, number: u64, stop: CancellationToken) {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (mut mode, mut session) = (MODES[number as usize % MODES.len()], None::<Session>);
    while !stop.is_cancelled() {
        if random.random_range(0..100) < CHANGE_PERCENT {
            (mode, session) = (MODES[random.random_range(0..MODES.len())], None);
        }
        let question = shared.questions.draw(&mut random);
        let current = session.take().filter(|session| session.epoch == shared.cluster.epoch());
        let Some(mut current) = (match current {
            Some(current) => Some(current),
            None => enter(&shared, mode).await,
        }) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if ask(&shared, mode, question, &mut current.connection).await {
            session = Some(current);
        }
    }
}

/// A new session, if the scheduler gives one; why not is judged.
async fn enter(shared: &Shared, mode: &str) -> Option<Session> {
    let (began, epoch) = (Instant::now(), shared.cluster.epoch());
    match tokio::time::timeout(OPEN, open(&shared.cluster.url(), mode)).await {
        Ok(Ok(connection)) => return Some(Session { connection, epoch }),
        Ok(Err(error)) => match judge(&error, &shared.log.since(began)) {
            Ok(code) => shared.tally.count(mode, &format!("no session: {code}")),
            Err(why) => shared.tally.fail(&shared.log, format!("no session in mode {mode}: {why}")),
        },
        Err(_) => shared.tally.fail(&shared.log, format!("HUNG: no session in mode {mode} after {OPEN:?}")),
    }
    None
}

/// A session in which every query runs in one mode.
pub async fn open(url: &str, mode: &str) -> Result<Connection, Error> {
    let mut connection = Connection::connect(url).await?;
    for statement in [
        format!("set execution_mode = '{mode}'"),
        format!("set query_timeout = '{QUERY_TIMEOUT_S}s'"),
        // At this scale one executor would else do all of a query.
        "set split_bytes = 16384".to_string(),
        "use tpch".to_string(),
    ] {
        connection.execute(&statement).await?;
    }
    Ok(connection)
}

/// Asks and judges. Whether the session is still good.
async fn ask(shared: &Shared, mode: &str, question: &Question, connection: &mut Connection) -> bool {
    let (progress, began) = (Progress::default(), Instant::now());
    let answer = tokio::time::timeout(HANGS_AFTER, question.ask(connection, &progress)).await;
    shared.tally.took(began.elapsed());
    let place = || format!("{} in mode {mode}, query {}", question.name, progress.query_id());
    let met = shared.log.since(began);
    match answer {
        Ok(Ok(Ok(()))) => {
            shared.tally.count(mode, "right");
            return true;
        }
        Ok(Ok(Err(wrong))) => {
            shared.tally.fail(&shared.log, format!("WRONG: {}, during {met:?}: {wrong}", place()));
        }
        Ok(Err(error)) => match judge(&error, &met) {
            Ok(code) => {
                let seen = if progress.rows() > 0 { "after rows" } else { "before rows" };
                shared.tally.count(mode, &format!("{code}, {seen}"));
            }
            Err(why) => shared.tally.fail(&shared.log, format!("{}: {why}", place())),
        },
        Err(_) => {
            let rows = progress.rows();
            let what = format!("HUNG: {}, {rows} rows after {HANGS_AFTER:?}, during {met:?}", place());
            shared.tally.fail(&shared.log, what);
        }
    }
    false
}
