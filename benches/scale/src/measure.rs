//! Rounds of a question, and what each took of whom.
//!
//! A round lasts from the first query sent to the last row read. Beside the time it has the bytes that went through
//! each executor's door and the processor time that each process used: when throughput does not grow, these say
//! whether the work was uneven, or more, or waited for another. The rule: every answer is compared, with the first
//! that was given by however many executors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use serde::Serialize;
use tarn_client::Connection;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::digest::Digest;
use crate::questions::Question;
use crate::server::Cluster;
use crate::store::Store;
use crate::{Error, Limit};

/// What is measured.
const MODE: &str = "pipelined";

/// The answers so far, by question and query.
#[derive(Default)]
pub struct Answers(BTreeMap<(usize, usize), Digest>);

/// A question to a cluster.
pub struct Asked<'a> {
    /// Whom.
    pub cluster: &'a Cluster,
    /// Where its executors read.
    pub store: &'a Store,
    /// What.
    pub question: &'a Question,
    /// Its place among all.
    pub number: usize,
    /// How long one query may take.
    pub deadline: Duration,
}

/// One round.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// From the first query to the last row.
    pub seconds: f64,
    /// Bytes read from the store, by executor.
    pub read_bytes: Vec<u64>,
    /// Processor seconds, by executor.
    pub cpu_seconds: Vec<f64>,
    /// Processor seconds of the scheduler.
    pub scheduler_cpu_seconds: f64,
    /// Processor seconds of clients and store.
    pub bench_cpu_seconds: f64,
}

/// The rounds of one question under one limit with so many executors.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What limited them.
    pub limit: Limit,
    /// How many.
    pub executors: usize,
    /// The question, by its place among all.
    pub question: usize,
    /// At least one.
    pub rounds: Vec<Round>,
}

impl Measured {
    /// The fastest round.
    pub fn best(&self) -> &Round {
        let fastest = self.rounds.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds));
        fastest.expect("a question that was measured has rounds")
    }

    /// The median time; of two the longer.
    pub fn median_seconds(&self) -> f64 {
        let mut seconds: Vec<_> = self.rounds.iter().map(|round| round.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

impl Asked<'_> {
    /// Runs one round that does not count, and then the others.
    pub async fn rounds(&self, count: usize, answers: &mut Answers) -> Result<Vec<Round>, Error> {
        let mut clients = Vec::with_capacity(self.question.clients);
        for _ in 0..self.question.clients {
            let mut client = Connection::connect(&self.cluster.url).await?;
            client.update(&format!("set execution_mode = {MODE}")).await?;
            clients.push(client);
        }
        let mut rounds = Vec::with_capacity(count);
        for round in 0..=count {
            let measured = self.round(&clients, answers).await?;
            if round > 0 {
                rounds.push(measured);
            }
        }
        Ok(rounds)
    }

    async fn round(&self, clients: &[Connection], answers: &mut Answers) -> Result<Round, Error> {
        let read = || self.store.doors.iter().map(|door| door.bytes()).collect::<Vec<_>>();
        let (read_before, used_before) = (read(), self.cluster.used()?);
        let began = Instant::now();
        let given = self.ask_all(clients).await?;
        let seconds = began.elapsed().as_secs_f64();
        let (read_after, used_after) = (read(), self.cluster.used()?);
        self.check(clients, given, answers).await?;
        let cpu = used_after.executors.iter().zip(&used_before.executors);
        Ok(Round {
            seconds,
            read_bytes: read_after.iter().zip(&read_before).map(|(after, before)| after - before).collect(),
            cpu_seconds: cpu.map(|(after, before)| after - before).collect(),
            scheduler_cpu_seconds: used_after.scheduler - used_before.scheduler,
            bench_cpu_seconds: used_after.here - used_before.here,
        })
    }

    /// Every client takes the next query until there is none.
    async fn ask_all(&self, clients: &[Connection]) -> Result<Vec<Given>, Error> {
        let next = Arc::new(AtomicUsize::new(0));
        let queries: Arc<[String]> = self.question.queries.clone().into();
        let mut asking = JoinSet::new();
        for client in clients {
            let (mut client, deadline) = (client.clone(), self.deadline);
            let (next, queries) = (Arc::clone(&next), Arc::clone(&queries));
            asking.spawn(async move {
                let mut given = Vec::new();
                loop {
                    let query = next.fetch_add(1, Ordering::Relaxed);
                    let Some(sql) = queries.get(query) else { return Ok::<_, Error>(given) };
                    // The stream is dropped at the deadline, and so the server stops the work.
                    let answer = timeout(deadline, ask(&mut client, sql)).await;
                    let late = |_| format!("no answer after {} s to: {sql}", deadline.as_secs());
                    let (digest, id) =
                        answer.map_err(late)?.map_err(|error| format!("{error}; query: {sql}"))?;
                    given.push(Given { query, digest, id });
                }
            });
        }
        let mut all = Vec::with_capacity(queries.len());
        while let Some(given) = asking.join_next().await {
            all.extend(given??);
        }
        Ok(all)
    }

    /// Compares answers, and when they are the first of this cluster looks how they were made.
    async fn check(
        &self,
        clients: &[Connection],
        given: Vec<Given>,
        answers: &mut Answers,
    ) -> Result<(), Error> {
        let mut client = clients.first().ok_or("nobody asks")?.clone();
        for Given { query, digest, id } in given {
            let first = *answers.0.entry((self.number, query)).or_insert(digest);
            if first != digest {
                let sql = &self.question.queries[query];
                return Err(format!("wrong: {digest}, but before {first}; query: {sql}").into());
            }
            let id = id.ok_or("an answer without the id of its query")?;
            let how = format!("select mode from system.queries where query_id = '{id}'");
            let mode = client.scalar(&how).await?.unwrap_or_default();
            if mode != MODE {
                return Err(format!("query {id} ran in mode \"{mode}\", not {MODE}").into());
            }
        }
        Ok(())
    }
}

/// An answer.
struct Given {
    query: usize,
    digest: Digest,
    id: Option<String>,
}

async fn ask(client: &mut Connection, sql: &str) -> Result<(Digest, Option<String>), Error> {
    let mut rows = client.query(sql).await?;
    let id = rows.query_id().map(str::to_string);
    let mut digest = Digest::default();
    while let Some(batch) = rows.try_next().await? {
        digest.add(&batch)?;
    }
    Ok((digest, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_and_median_are_of_the_rounds() {
        let round = |seconds| Round {
            seconds,
            read_bytes: vec![],
            cpu_seconds: vec![],
            scheduler_cpu_seconds: 0.0,
            bench_cpu_seconds: 0.0,
        };
        let rounds = [3.0, 1.0, 2.0].map(round).into();
        let measured = Measured { limit: Limit::Cpu, executors: 1, question: 0, rounds };
        assert_eq!((measured.best().seconds, measured.median_seconds()), (1.0, 2.0));
    }
}
