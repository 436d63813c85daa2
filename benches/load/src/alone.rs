//! Times alone: each query by itself on a server that does nothing else, as the base of slowdowns.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Error;
use crate::analyst::Questions;
use crate::server::{Watch, Weight};

/// How often memory is looked at while a query runs alone.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// One query, alone.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Alone {
    /// The query's name.
    pub name: String,
    /// The best time, in seconds; none if it never answered rightly.
    pub best: Option<f64>,
    /// The median of its times.
    pub median: Option<f64>,
    /// What went wrong.
    pub faults: Vec<String>,
    /// What the server took meanwhile.
    pub weight: Weight,
}

/// Runs every query so often, after one run that does not count.
pub async fn measure(questions: &Questions, watch: &Watch, rounds: usize) -> Result<Vec<Alone>, Error> {
    let session = questions.target.connect("alone").await?;
    let mut all = Vec::new();
    for (query, expected) in questions.queries.iter().zip(questions.expected.iter()) {
        let weight = Mutex::new(Weight::default());
        let mut alone = Alone { name: query.name.clone(), ..Alone::default() };
        let mut times = Vec::new();
        let run = async {
            for round in 0..=rounds {
                let began = Instant::now();
                match session.run(&query.sql, questions.deadline).await {
                    Ok(digest) if digest == *expected => times.push((round, began.elapsed().as_secs_f64())),
                    Ok(digest) => alone.faults.push(format!("wrong: {digest}, expected {expected}")),
                    Err(failure) => alone.faults.push(format!("{}: {}", failure.code, failure.message)),
                }
                if alone.faults.len() > 1 {
                    break;
                }
            }
        };
        tokio::select! {
            () = run => {}
            () = watch.run(&weight, WATCH_EVERY) => {}
        }
        // A single round has only the first.
        let mut warm: Vec<_> =
            times.iter().filter(|(round, _)| *round > 0 || rounds == 0).map(|(_, time)| *time).collect();
        warm.sort_by(f64::total_cmp);
        alone.best = warm.first().copied();
        alone.median = warm.get(warm.len() / 2).copied();
        alone.weight = weight.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let time = alone.median.map_or("failed".to_string(), |median| format!("{median:.3} s"));
        eprintln!(
            "alone: {} {time}{}",
            alone.name,
            alone.faults.first().map(|fault| format!("; {fault}")).unwrap_or_default()
        );
        all.push(alone);
    }
    Ok(all)
}
