//! The bars: what is asked of a run, and what it did.

use serde::Serialize;

use super::Measured;

/// The analysts that the bars speak of.
pub const ANALYSTS: usize = 20;
const THROUGHPUT_MIN: f64 = 0.95;
const P95_MAX: f64 = 5.0;
const P99_MAX: f64 = 10.0;
const FAIRNESS_MAX: f64 = 1.5;
const PROBE_MS_MAX: f64 = 50.0;

/// One bar.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What is asked.
    pub bar: String,
    /// What was seen.
    pub figure: String,
    /// Whether that is enough.
    pub met: bool,
}

/// Every bar that the phases say something about.
pub fn all(measured: &[Measured<'_>]) -> Vec<Verdict> {
    let ours = |name| move |one: &&Measured<'_>| one.phase.system == "Tarn" && one.phase.name == name;
    let closed: Vec<_> = measured.iter().filter(ours("closed")).collect();
    let mut verdicts = Vec::new();
    if let Some(at) = at_bar(&closed) {
        let best = closed.iter().map(|one| one.numbers.per_minute).fold(0.0, f64::max);
        let ratio = at.numbers.per_minute / best;
        verdicts.push(verdict(
            format!(
                "closed loop: queries a minute at {} analysts at least {THROUGHPUT_MIN} of the best",
                at.phase.load.analysts
            ),
            format!("{:.1} of {best:.1}: {ratio:.2}", at.numbers.per_minute),
            ratio >= THROUGHPUT_MIN,
        ));
        verdicts.push(faultless("closed loop", &closed));
    }
    let open: Vec<_> = measured.iter().filter(ours("open")).collect();
    if let Some(one) = open.first() {
        verdicts.push(faultless("open loop", &open));
        let dashboard = &one.numbers.dashboard;
        for (name, quantile, most) in [("p95", 0.95, P95_MAX), ("p99", 0.99, P99_MAX)] {
            let slowdown = dashboard.slowdown(quantile);
            let bar = format!("open loop: dashboard {name} at most {most} times alone");
            let answered = !dashboard.slowdown.is_empty();
            verdicts.push(verdict(bar, format!("{slowdown:.2} times"), answered && slowdown <= most));
        }
        let fairness = one.numbers.fairness();
        verdicts.push(verdict(
            format!("open loop: each user's mean slowdown within {FAIRNESS_MAX} of the median user's"),
            fairness.map_or("no answers".to_string(), |(median, most, least)| {
                format!("{least:.2} to {most:.2} times the median's {median:.2}")
            }),
            fairness.is_some_and(|(_, most, least)| most <= FAIRNESS_MAX && least >= 1.0 / FAIRNESS_MAX),
        ));
        let probe = one.numbers.probe.value_at_quantile(0.99) as f64 / 1_000.0;
        let faults = one.numbers.probe_faults;
        verdicts.push(verdict(
            format!("open loop: `SELECT 1` p99 below {PROBE_MS_MAX} ms"),
            format!("{probe:.1} ms, {faults} of {} without an answer", one.numbers.probe.len()),
            probe < PROBE_MS_MAX && faults == 0,
        ));
    }
    verdicts
}

/// The phase at the analysts of the bars, or else that with the most.
pub fn at_bar<'a, 'b>(closed: &[&'a Measured<'b>]) -> Option<&'a Measured<'b>> {
    let exact = closed.iter().find(|one| one.phase.load.analysts == ANALYSTS);
    exact.or_else(|| closed.iter().max_by_key(|one| one.phase.load.analysts)).copied()
}

fn faultless(name: &str, phases: &[&Measured<'_>]) -> Verdict {
    let errors: u64 = phases.iter().map(|one| one.numbers.errors_total()).sum();
    let wrong: u64 = phases.iter().map(|one| one.numbers.wrong_total()).sum();
    let asked: usize = phases.iter().map(|one| one.phase.seen.samples.len()).sum();
    verdict(
        format!("{name}: 0 errors, 0 wrong"),
        format!("{errors} errors, {wrong} wrong of {asked} queries"),
        errors == 0 && wrong == 0 && asked > 0,
    )
}

fn verdict(bar: String, figure: String, met: bool) -> Verdict {
    Verdict { bar, figure, met }
}
