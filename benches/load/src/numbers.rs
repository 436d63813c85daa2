//! What a phase comes to: rates, percentiles, slowdowns, faults.
//!
//! *Slowdown* is the time of an answer over the median time of its query alone. A rate counts right answers that came
//! between the warm-up and the end; percentiles are of the right answers to what was asked after the warm-up, however
//! late they came. Since a rate depends on which queries happened to be answered, *work* stands beside it: seconds
//! alone of the answered queries, for each second. The rule: errors and wrong answers are never left out, whenever
//! they came.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Error;
use crate::alone::Alone;
use crate::analyst::{Load, Outcome, Sample, Seen};
use crate::mix::{Kind, Query};
use crate::server::Weight;

/// Texts of errors that are kept, of each code.
const TEXTS_MAX: usize = 3;
/// Largest value of a histogram: an hour in microseconds.
const VALUE_MAX: u64 = 3_600_000_000;
/// Slowdowns go into histograms as thousandths.
const THOUSANDTHS: f64 = 1_000.0;

/// One phase as it was seen.
pub struct Phase {
    /// Such as `closed`, `open`.
    pub name: &'static str,
    /// Who was asked.
    pub system: &'static str,
    /// How.
    pub load: Load,
    /// What came earlier does not count in rates and percentiles.
    pub warm: Duration,
    /// What happened.
    pub seen: Seen,
    /// What the server took.
    pub weight: Weight,
}

/// What it comes to.
pub struct Numbers {
    /// Right answers in the window.
    pub queries: u64,
    /// The same a minute.
    pub per_minute: f64,
    /// Seconds alone of these answers, a second.
    pub work: f64,
    /// Errors, by code.
    pub errors: BTreeMap<String, Errors>,
    /// Number and first of wrong answers, by query.
    pub wrong: BTreeMap<String, (u64, String)>,
    /// Queries that were still under way long after the phase.
    pub cut: u64,
    /// Of dashboard queries.
    pub dashboard: Times,
    /// Of ad-hoc queries.
    pub adhoc: Times,
    /// Times of each query.
    pub by_query: BTreeMap<String, Times>,
    /// Mean slowdown of each analyst who got an answer.
    pub users: Vec<f64>,
    /// Of `SELECT 1`, in microseconds.
    pub probe: Histogram<u64>,
    /// Probes without the right answer.
    pub probe_faults: u64,
}

/// Errors of one code.
#[derive(Default, Serialize)]
pub struct Errors {
    /// How many.
    pub count: u64,
    /// How many of each query.
    pub by_query: BTreeMap<String, u64>,
    /// The first texts.
    pub first: Vec<String>,
}

/// Times of answers.
pub struct Times {
    /// In microseconds.
    pub latency: Histogram<u64>,
    /// In thousandths.
    pub slowdown: Histogram<u64>,
}

