//! The two documents: Markdown to be committed, and HTML with plots to be looked at. Both have the same blocks.

use super::table::{Table, escaped};
use super::verdict::Verdict;
use super::{Measured, Run};
use crate::numbers::Times;

/// What the documents are made of.
pub struct Page<'a> {
    /// The run.
    pub run: &'a Run,
    /// Its phases with their numbers.
    pub measured: &'a [Measured<'a>],
    /// Its bars.
    pub verdicts: &'a [Verdict],
}

enum Block {
    Heading(String),
    Text(String),
    Table(Table),
    List(Vec<String>),
}

impl Page<'_> {
    /// For people, and for the repository.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n", self.title());
        for block in self.blocks() {
            text.push('\n');
            match block {
                Block::Heading(heading) => text += &format!("## {heading}\n"),
                Block::Text(words) => text += &format!("{words}\n"),
                Block::Table(table) => text += &table.markdown(),
                Block::List(lines) => lines.iter().for_each(|line| text += &format!("- {line}\n")),
            }
        }
        text
    }

    /// One page that needs nothing else, with drawings as SVG.
    pub fn html(&self, drawings: &[String]) -> String {
        let title = escaped(&self.title());
        let mut text = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n<style>\n\
             body {{ font: 15px/1.5 sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; }}\n\
             table {{ border-collapse: collapse; display: block; overflow-x: auto; }}\n\
             td, th {{ border: 1px solid #ccc; padding: 2px 8px; text-align: left; }}\n\
             .n {{ text-align: right; font-variant-numeric: tabular-nums; }}\n\
             svg {{ max-width: 100%; height: auto; }}\n</style>\n<h1>{title}</h1>\n"
        );
        let mut drawings = Some(drawings);
        for block in self.blocks() {
            match block {
                // The plots stand in front of the first section.
                Block::Heading(heading) => {
                    for drawing in drawings.take().into_iter().flatten() {
                        text += &format!("<figure>{drawing}</figure>\n");
                    }
                    text += &format!("<h2>{}</h2>\n", escaped(&heading));
                }
                Block::Text(words) => text += &format!("<p>{}</p>\n", escaped(&words)),
                Block::Table(table) => text += &table.html(),
                Block::List(lines) => {
                    let lines: String =
                        lines.iter().map(|line| format!("<li>{}</li>\n", escaped(line))).collect();
                    text += &format!("<ul>\n{lines}</ul>\n");
                }
            }
        }
        text + "</html>\n"
    }

    fn title(&self) -> String {
        format!("Many analysts, scale {}", self.run.settings.scale)
    }

    fn blocks(&self) -> Vec<Block> {
        let settings = &self.run.settings;
        let servers = match settings.executors {
            0 => "Tarn all in one process".to_string(),
            1 => "Tarn as a scheduler and an executor".to_string(),
            several => format!("Tarn as a scheduler and {several} executors"),
        };
        let mut blocks = vec![
            Block::Text(format!(
                "{}; {}; {servers}, {} MiB of memory for plans each; seed {}; revision {}.",
                settings.machine,
                settings.date,
                settings.memory_bytes >> 20,
                settings.seed,
                settings.revision,
            )),
            Block::Text(
                "Two thirds dashboard queries, one third ad-hoc; every answer compared with DuckDB's. Times in ms, from \
                 the planned time to the last row. Work: seconds alone of the answered queries, a second. User: mean \
                 slowdown of the worst and the best served, over the median user's."
                    .to_string(),
            ),
        ];
        if let Some(why) = &self.run.ended {
            blocks.push(Block::Text(format!("THE RUN ENDED EARLY: {why}")));
        }
        blocks.push(Block::Heading("Bars".to_string()));
        blocks.push(Block::Table(self.bars()));
        blocks.push(Block::Heading("Phases".to_string()));
        blocks.push(Block::Table(self.phases()));
        blocks.push(Block::Heading("Faults".to_string()));
        blocks.push(Block::List(self.faults()));
        blocks.push(Block::Heading("Queries".to_string()));
        blocks.push(Block::Table(self.queries()));
        blocks
    }

    fn bars(&self) -> Table {
        let mut table = Table::new(3, &["bar", "figure", ""]);
        for verdict in self.verdicts {
            let met = if verdict.met { "met" } else { "NOT MET" };
            table.rows.push(vec![verdict.bar.clone(), verdict.figure.clone(), met.to_string()]);
        }
        table
    }

    fn phases(&self) -> Table {
        let mut table = Table::new(
            2,
            &[
                "phase",
                "system",
                "analysts",
                "s",
                "queries",
                "queries/min",
                "work",
                "errors",
                "wrong",
                "dashboard p50",
                "p95",
                "p99",
                "max",
                "slowdown p50",
                "p95",
                "p99",
                "ad-hoc p50",
                "p95",
                "p99",
                "max",
                "user max",
                "min",
                "SELECT 1 p50",
                "p99",
                "resident MiB",
                "spilled MiB",
            ],
        );
        for Measured { phase, numbers } in self.measured {
            let mut row = vec![
                phase.name.to_string(),
                phase.system.to_string(),
                phase.load.analysts.to_string(),
                format!("{:.0}", phase.load.length.as_secs_f64()),
                numbers.queries.to_string(),
                format!("{:.1}", numbers.per_minute),
                format!("{:.2}", numbers.work),
                numbers.errors_total().to_string(),
                numbers.wrong_total().to_string(),
            ];
            row.extend(latencies(&numbers.dashboard));
            row.extend(
                [0.5, 0.95, 0.99].map(|quantile| format!("{:.2}", numbers.dashboard.slowdown(quantile))),
            );
            row.extend(latencies(&numbers.adhoc));
            let fairness = numbers.fairness();
            row.push(fairness.map_or("–".to_string(), |(_, most, _)| format!("{most:.2}")));
            row.push(fairness.map_or("–".to_string(), |(_, _, least)| format!("{least:.2}")));
            let probe =
                |quantile| format!("{:.1}", numbers.probe.value_at_quantile(quantile) as f64 / 1_000.0);
            row.extend([probe(0.5), probe(0.99)]);
            row.push((phase.weight.resident_bytes >> 20).to_string());
            row.push((phase.weight.spilled_bytes >> 20).to_string());
            table.rows.push(row);
        }
        table
    }

    fn faults(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for alone in &self.run.alone {
            lines.extend(alone.faults.first().map(|fault| format!("alone, {}: {fault}", alone.name)));
        }
        for one in self.measured {
            let name = one.name();
            for (code, errors) in &one.numbers.errors {
                let by_query = errors.by_query.iter().map(|(query, count)| format!("{query} {count}"));
                let (count, by_query) = (errors.count, by_query.collect::<Vec<_>>().join(", "));
                let first = errors.first.join("; ");
                lines.push(format!("{name}: {count} times {code} ({by_query}), first: {first}"));
            }
            for (query, (count, first)) in &one.numbers.wrong {
                lines.push(format!("{name}: {count} wrong answers to {query}, the first of {first}"));
            }
            if one.numbers.cut > 0 {
                lines.push(format!(
                    "{name}: {} queries without an answer long after the phase",
                    one.numbers.cut
                ));
            }
            if one.numbers.probe_faults > 0 {
                lines.push(format!(
                    "{name}: {} times SELECT 1 without the right answer",
                    one.numbers.probe_faults
                ));
            }
        }
        if lines.is_empty() {
            lines.push("none".to_string());
        }
        lines
    }

    fn queries(&self) -> Table {
        let open = self.measured.iter().find(|one| one.phase.name == "open");
        let mut table = Table::new(
            2,
            &[
                "query",
                "kind",
                "alone best",
                "median",
                "spilled MiB",
                "open: answers",
                "p50",
                "p95",
                "p99",
                "slowdown p95",
            ],
        );
        for (query, alone) in self.run.queries.iter().zip(&self.run.alone) {
            let ms = |time: Option<f64>| {
                time.map_or("failed".to_string(), |time| format!("{:.1}", time * 1_000.0))
            };
            let kind = match (query.kind, query.exceeds_memory) {
                (crate::mix::Kind::Dashboard, _) => "dashboard",
                (crate::mix::Kind::AdHoc, false) => "ad-hoc",
                (crate::mix::Kind::AdHoc, true) => "ad-hoc, large",
            };
            let mut row = vec![query.name.clone(), kind.to_string(), ms(alone.best), ms(alone.median)];
            row.push((alone.weight.spilled_bytes >> 20).to_string());
            match open.and_then(|one| one.numbers.by_query.get(&query.name)) {
                None => row.extend(std::iter::repeat_n("–".to_string(), 5)),
                Some(times) => {
                    row.push(times.latency.len().to_string());
                    row.extend(latencies(times).into_iter().take(3));
                    row.push(format!("{:.2}", times.slowdown(0.95)));
                }
            }
            table.rows.push(row);
        }
        table
    }
}

/// p50, p95, p99 and the largest in milliseconds.
fn latencies(times: &Times) -> [String; 4] {
    if times.latency.is_empty() {
        return [(); 4].map(|()| "–".to_string());
    }
    [0.5, 0.95, 0.99, 1.0].map(|quantile| format!("{:.0}", times.seconds(quantile) * 1_000.0))
}
