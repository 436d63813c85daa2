//! The settings of ours that travel with a plan, under the prefix `tarn`.
//!
//! They stand in the `SessionConfig` of an execution as a config extension, so both engines carry
//! them to every task. Nothing secret may enter: engines show their settings.

use std::any::Any;

use datafusion::common::config_err;
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::error::Result;
use datafusion::prelude::SessionConfig;

/// Tarn's settings of one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarnOptions {
    /// The query that this execution belongs to, as clients know it.
    pub query_id: String,
    /// This one attempt to run the query. Registers of running queries are keyed by it, so that the end of one
    /// attempt cannot stop the next.
    pub run_id: String,
    /// Bytes of files below which a scan is not spread over one more executor.
    pub task_bytes: u64,
    /// Bytes below which a file is not cut into ranges.
    pub range_bytes_min: u64,
    /// Bytes of memory that the run is promised in each process; 0 leaves it to the process.
    pub memory_bytes: u64,
    /// How the run stands beside others at the processors.
    pub priority: Priority,
    /// Whether what operators count is to be told.
    pub analyze: bool,
}

/// How a run stands beside others at the processors: the shorter it is expected to be, the higher. Whatever the mix of
/// queries, one of a few milliseconds then does not wait for one of minutes, which does not notice it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Over in a blink.
    High,
    /// Expected to take less than a second, or nothing is known of it.
    Middle,
    /// All others.
    Low,
}

impl Priority {
    /// Every priority, the highest first.
    pub const ALL: [Self; 3] = [Self::High, Self::Middle, Self::Low];

    /// That of a run which is expected to take so many seconds.
    pub fn of(seconds: f64) -> Self {
        match seconds {
            ..0.1 => Self::High,
            ..1.0 => Self::Middle,
            _ => Self::Low,
        }
    }

    /// As it is spelled in settings and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Middle => "middle",
            Self::Low => "low",
        }
    }
}

impl Default for TarnOptions {
    fn default() -> Self {
        Self {
            query_id: String::new(),
            run_id: String::new(),
            task_bytes: 16 << 20,
            range_bytes_min: 4 << 20,
            memory_bytes: 0,
            priority: Priority::Middle,
            analyze: false,
        }
    }
}

impl ConfigExtension for TarnOptions {
    const PREFIX: &'static str = "tarn";
}

impl ExtensionOptions for TarnOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let key = key.strip_prefix("tarn.").unwrap_or(key);
        let number = || {
            value.parse().or_else(|_| config_err!("{value:?} is not a number of bytes for \"tarn.{key}\""))
        };
        match key {
            "query_id" => self.query_id = value.to_string(),
            "run_id" => self.run_id = value.to_string(),
            "task_bytes" => self.task_bytes = number()?,
            "range_bytes_min" => self.range_bytes_min = number()?,
            "memory_bytes" => self.memory_bytes = number()?,
            "priority" => match Priority::ALL.into_iter().find(|priority| priority.as_str() == value) {
                Some(priority) => self.priority = priority,
                None => return config_err!("{value:?} is no priority for \"tarn.{key}\""),
            },
            "analyze" => self.analyze = value == "true",
            _ => return config_err!("setting \"tarn.{key}\" is unknown"),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key: &str, value: String, description| ConfigEntry {
            key: format!("tarn.{key}"),
            value: Some(value),
            description,
        };
        vec![
            entry("query_id", self.query_id.clone(), "the query that this execution belongs to"),
            entry("run_id", self.run_id.clone(), "this one attempt to run the query"),
            entry("task_bytes", self.task_bytes.to_string(), "bytes of files a task reads at least"),
            entry("range_bytes_min", self.range_bytes_min.to_string(), "bytes of a range of a file at least"),
            entry("memory_bytes", self.memory_bytes.to_string(), "bytes of memory promised in each process"),
            entry("priority", self.priority.as_str().to_string(), "how it stands at the processors"),
            entry("analyze", self.analyze.to_string(), "whether what operators count is told"),
        ]
    }
}

impl TarnOptions {
    /// The settings in `config`, or the defaults.
    pub fn of(config: &SessionConfig) -> Self {
        config.options().extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Puts the settings into `config`, in place of any that are there.
    pub fn apply(self, config: &mut SessionConfig) {
        config.options_mut().extensions.insert(self);
    }
}

/// Every setting of `config` that differs from the defaults and means something to DataFusion or to
/// Tarn; what engines add for themselves is left out.
pub fn changed(config: &SessionConfig) -> Vec<(String, String)> {
    let mut defaults = ConfigOptions::new();
    defaults.extensions.insert(TarnOptions::default());
    let defaults: std::collections::HashMap<_, _> =
        defaults.entries().into_iter().map(|entry| (entry.key, entry.value)).collect();
    config
        .options()
        .entries()
        .into_iter()
        .filter(|entry| entry.key.starts_with("datafusion.") || entry.key.starts_with("tarn."))
        .filter(|entry| defaults.get(&entry.key) != Some(&entry.value))
        .filter_map(|entry| Some((entry.key, entry.value?)))
        .collect()
}

/// A configuration with the settings that [`changed`] listed elsewhere.
pub fn restore<'a>(
    config: SessionConfig,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<SessionConfig> {
    let mut config = config;
    if config.options().extensions.get::<TarnOptions>().is_none() {
        TarnOptions::default().apply(&mut config);
    }
    for (key, value) in settings {
        if !(key.starts_with("datafusion.") || key.starts_with("tarn.")) {
            return config_err!("setting {key:?} cannot travel with a plan");
        }
        config.options_mut().set(key, value)?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_settings_survive_the_way() {
        let mut config = SessionConfig::new().with_target_partitions(3).with_batch_size(1000);
        config.options_mut().execution.time_zone = Some("Europe/Berlin".into());
        TarnOptions { query_id: "q 1".into(), task_bytes: 7, ..Default::default() }.apply(&mut config);
        let settings = changed(&config);
        let restored =
            restore(SessionConfig::new(), settings.iter().map(|(k, v)| (k.as_str(), v.as_str()))).unwrap();
        assert_eq!(restored.target_partitions(), 3);
        assert_eq!(restored.batch_size(), 1000);
        assert_eq!(restored.options().execution.time_zone.as_deref(), Some("Europe/Berlin"));
        assert_eq!(TarnOptions::of(&restored).query_id, "q 1");
        assert_eq!(TarnOptions::of(&restored).task_bytes, 7);
        assert_eq!(changed(&restored), settings);
    }

    #[test]
    fn foreign_settings_are_refused() {
        assert!(restore(SessionConfig::new(), [("ballista.x", "1")]).is_err());
    }
}
