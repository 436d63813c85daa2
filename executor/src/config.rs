//! Settings of an executor. Every default runs on a laptop.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything an executor can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `HOST:PORT` of the schedulers' cluster ports. The executor joins each of them.
    pub schedulers: Vec<String>,
    /// Address for queries: control and the exchange of rows. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address for tasks of the staged engine. Port 0 takes a free one.
    pub task_listen: SocketAddr,
    /// Address of the HTTP server: /healthz, /readyz, /metrics, /runs. Port 0 takes a free one.
    pub http_listen: SocketAddr,
    /// Host by which the others reach this executor; without it, the address it listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Whether addresses off loopback are allowed although nothing authenticates peers.
    pub insecure: bool,
    /// Seconds that running queries have to finish when the executor stops.
    pub drain_s: u64,
    /// Folder for what the executor keeps on disk. It has a folder of its own in it.
    #[serde(skip)]
    pub work_dir: PathBuf,
    /// Cores and memory; from the process's section `runtime`.
    #[serde(skip)]
    pub runtime: tarn_runtime::Config,
}

impl Default for Config {
    fn default() -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            schedulers: vec!["127.0.0.1:50050".to_string()],
            listen: free,
            task_listen: free,
            http_listen: free,
            advertise: None,
            insecure: false,
            drain_s: 30,
            work_dir: PathBuf::new(),
            runtime: tarn_runtime::Config::default(),
        }
    }
}

impl Config {
    /// Every fault, each with its key.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, address) in [("listen", self.listen), ("task_listen", self.task_listen)] {
            if !address.ip().is_loopback() && !self.insecure {
                faults.push(format!(
                    "{key}: {address} is off loopback and nothing authenticates peers yet; \
                     start with --insecure to allow it"
                ));
            }
        }
        if self.advertise.as_deref() == Some("") {
            faults.push("advertise: must not be empty".to_string());
        }
        if self.advertise.is_none() && self.listen.ip().is_unspecified() {
            faults.push(format!("advertise: needed, since others cannot reach {}", self.listen.ip()));
        }
        if self.schedulers.is_empty() {
            faults.push("schedulers: at least one is needed".to_string());
        }
        for scheduler in &self.schedulers {
            let (host, port) = scheduler.rsplit_once(':').unwrap_or_default();
            if host.is_empty() || port.parse::<u16>().is_err() {
                faults.push(format!("schedulers: \"{scheduler}\" is not HOST:PORT"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_by_its_key() {
        assert!(Config::default().validate().is_empty());
        let config = Config {
            schedulers: vec!["nowhere".to_string()],
            listen: "0.0.0.0:1".parse().unwrap(),
            ..Default::default()
        };
        let faults = config.validate();
        for key in ["listen:", "advertise:", "schedulers:"] {
            assert!(faults.iter().any(|fault| fault.starts_with(key)), "{key} in {faults:?}");
        }
        let allowed = Config {
            insecure: true,
            advertise: Some("host".to_string()),
            listen: config.listen,
            ..Default::default()
        };
        assert!(allowed.validate().is_empty());
    }
}
