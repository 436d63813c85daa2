//! Section `admission` of the configuration.

use serde::{Deserialize, Serialize};

use super::pools::PoolConfig;

/// How many queries run at once, and how many wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Queries that run at once and take longer than `express_ms`; 0 stands for as many as the executors have cores.
    pub running_max: usize,
    /// Queries of the express lane that run at once; 0 stands for four a core.
    pub express_max: usize,
    /// Milliseconds: queries that are expected to take less go by the express lane.
    pub express_ms: u64,
    /// Queries that wait at most, over all pools; more are refused at once.
    pub queue_max: usize,
    /// Seconds that a query waits at most.
    pub queue_timeout_s: u64,
    /// The pools, in the order in which their rules are tried; who fits none goes to the pool `default`.
    pub pools: Vec<PoolConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            running_max: 0,
            express_max: 0,
            express_ms: 1000,
            queue_max: 1000,
            queue_timeout_s: 600,
            pools: Vec::new(),
        }
    }
}

impl Config {
    /// Every fault, each with its key below this section.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.queue_max == 0 {
            faults.push("queue_max: must be above 0".to_string());
        }
        for (at, pool) in self.pools.iter().enumerate() {
            faults.extend(pool.faults().into_iter().map(|fault| format!("pools[{at}].{fault}")));
            if self.pools[..at].iter().any(|earlier| earlier.name == pool.name) {
                faults.push(format!("pools[{at}].name: there are two pools \"{}\"", pool.name));
            }
        }
        faults
    }
}
