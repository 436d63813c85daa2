//! The result: a table for people, JSON for comparison, both with machine and date.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use crate::memory::Memory;
use crate::small::Small;
use crate::{Error, Query, Timed};

/// One whole run.
pub(crate) struct Report {
    /// TPC-H scale factor.
    pub scale: f64,
    /// Timed runs a query.
    pub rounds: usize,
    /// The queries.
    pub queries: Vec<Query>,
    /// The systems.
    pub results: Vec<Timed>,
    /// The small queries.
    pub small: Vec<Small>,
    /// What a server weighs.
    pub memory: Memory,
    /// Where it ran.
    pub machine: String,
}

impl Report {
    /// The report as Markdown: seconds by query and system, sums, and ratios to the peers.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# TPC-H SF{}, best of {}, warm\n\n{}; {}\n\n",
            self.scale,
            self.rounds,
            self.machine,
            today()
        );
        let names: Vec<_> = self.results.iter().map(|timed| timed.system.as_str()).collect();
        let _ = writeln!(text, "| query | {} |", names.join(" | "));
        let _ = writeln!(text, "|---|{}", "---:|".repeat(names.len()));
        for (position, query) in self.queries.iter().enumerate() {
            let cells: Vec<_> = self.results.iter().map(|timed| seconds(timed.best[position])).collect();
            let _ = writeln!(text, "| {} | {} |", query.number, cells.join(" | "));
        }
        let sums: Vec<_> = self.results.iter().map(|timed| seconds(sum(timed))).collect();
        let _ = writeln!(text, "| sum | {} |", sums.join(" | "));
        for peer in self.results.iter().filter(|timed| !timed.system.starts_with("Tarn")) {
            let ratios: Vec<_> = self.results.iter().map(|timed| ratio(sum(timed), sum(peer))).collect();
            let _ = writeln!(text, "| ratio to {} | {} |", peer.system, ratios.join(" | "));
        }
        text.push_str("\nSmall queries through Flight SQL, one connection:\n\n| query | p50 ms | p99 ms |\n|---|---:|---:|\n");
        for small in &self.small {
            let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1000.0);
            let _ = writeln!(text, "| `{}` | {} | {} |", small.sql, ms(small.p50), ms(small.p99));
        }
        let mib = |bytes: u64| bytes >> 20;
        let Memory { at_rest, slow_client, rows } = self.memory;
        let _ = writeln!(
            text,
            "\nMemory of `tarn serve`: {} MiB resident 60 s after start; at most {} MiB while a slow client read {rows} rows of `lineitem`.",
            mib(at_rest),
            mib(slow_client),
        );
        text
    }

    /// Writes both forms into a folder, named after scale and date.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(folder)?;
        let name = format!("tpch-sf{}-{}", self.scale, today());
        std::fs::write(folder.join(format!("{name}.md")), self.markdown())?;
        let systems: Vec<_> = self
            .results
            .iter()
            .map(|timed| serde_json::json!({ "system": timed.system, "seconds": timed.best.iter().map(|best| best.map(|best| best.as_secs_f64())).collect::<Vec<_>>() }))
            .collect();
        let json = serde_json::json!({ "suite": "tpch", "scale": self.scale, "rounds": self.rounds, "machine": self.machine, "date": today(), "systems": systems,
            "rest_bytes": self.memory.at_rest, "slow_client_bytes": self.memory.slow_client });
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(&json)? + "\n")?;
        Ok(())
    }
}

fn sum(timed: &Timed) -> Option<Duration> {
    timed.best.iter().copied().sum()
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("failed".to_string(), |time| format!("{:.3}", time.as_secs_f64()))
}

fn ratio(time: Option<Duration>, peer: Option<Duration>) -> String {
    match (time, peer) {
        (Some(time), Some(peer)) => format!("{:.2}", time.as_secs_f64() / peer.as_secs_f64()),
        _ => "–".to_string(),
    }
}

/// Today as year-month-day.
fn today() -> String {
    chrono::Utc::now().format("%Y-%m-%d").to_string()
}
