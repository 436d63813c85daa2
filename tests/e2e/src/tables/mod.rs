//! Tables that other engines wrote, with the answers that those engines gave: the same rows in every setting.
//!
//! ```text
//! tests/fixtures/answers ──> answer  ─┐
//!        settings: a pairwise cover ──┼──> one cluster a setting, every query of every table, compared
//!                   Arrow ──> cell  ──┘
//! ```
//!
//! Prints `N tables, M queries, S settings, 0 differences`. All settings instead of the cover:
//! `TARN_TABLES=full cargo test --workspace --test e2e tables:: -- --nocapture`; only tables whose name contains
//! a text: `TARN_TABLES_ONLY=deletes.`.
//!
//! The rule: a wrong row is never acceptable. What Tarn refuses for now stands in tests/fixtures/refusals.txt, and
//! such a table must answer rightly or with `not_supported`; one that answers everything must leave the list. So must
//! a query that is known to be answered wrongly, once it is answered rightly.

mod answer;
mod cell;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tarn_client::Connection;
use tarn_harness::{Cluster, fixtures, run_within};

use self::answer::{Question, Table};
use self::settings::Setting;
use crate::rows::describe;

/// Sessions that ask at once.
const SESSIONS: usize = 3;
/// Differences that are printed.
const SHOWN_MAX: usize = 400;

#[test]
fn every_table_has_the_rows_that_its_writer_says() {
    let settings = settings::chosen();
    // A debug build on two cores that may be busy; a query that hangs is ended by its own timeout.
    let limit = Duration::from_secs(900 * settings.len() as u64);
    run_within(limit, check(settings));
}

async fn check(settings: Vec<Setting>) {
    let only = std::env::var("TARN_TABLES_ONLY").unwrap_or_default();
    let tables: Vec<Table> =
        answer::tables().into_iter().filter(|table| table.name.contains(&only)).collect();
    let queries: usize = tables.iter().map(|table| table.questions.len()).sum();
    let allowed = refusals();
    let mut outcome = Outcome::default();
    for setting in &settings {
        let began = Instant::now();
        outcome.add(run_in(setting, &tables).await);
        println!("{setting}: {:.1} s", began.elapsed().as_secs_f64());
    }
    outcome.judge(&allowed, only.is_empty());
    println!(
        "{} tables, {queries} queries, {} settings, {} differences",
        tables.len(),
        settings.len(),
        outcome.differences.len()
    );
    println!(
        "{} queries refused, {} known to be answered wrongly",
        outcome.refused.len(),
        outcome.wrong.len()
    );
    assert!(outcome.differences.is_empty(), "{}", outcome.report());
}

/// The tables, or queries of tables, that may be refused: `table` or `table: query`; and those that are known to be
/// answered wrongly, as `wrong table: query`.
fn refusals() -> BTreeSet<String> {
    let text = std::fs::read_to_string(fixtures::folder().join("refusals.txt")).unwrap();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_string).collect()
}

/// What was seen.
#[derive(Default)]
struct Outcome {
    differences: Vec<String>,
    /// Wrong answers by table and query: with setting and fault.
    wrong: BTreeMap<(String, String), String>,
    /// Refusals by table and query: with setting and message.
    refused: BTreeMap<(String, String), String>,
    /// Tables and queries that were asked.
    asked: BTreeSet<(String, String)>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.differences.extend(other.differences);
        self.wrong.extend(other.wrong);
        self.refused.extend(other.refused);
        self.asked.extend(other.asked);
    }

    /// Turns refusals that are not allowed, and allowances that are not needed, into differences.
    fn judge(&mut self, allowed: &BTreeSet<String>, all: bool) {
        let mut used = BTreeSet::new();
        for ((table, sql), message) in &self.refused {
            let line = format!("{table}: {sql}");
            match [table, &line].into_iter().find(|name| allowed.contains(*name)) {
                Some(name) => drop(used.insert(name.clone())),
                None => self.differences.push(format!("{line}\n    {message}")),
            }
        }
        for ((table, sql), fault) in &self.wrong {
            let line = format!("wrong {table}: {sql}");
            match allowed.contains(&line) {
                true => drop(used.insert(line)),
                false => self.differences.push(format!("{line}\n    {fault}")),
            }
        }
        let known = |line: &String| {
            let line = line.strip_prefix("wrong ").unwrap_or(line);
            self.asked.iter().any(|(table, sql)| line == table || *line == format!("{table}: {sql}"))
        };
        for line in allowed.difference(&used).filter(|line| all || known(line)) {
            self.differences.push(format!("refusals.txt: this is answered rightly now, remove it: {line}"));
        }
    }

    fn report(&self) -> String {
        let mut report = format!("{} differences:\n", self.differences.len());
        for difference in self.differences.iter().take(SHOWN_MAX) {
            let _ = writeln!(report, "  {difference}");
        }
        report
    }
}

/// Every query of every table, on a cluster of its own.
async fn run_in(setting: &Setting, tables: &[Table]) -> Outcome {
    let mut data = fixtures::data(&fixtures::all()).await;
    setting.configure(&mut data.config);
    let cluster = match setting.executors {
        0 => Cluster::one_process(&data).await,
        executors => Cluster::distributed(&data, executors).await,
    };
    let outcomes = futures::stream::iter(tables).map(|table| {
        let cluster = &cluster;
        async move {
            let mut connection = cluster.connect().await;
            let mut outcome = Outcome::default();
            for question in &table.questions {
                ask(&mut connection, setting, table, question, &mut outcome).await;
            }
            outcome
        }
    });
    let outcomes: Vec<Outcome> = outcomes.buffer_unordered(SESSIONS).collect().await;
    cluster.stop().await;
    outcomes.into_iter().fold(Outcome::default(), |mut all, one| {
        all.add(one);
        all
    })
}

async fn ask(
    connection: &mut Connection,
    setting: &Setting,
    table: &Table,
    question: &Question,
    outcome: &mut Outcome,
) {
    let sql = question.sql_of(&table.name);
    let key = (table.name.clone(), question.sql.clone());
    outcome.asked.insert(key.clone());
    for _ in 0..if setting.warm { 2 } else { 1 } {
        let answered = match connection.query(&sql).await {
            Ok(stream) => cell::collect(stream).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(result) => {
                if let Err(fault) = question.compare(&result) {
                    outcome.wrong.insert(key, format!("[{setting}] {fault}"));
                    return;
                }
            }
            Err(error) => {
                let message = describe(&error);
                // A metadata column that Tarn does not have is a name that is not found.
                let code = error.refusal().and_then(|refusal| refusal.code.clone()).unwrap_or_default();
                if code == "not_supported" || (code == "not_found" && message.contains("column \"_")) {
                    outcome.refused.insert(key, format!("[{setting}] {message}"));
                } else {
                    outcome
                        .differences
                        .push(format!("FAILED {}: {}\n    [{setting}] {message}", key.0, key.1));
                }
                return;
            }
        }
    }
}
