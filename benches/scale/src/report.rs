//! The result: a page for people, and JSON with every round, both with machine, day and revision.
//!
//! Efficiency is throughput with N executors over N times that with one. The rule: what was measured is written down
//! also when the run ended early.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::measure::{Measured, Round};
use crate::questions::Question;
use crate::{Error, Limit, STORE_BYTES_A_SECOND, cages, machine};

/// Efficiency that is asked for, by executors.
const BARS: [(usize, f64); 2] = [(2, 0.85), (4, 0.75)];

/// How it was asked for.
#[derive(Serialize)]
pub struct Settings {
    /// Scale of the data.
    pub scale: f64,
    /// Timed rounds.
    pub rounds: usize,
    /// Clients of the dashboard.
    pub clients: usize,
    /// Memory for plans of each process.
    pub memory_mib: u64,
    /// The machine.
    pub machine: String,
    /// Processes that wanted a core in the minute before: nobody but this run should.
    pub load_at_start: String,
    /// The day.
    pub date: String,
    /// The version of the code, where git knows it.
    pub revision: String,
}

impl Settings {
    /// Those of today on this machine.
    pub fn new(scale: f64, rounds: usize, clients: usize, memory_mib: u64) -> Self {
        let git = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
        let revision = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            scale,
            rounds,
            clients,
            memory_mib,
            machine: machine::describe(),
            load_at_start: load.split_whitespace().next().unwrap_or("unknown").to_string(),
            date: chrono::Utc::now().format("%Y-%m-%d").to_string(),
            revision: revision.unwrap_or_default(),
        }
    }

    /// Name of the result's files.
    pub fn name(&self) -> String {
        format!("scale-sf{}-{}", self.scale, self.date)
    }
}

/// One whole run.
pub struct Run {
    /// How it was asked for.
    pub settings: Settings,
    /// What was asked.
    pub questions: Vec<Question>,
    /// What came of it.
    pub measured: Vec<Measured>,
    /// What was left out or went wrong.
    pub faults: Vec<String>,
}

/// One bar.
#[derive(Debug, Serialize)]
struct Verdict {
    bar: String,
    figure: String,
    met: bool,
}

