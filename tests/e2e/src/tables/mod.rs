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
//! After a change that makes Tarn read more, `TARN_TABLES_ACCEPT=1` takes lines that are not needed any more out of the
//! list, and adds what is refused or fails now: read the difference before you commit it. Wrong rows it never adds.
//!
//! The rule: a wrong row is never acceptable. What Tarn refuses for now stands in tests/fixtures/refusals.txt, and
//! such a table must answer rightly or with `not_supported`; one that answers everything must leave the list. So must
//! a query that is known to be answered wrongly, once it is answered rightly.

mod answer;
mod cell;
mod settings;
mod statistics;

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
    let mut outcome = Outcome::default();
    for setting in &settings {
        let began = Instant::now();
        let seen = run_in(setting, &tables).await;
        let (differences, seconds) = (seen.wrong.len() + seen.failed.len(), began.elapsed().as_secs_f64());
        println!("{setting}: {differences} differences, {seconds:.1} s");
        // At once: all settings take more than an hour.
        for ((table, sql), fault) in seen.wrong.iter().chain(&seen.failed).take(SHOWN_MAX) {
            println!("  {table}: {sql}\n    {fault}");
        }
        outcome.add(seen);
    }
    if std::env::var_os("TARN_TABLES_ACCEPT").is_some() {
        outcome.accept();
    }
    outcome.judge(&refusals(), only.is_empty());
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

/// The tables, or queries of tables, that may be refused: `table` or `table: query`; those that are known to be
/// answered wrongly, as `wrong table: query`; and those that fail by another error, as `fails table`.
fn refusals() -> BTreeSet<String> {
    let text = std::fs::read_to_string(fixtures::folder().join("refusals.txt")).unwrap();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_string).collect()
}

/// Whether a line of the list speaks of a query.
fn is_about(line: &str, (table, sql): &(String, String)) -> bool {
    let line = line.strip_prefix("wrong ").or_else(|| line.strip_prefix("fails ")).unwrap_or(line);
    line == table || line == format!("{table}: {sql}")
}

/// What was seen.
#[derive(Default)]
struct Outcome {
    differences: Vec<String>,
    /// Wrong answers by table and query: with setting and fault.
    wrong: BTreeMap<(String, String), String>,
    /// Errors of another name than a refusal's.
    failed: BTreeMap<(String, String), String>,
    /// Refusals by table and query: with setting and message.
    refused: BTreeMap<(String, String), String>,
    /// Tables and queries that were asked.
    asked: BTreeSet<(String, String)>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.differences.extend(other.differences);
        self.wrong.extend(other.wrong);
        self.failed.extend(other.failed);
        self.refused.extend(other.refused);
        self.asked.extend(other.asked);
    }

    /// Turns refusals that are not allowed, and allowances that are not needed, into differences.
    fn judge(&mut self, allowed: &BTreeSet<String>, all: bool) {
        for (prefix, seen) in [("", &self.refused), ("wrong ", &self.wrong), ("fails ", &self.failed)] {
            for ((table, sql), message) in seen {
                let (whole, one) = (format!("{prefix}{table}"), format!("{prefix}{table}: {sql}"));
                if !allowed.contains(&whole) && !allowed.contains(&one) {
                    self.differences.push(format!("{one}\n    {message}"));
                }
            }
        }
        for line in allowed {
            let asked = self.asked.iter().any(|key| is_about(line, key));
            if asked && self.is_stale(line) {
                self.differences
                    .push(format!("refusals.txt: this is answered rightly now, remove it: {line}"));
            } else if all && !asked {
                self.differences.push(format!("refusals.txt: there is no such query: {line}"));
            }
        }
    }

    /// Whether nothing that was seen needs a line of the list.
    fn is_stale(&self, line: &str) -> bool {
        let seen = match line.split_once(' ') {
            Some(("wrong", _)) => &self.wrong,
            Some(("fails", _)) => &self.failed,
            _ => &self.refused,
        };
        !seen.keys().any(|key| is_about(line, key))
    }

    /// Rewrites the list: what is stale goes, what is refused or fails comes, query by query.
    fn accept(&self) {
        let path = fixtures::folder().join("refusals.txt");
        let text = std::fs::read_to_string(&path).unwrap();
        let asked = |line: &str| self.asked.iter().any(|key| is_about(line, key));
        let mut lines: Vec<String> =
            text.lines().filter(|line| !(asked(line) && self.is_stale(line))).map(str::to_string).collect();
        for (prefix, seen) in [("", &self.refused), ("fails ", &self.failed)] {
            for ((table, sql), message) in seen {
                let (whole, one) = (format!("{prefix}{table}"), format!("{prefix}{table}: {sql}"));
                if !lines.contains(&whole) && !lines.contains(&one) {
                    lines.push(format!("# {message}"));
                    lines.push(one);
                }
            }
        }
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
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
                let refused =
                    code == "not_supported" || (code == "not_found" && message.contains("column \"_"));
                let errors = if refused { &mut outcome.refused } else { &mut outcome.failed };
                errors.insert(key, format!("[{setting}] {message}"));
                return;
            }
        }
    }
}
