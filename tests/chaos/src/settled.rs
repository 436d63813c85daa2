//! After the last fault: everybody is a member again, and every question is answered in every mode, without any error.
//!
//! The rule: nothing is tried twice here; a cluster that is healed answers.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Error;
use crate::client::{self, HANGS_AFTER, MODES, Shared};
use crate::rows::{self, Progress};

/// How long executors may take to be members again: one that waits between attempts waits up to ten seconds.
const MEMBERS: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL: Duration = Duration::from_millis(250);
/// How long it may take to look.
const LOOK: Duration = Duration::from_secs(10);

/// Waits until all executors are members: how long it took.
pub async fn members(shared: &Shared) -> Result<Duration, Error> {
    let (began, wanted) = (Instant::now(), shared.cluster.executors.len().to_string());
    let mut seen = "nothing".to_string();
    while began.elapsed() < MEMBERS {
        let look = async {
            let mut connection = client::open(&shared.cluster.url(), "local").await?;
            let sql = "select count(*), count(*) filter (where state = 'alive') from system.executors";
            rows::texts(&mut connection, sql).await
        };
        match tokio::time::timeout(LOOK, look).await {
            Ok(Ok(counts)) if counts == [[wanted.clone(), wanted.clone()]] => return Ok(began.elapsed()),
            Ok(Ok(counts)) => seen = format!("{counts:?}"),
            Ok(Err(error)) => seen = error.to_string(),
            Err(_) => seen = "no answer".to_string(),
        }
        tokio::time::sleep(POLL).await;
    }
    Err(format!("{wanted} executors should be members after {MEMBERS:?}, seen are {seen}").into())
}

/// Asks everything in every mode, the modes side by side.
pub async fn questions(shared: &Shared) {
    let mut asking = JoinSet::new();
    for mode in MODES {
        asking.spawn(in_mode(shared.clone(), mode));
    }
    asking.join_all().await;
}

async fn in_mode(shared: Shared, mode: &'static str) {
    let mut session = match client::open(&shared.cluster.url(), mode).await {
        Ok(session) => session,
        Err(error) => {
            return shared
                .tally
                .fail(&shared.log, format!("after all faults, no session in mode {mode}: {error}"));
        }
    };
    for question in shared.questions.all() {
        let (progress, began) = (Progress::default(), Instant::now());
        let answer = tokio::time::timeout(HANGS_AFTER, question.ask(&mut session, &progress)).await;
        let fault = match answer {
            Ok(Ok(Ok(()))) => {
                shared.tally.count(mode, "right, after all faults");
                continue;
            }
            Ok(Ok(Err(wrong))) => format!("WRONG: {wrong}"),
            Ok(Err(error)) => {
                let code = error.refusal().and_then(|refusal| refusal.code.clone()).unwrap_or_default();
                format!("{code}: {error}")
            }
            Err(_) => format!("HUNG after {:?}", began.elapsed()),
        };
        let (name, id) = (&question.name, progress.query_id());
        shared
            .tally
            .fail(&shared.log, format!("after all faults, {name} in mode {mode}, query {id}: {fault}"));
    }
}
