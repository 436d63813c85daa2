//! The result: a page for people, a page with plots, JSON with everything, and files beside them.
//!
//! - [`verdict`]: each bar of the requirement, with the figure
//! - [`table`]: tables that become Markdown or HTML; [`page`]: the documents made of them
//! - [`plot`]: charts as PNG and SVG
//!
//! The rule: what was measured is written down also when the run ended early.

pub mod page;
pub mod plot;
pub mod table;
pub mod verdict;

use std::path::Path;

use serde_json::{Value, json};

use crate::alone::Alone;
use crate::analyst::Outcome;
use crate::mix::Query;
use crate::numbers::{self, Numbers, Phase};
use crate::{Error, machine};

/// How it was asked for.
#[derive(serde::Serialize)]
pub struct Settings {
    /// Scale of both schemas.
    pub scale: f64,
    /// Seed of the data and of all orders.
    pub seed: u64,
    /// Memory given to each server.
    pub memory_bytes: u64,
    /// Executors; none is everything in one process.
    pub executors: usize,
    /// The machine.
    pub machine: String,
    /// The day.
    pub date: String,
    /// The version of the code, where git knows it.
    pub revision: String,
}

impl Settings {
    /// Those of today on this machine.
    pub fn new(scale: f64, seed: u64, memory_bytes: u64, executors: usize) -> Self {
        let git = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
        let revision = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
        Self {
            scale,
            seed,
            memory_bytes,
            executors,
            machine: machine::describe(),
            date: chrono::Utc::now().format("%Y-%m-%d").to_string(),
            revision: revision.unwrap_or_default(),
        }
    }

    /// Name of the result's files.
    pub fn name(&self) -> String {
        format!("load-sf{}-{}", self.scale, self.date)
    }
}

/// One whole run.
pub struct Run {
    /// How it was asked for.
    pub settings: Settings,
    /// The mix.
    pub queries: Vec<Query>,
    /// Times alone.
    pub alone: Vec<Alone>,
    /// The phases.
    pub phases: Vec<Phase>,
    /// Why it ended before its end.
    pub ended: Option<String>,
}

/// A phase with what it comes to.
pub struct Measured<'a> {
    /// The phase.
    pub phase: &'a Phase,
    /// Its numbers.
    pub numbers: Numbers,
}

impl Run {
    /// Writes everything into a folder; returns the page for people.
    pub fn write(&self, folder: &Path) -> Result<String, Error> {
        let measured = self
            .phases
            .iter()
            .map(|phase| Ok(Measured { phase, numbers: Numbers::of(phase, &self.queries, &self.alone)? }));
        let measured = measured.collect::<Result<Vec<_>, Error>>()?;
        let verdicts = verdict::all(&measured);
        let page = page::Page { run: self, measured: &measured, verdicts: &verdicts };
        let name = self.settings.name();
        let beside = folder.join(&name);
        std::fs::create_dir_all(&beside)?;
        let markdown = page.markdown();
        std::fs::write(folder.join(format!("{name}.md")), &markdown)?;
        let json = json!({
            "settings": self.settings,
            "queries": self.queries,
            "alone": self.alone,
            "phases": measured.iter().map(Measured::json).collect::<Vec<_>>(),
            "verdicts": verdicts,
            "ended": self.ended,
        });
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(&json)? + "\n")?;
        let charts = plot::charts(&measured, &self.queries, &self.alone);
        let mut drawings = Vec::new();
        for chart in &charts {
            chart.png(&beside.join(format!("{}.png", chart.name)))?;
            drawings.push(chart.svg()?);
        }
        std::fs::write(folder.join(format!("{name}.html")), page.html(&drawings))?;
        for one in &measured {
            one.write_beside(&beside, &self.queries)?;
        }
        Ok(markdown)
    }
}

impl Measured<'_> {
    /// Such as `closed-20-tarn`.
    pub fn name(&self) -> String {
        let system = self.phase.system.to_lowercase().replace(' ', "-");
        format!("{}-{}-{system}", self.phase.name, self.phase.load.analysts)
    }

    fn json(&self) -> Value {
        let Phase { name, system, load, warm, weight, .. } = self.phase;
        json!({
            "phase": name,
            "system": system,
            "analysts": load.analysts,
            "seconds": load.length.as_secs_f64(),
            "warm_seconds": warm.as_secs_f64(),
            "rate_per_minute": load.rate.map(|rate| rate * 60.0),
            "weight": weight,
            "numbers": self.numbers.json(),
        })
    }

    /// Histograms and samples.
    fn write_beside(&self, folder: &Path, queries: &[Query]) -> Result<(), Error> {
        let histograms = [
            ("dashboard", &self.numbers.dashboard.latency),
            ("adhoc", &self.numbers.adhoc.latency),
            ("select-1", &self.numbers.probe),
        ];
        for (kind, histogram) in histograms {
            let path = folder.join(format!("{}-{kind}.hgrm", self.name()));
            std::fs::write(path, numbers::hgrm(histogram, 1_000.0))?;
        }
        let mut text = "analyst,query,due_s,latency_s,outcome\n".to_string();
        for sample in &self.phase.seen.samples {
            let outcome = match &sample.outcome {
                Outcome::Right => "right",
                Outcome::Wrong(_) => "wrong",
                Outcome::Failed(failure) => &failure.code,
                Outcome::Cut => "cut",
            };
            let (due, latency) = (sample.due.as_secs_f64(), numbers::latency(sample).as_secs_f64());
            let query = &queries[sample.query].name;
            text += &format!("{},{query},{due:.3},{latency:.6},{outcome}\n", sample.analyst);
        }
        std::fs::write(folder.join(format!("{}.csv", self.name())), text)?;
        Ok(())
    }
}