impl Numbers {
    /// Of one phase.
    pub fn of(phase: &Phase, queries: &[Query], alone: &[Alone]) -> Result<Self, Error> {
        let mut numbers = Self::nothing()?;
        let mut users: BTreeMap<usize, (f64, u64)> = BTreeMap::new();
        for sample in &phase.seen.samples {
            let query = &queries[sample.query];
            let base = alone.get(sample.query).and_then(|alone| alone.median);
            match &sample.outcome {
                Outcome::Right => {}
                Outcome::Wrong(digest) => {
                    let none = || (0, digest.to_string());
                    numbers.wrong.entry(query.name.clone()).or_insert_with(none).0 += 1;
                }
                Outcome::Cut => numbers.cut += 1,
                Outcome::Failed(failure) => {
                    let errors = numbers.errors.entry(failure.code.clone()).or_default();
                    errors.count += 1;
                    *errors.by_query.entry(query.name.clone()).or_default() += 1;
                    let text = format!("{}: {}", query.name, failure.message);
                    if errors.first.len() < TEXTS_MAX && !errors.first.contains(&text) {
                        errors.first.push(text);
                    }
                }
            }
            if !matches!(sample.outcome, Outcome::Right) {
                continue;
            }
            if (phase.warm..=phase.load.length).contains(&sample.ended) {
                numbers.queries += 1;
                numbers.work += base.unwrap_or_default();
            }
            if sample.due < phase.warm {
                continue;
            }
            let times = match query.kind {
                Kind::Dashboard => &mut numbers.dashboard,
                Kind::AdHoc => &mut numbers.adhoc,
            };
            times.add(latency(sample), base);
            if !numbers.by_query.contains_key(&query.name) {
                numbers.by_query.insert(query.name.clone(), Times::nothing()?);
            }
            if let Some(times) = numbers.by_query.get_mut(&query.name) {
                times.add(latency(sample), base);
            }
            if let Some(base) = base {
                let (sum, count) = users.entry(sample.analyst).or_default();
                *sum += latency(sample).as_secs_f64() / base;
                *count += 1;
            }
        }
        let window = (phase.load.length - phase.warm).as_secs_f64();
        numbers.per_minute = numbers.queries as f64 / window * 60.0;
        numbers.work /= window;
        numbers.users = users.values().map(|(sum, count)| sum / *count as f64).collect();
        for probe in &phase.seen.probes {
            numbers.probe.saturating_record(micros(latency(probe)));
            numbers.probe_faults += u64::from(!matches!(probe.outcome, Outcome::Right));
        }
        Ok(numbers)
    }

    fn nothing() -> Result<Self, Error> {
        Ok(Self {
            queries: 0,
            per_minute: 0.0,
            work: 0.0,
            errors: BTreeMap::new(),
            wrong: BTreeMap::new(),
            cut: 0,
            dashboard: Times::nothing()?,
            adhoc: Times::nothing()?,
            by_query: BTreeMap::new(),
            users: Vec::new(),
            probe: histogram()?,
            probe_faults: 0,
        })
    }

    /// Errors of all codes, those cut off among them.
    pub fn errors_total(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum::<u64>() + self.cut
    }

    /// Wrong answers of all queries.
    pub fn wrong_total(&self) -> u64 {
        self.wrong.values().map(|(count, _)| count).sum()
    }

    /// The median user's mean slowdown, and the largest and the smallest as a multiple of it.
    pub fn fairness(&self) -> Option<(f64, f64, f64)> {
        let mut sorted = self.users.clone();
        sorted.sort_by(f64::total_cmp);
        let median = *sorted.get(sorted.len() / 2)?;
        Some((median, sorted.last()? / median, sorted.first()? / median))
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let by_query = self.by_query.iter().map(|(name, times)| (name.clone(), times.json()));
        json!({
            "queries": self.queries,
            "queries_per_minute": self.per_minute,
            "work_seconds_per_second": self.work,
            "errors": self.errors_total(),
            "errors_by_code": self.errors,
            "cut": self.cut,
            "wrong": self.wrong_total(),
            "wrong_by_query": self.wrong,
            "dashboard": self.dashboard.json(),
            "adhoc": self.adhoc.json(),
            "by_query": by_query.collect::<serde_json::Map<_, _>>(),
            "mean_slowdown_by_user": self.users,
            "fairness": self.fairness().map(|(median, most, least)| {
                json!({ "median_user": median, "most_to_median": most, "least_to_median": least })
            }),
            "select_1_ms": percentiles(&self.probe, 1_000.0),
            "select_1_faults": self.probe_faults,
        })
    }
}

impl Times {
    fn nothing() -> Result<Self, Error> {
        Ok(Self { latency: histogram()?, slowdown: histogram()? })
    }

    fn add(&mut self, latency: Duration, base: Option<f64>) {
        self.latency.saturating_record(micros(latency));
        if let Some(base) = base {
            self.slowdown.saturating_record((latency.as_secs_f64() / base * THOUSANDTHS) as u64);
        }
    }