impl Run {
    /// Writes both forms into a folder.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(folder)?;
        let name = self.settings.name();
        std::fs::write(folder.join(format!("{name}.md")), self.markdown())?;
        let json = json!({
            "suite": "scale",
            "settings": self.settings,
            "questions": self.questions,
            "measured": self.measured.iter().map(|measured| self.json(measured)).collect::<Vec<_>>(),
            "verdicts": self.verdicts(),
            "faults": self.faults,
        });
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(&json)? + "\n")?;
        Ok(())
    }

    fn json(&self, measured: &Measured) -> serde_json::Value {
        let efficiency = self.efficiency(measured);
        json!({
            "limit": measured.limit,
            "question": self.questions[measured.question].name,
            "executors": measured.executors,
            "best_seconds": measured.best().seconds,
            "median_seconds": measured.median_seconds(),
            "queries_per_minute": self.per_minute(measured),
            "efficiency_best": efficiency.map(|(best, _)| best),
            "efficiency_median": efficiency.map(|(_, median)| median),
            "rounds": measured.rounds,
        })
    }

    /// For people, and for the repository.
    pub fn markdown(&self) -> String {
        let Settings { scale, rounds, clients, memory_mib, machine, load_at_start, date, revision } =
            &self.settings;
        let mut text = format!(
            "# Scale-out, scale {scale}, best of {rounds}\n\n{machine}; {date}; revision {revision}; load at start \
             {load_at_start}; {memory_mib} MiB of memory for plans each; pipelined; dashboard of {clients} clients.\n\n\
             CPU-bound: {} of every {} ms of one core for each executor, everything else on the other cores. \
             Store-bound: {} MB/s for each executor. Efficiency: throughput over executors times that of one, of the \
             best rounds and of the medians. Of the best round: MB read and processor seconds of all executors, with \
             the most of one over the mean, and processor seconds of the scheduler and of clients with the store. All \
             answers were the same.\n",
            cages::QUOTA_US / 1_000,
            cages::PERIOD_US / 1_000,
            STORE_BYTES_A_SECOND / 1_000_000,
        );
        for fault in &self.faults {
            let _ = writeln!(text, "\nTHE RUN IS NOT WHOLE: {fault}");
        }
        text.push_str("\n## Bars\n\n| bar | figure | |\n|---|---|---|\n");
        for Verdict { bar, figure, met } in self.verdicts() {
            let _ = writeln!(text, "| {bar} | {figure} | {} |", if met { "met" } else { "NOT MET" });
        }
        for limit in [Limit::Cpu, Limit::Store] {
            self.table(limit, &mut text);
        }
        text
    }

    fn table(&self, limit: Limit, text: &mut String) {
        let all: Vec<_> = self.measured.iter().filter(|measured| measured.limit == limit).collect();
        if all.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n## {}\n\n| question | executors | best s | median s | queries/min | efficiency | of medians | MB read | \
             most/mean | CPU s | most/mean | scheduler s | clients, store s |\n|---|{}",
            limit.describe(),
            "---:|".repeat(12)
        );
        for (number, question) in self.questions.iter().enumerate() {
            for measured in all.iter().filter(|measured| measured.question == number) {
                let best = measured.best();
                let efficiency = match self.efficiency(measured) {
                    Some((best, median)) => format!("{best:.2} | {median:.2}"),
                    None => "– | –".to_string(),
                };
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.3} | {:.3} | {:.1} | {efficiency} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                    question.name,
                    measured.executors,
                    best.seconds,
                    measured.median_seconds(),
                    self.per_minute(measured),
                    read_megabytes(best).iter().sum::<f64>(),
                    most_over_mean(&read_megabytes(best)),
                    best.cpu_seconds.iter().sum::<f64>(),
                    most_over_mean(&best.cpu_seconds),
                    best.scheduler_cpu_seconds,
                    best.bench_cpu_seconds,
                );
            }
        }
    }

    fn per_minute(&self, measured: &Measured) -> f64 {
        self.questions[measured.question].queries.len() as f64 * 60.0 / measured.best().seconds
    }

    /// Of the best rounds and of the medians, against one executor.
    fn efficiency(&self, measured: &Measured) -> Option<(f64, f64)> {
        let one = self.measured.iter().find(|one| {
            one.executors == 1 && one.limit == measured.limit && one.question == measured.question
        })?;
        let of = |one: f64, several: f64| one / (measured.executors as f64 * several);
        Some((
            of(one.best().seconds, measured.best().seconds),
            of(one.median_seconds(), measured.median_seconds()),
        ))
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let bars = self.measured.iter().filter_map(|measured| {
            let (_, least) = BARS.into_iter().find(|(executors, _)| *executors == measured.executors)?;
            let (best, median) = self.efficiency(measured)?;
            let question = self.questions[measured.question].name;
            let limit = measured.limit.describe();
            Some(Verdict {
                bar: format!(
                    "{limit}, {question}: at least {least} of ideal with {} executors",
                    measured.executors
                ),
                figure: format!("{best:.2} (of medians {median:.2})"),
                met: best >= least,
            })
        });
        bars.collect()
    }
}

fn read_megabytes(round: &Round) -> Vec<f64> {
    round.read_bytes.iter().map(|bytes| *bytes as f64 / 1e6).collect()
}

/// How much more than a fair share the busiest had; its inverse is the best efficiency that such shares allow.
fn most_over_mean(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let most = values.iter().copied().fold(0.0, f64::max);
    if sum > 0.0 { most * values.len() as f64 / sum } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: [(usize, f64); 3]) -> Run {
        let measured = seconds.map(|(executors, seconds)| Measured {
            limit: Limit::Store,
            executors,
            question: 0,
            rounds: vec![Round {
                seconds,
                read_bytes: vec![3_000_000, 1_000_000],
                cpu_seconds: vec![1.0],
                scheduler_cpu_seconds: 0.0,
                bench_cpu_seconds: 0.0,
            }],
        });
        Run {
            settings: Settings::new(1.0, 1, 1, 1),
            questions: crate::questions::all(1),
            measured: measured.into(),
            faults: Vec::new(),
        }
    }

    #[test]
    fn each_line_has_its_verdict() {
        let run = run([(1, 8.0), (2, 4.4), (4, 3.0)]);
        let met: Vec<_> = run.verdicts().iter().map(|verdict| verdict.met).collect();
        assert_eq!(met, [true, false]);
        assert!(
            run.markdown().contains("| 2 | 4.400 | 4.400 | 13.6 | 0.91 | 0.91 | 4.0 | 1.50 |"),
            "{}",
            run.markdown()
        );
    }
}