    /// A quantile of the times, in seconds.
    pub fn seconds(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    /// A quantile of the slowdowns.
    pub fn slowdown(&self, quantile: f64) -> f64 {
        self.slowdown.value_at_quantile(quantile) as f64 / THOUSANDTHS
    }

    fn json(&self) -> Value {
        json!({
            "latency_ms": percentiles(&self.latency, 1_000.0),
            "slowdown": percentiles(&self.slowdown, THOUSANDTHS),
        })
    }
}

/// From the planned time to the answer.
pub fn latency(sample: &Sample) -> Duration {
    sample.ended.saturating_sub(sample.due)
}

/// The usual percentiles, divided by `unit`.
fn percentiles(histogram: &Histogram<u64>, unit: f64) -> Value {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / unit;
    json!({
        "count": histogram.len(),
        "mean": histogram.mean() / unit,
        "p50": at(0.5), "p90": at(0.9), "p95": at(0.95), "p99": at(0.99), "p999": at(0.999),
        "max": histogram.max() as f64 / unit,
    })
}

/// A histogram as HdrHistogram's own plotter reads it, values divided by `unit`.
pub fn hgrm(histogram: &Histogram<u64>, unit: f64) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for step in histogram.iter_quantiles(5) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / unit, step.quantile_iterated_to());
        match quantile < 1.0 {
            true => {
                text += &format!("{value:12.3} {quantile:14.12} {count:10} {:14.2}\n", 1.0 / (1.0 - quantile))
            }
            false => text += &format!("{value:12.3} {quantile:14.12} {count:10}\n"),
        }
    }
    let (mean, deviation) = (histogram.mean() / unit, histogram.stdev() / unit);
    text += &format!("#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n");
    text += &format!(
        "#[Max     = {:12.3}, Total count    = {:12}]\n",
        histogram.max() as f64 / unit,
        histogram.len()
    );
    text
}

fn histogram() -> Result<Histogram<u64>, Error> {
    Ok(Histogram::new_with_bounds(1, VALUE_MAX, 3)?)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::mix;
    use crate::target::Failure;

    fn sample(analyst: usize, query: usize, due: u64, ended: u64, outcome: Outcome) -> Sample {
        let seconds = Duration::from_secs;
        Sample { analyst, query, due: seconds(due), ended: seconds(ended), outcome }
    }

    #[test]
    fn rates_count_the_window_and_faults_count_always() {
        let queries = mix::queries();
        let alone = queries.iter().map(|_| Alone { median: Some(0.5), ..Alone::default() });
        let alone: Vec<_> = alone.collect();
        let failure = Failure { code: "internal".into(), message: "x".into() };
        let samples = vec![
            sample(0, 0, 0, 2, Outcome::Right),
            sample(0, 0, 10, 11, Outcome::Right),
            sample(1, 0, 20, 23, Outcome::Right),
            sample(1, 33, 69, 75, Outcome::Right),
            sample(1, 33, 0, 1, Outcome::Wrong(Digest::default())),
            sample(1, 33, 69, 80, Outcome::Failed(failure)),
        ];
        let length = Duration::from_secs(70);
        let phase = Phase {
            name: "closed",
            system: "Tarn",
            load: Load { phase: 0, analysts: 2, length, rate: None },
            warm: Duration::from_secs(10),
            seen: Seen { samples, probes: Vec::new() },
            weight: Weight::default(),
        };
        let numbers = Numbers::of(&phase, &queries, &alone).unwrap();
        assert_eq!((numbers.queries, numbers.per_minute), (2, 2.0));
        assert_eq!((numbers.errors_total(), numbers.wrong_total()), (1, 1));
        assert_eq!((numbers.dashboard.latency.len(), numbers.adhoc.latency.len()), (2, 1));
        assert_eq!(numbers.users, [2.0, 9.0]);
        assert_eq!(numbers.fairness(), Some((9.0, 1.0, 2.0 / 9.0)));
    }
}
