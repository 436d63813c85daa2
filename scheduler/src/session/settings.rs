//! The settings that a session may change: an allow-list, each with a check.
//!
//! Nothing outside this list reaches the engine's own options. A value is checked when it is
//! set, so that a query never fails for it later.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::arrow::array::timezone::Tz;

use crate::engine::Mode;
use crate::error::{Error, ErrorCode, Result};

/// What one query may use; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageLimits {
    /// Bytes of the files and ranges that its scans open.
    pub scan_bytes: Option<u64>,
    /// Bytes of memory over all processes.
    pub memory_bytes: Option<u64>,
    /// Rows of its result.
    pub result_rows: Option<u64>,
}

/// One setting: its name, what it is for, and its check.
pub struct Setting {
    /// The name as `SET` spells it.
    pub name: &'static str,
    /// One line for `SHOW ALL`.
    pub description: &'static str,
    default: &'static str,
    check: fn(&str) -> Result<String>,
}

/// Every setting there is, in the order of `SHOW ALL`.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "execution_mode",
        description: "auto, local, pipelined or staged: which engine runs a query",
        default: "auto",
        check: |value| match value {
            "auto" => Ok(value.to_string()),
            other => other.parse::<Mode>().map(|mode| mode.to_string()),
        },
    },
    Setting {
        name: "query_timeout",
        description: "longest time a query may take, such as 30s, 5m or 0 for none",
        default: "10m",
        check: |value| parse_duration(value).map(|_| value.to_string()),
    },
    Setting {
        name: "scan_bytes_max",
        description: "bytes of data files that a query may scan, 0 for any: more end it",
        default: "0",
        check: |value| integer(value, 0, u64::MAX),
    },
    Setting {
        name: "memory_bytes_max",
        description: "bytes of memory that a query may hold on all executors, 0 for any: more end it",
        default: "0",
        check: |value| integer(value, 0, u64::MAX),
    },
    Setting {
        name: "result_rows_max",
        description: "rows that a query may return, 0 for any: more end it",
        default: "0",
        check: |value| integer(value, 0, u64::MAX),
    },
    Setting {
        name: "pool",
        description: "the pool whose part of the cluster queries use; empty: the one whose rules fit",
        default: "",
        check: |value| Ok(value.to_string()),
    },
    Setting {
        name: "application_name",
        description: "what the session is for, for the rules of pools: up to 64 characters",
        default: "",
        check: |value| match value.chars().count() {
            0..=64 => Ok(value.to_string()),
            more => Err(Error::invalid(format!("the name has {more} characters"))),
        },
    },
    Setting {
        name: "timezone",
        description: "time zone of timestamps with time zone, such as UTC or Europe/Berlin",
        default: "UTC",
        check: |value| match value.parse::<Tz>() {
            Ok(_) => Ok(value.to_string()),
            Err(_) => Err(Error::invalid(format!("time zone \"{value}\" is unknown"))),
        },
    },
    Setting {
        name: "batch_size",
        description: "rows in a batch, 1 to 65536",
        default: "8192",
        check: |value| integer(value, 1, 65_536),
    },
    Setting {
        name: "pushdown_filters",
        description: "true or false: filter rows while Parquet pages are decoded",
        default: "false",
        check: boolean,
    },
    Setting {
        name: "split_bytes",
        description: "bytes of a range of a data file at least, 1 to 1073741824: smaller ones spread few files wider",
        default: "8388608",
        check: |value| integer(value, 1, 1 << 30),
    },
    Setting {
        name: "equality_delete_bytes",
        description: "memory for an index of a table's equality deletes, 0 to 1099511627776: more are joined, which can spill",
        default: "268435456",
        check: |value| integer(value, 0, 1 << 40),
    },
    Setting {
        name: "join_order",
        description: "auto or written: inner joins in the order of least cost by statistics, or as they are written",
        default: "auto",
        check: |value| match value {
            "auto" | "written" => Ok(value.to_string()),
            other => Err(Error::invalid(format!("join order \"{other}\" is unknown"))
                .with_hint("one of auto, written")),
        },
    },
    Setting {
        name: "wire_profile",
        description: "compat or native: which Arrow types results are sent in",
        default: "compat",
        check: |value| match value {
            "compat" | "native" => Ok(value.to_string()),
            other => Err(Error::invalid(format!("wire profile \"{other}\" is unknown"))
                .with_hint("one of compat, native")),
        },
    },
];

/// The values of one session: the server's defaults, and what the session changed.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    defaults: BTreeMap<&'static str, String>,
    changed: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Settings whose defaults are the server's configuration over the built-in ones.
    pub fn with_defaults<'a>(configured: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut settings = Self::default();
        for (name, value) in configured {
            let setting = find(name)?;
            settings.defaults.insert(setting.name, (setting.check)(value)?);
        }
        Ok(settings)
    }

    /// Changes a setting. Errors name the setting and what it takes.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let setting = find(name)?;
        let checked = (setting.check)(value.trim()).map_err(|error| {
            let message = format!("setting \"{}\": {}", setting.name, error.message());
            Error::invalid(message).with_hint(setting.description)
        })?;
        self.changed.insert(setting.name, checked);
        Ok(())
    }

    /// Puts a setting back to its default.
    pub fn reset(&mut self, name: &str) -> Result<()> {
        self.changed.remove(find(name)?.name);
        Ok(())
    }

    /// Puts all settings back to their defaults.
    pub fn reset_all(&mut self) {
        self.changed.clear();
    }

    /// The value of a setting; refuses an unknown name.
    pub fn get(&self, name: &str) -> Result<&str> {
        Ok(self.value(find(name)?))
    }

    /// All settings with value and description, in order.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
        SETTINGS.iter().map(|setting| (setting.name, self.value(setting), setting.description))
    }

    /// The mode asked for; `None` is `auto`.
    pub fn execution_mode(&self) -> Option<Mode> {
        self.known("execution_mode").parse().ok()
    }

    /// The query's deadline; `None` is no deadline.
    pub fn query_timeout(&self) -> Option<Duration> {
        parse_duration(self.known("query_timeout")).ok().filter(|timeout| !timeout.is_zero())
    }

    /// What a query may use.
    pub fn limits(&self) -> UsageLimits {
        let limit = |name| self.known(name).parse().ok().filter(|limit| *limit > 0);
        UsageLimits {
            scan_bytes: limit("scan_bytes_max"),
            memory_bytes: limit("memory_bytes_max"),
            result_rows: limit("result_rows_max"),
        }
    }

    /// The pool asked for by name.
    pub fn pool(&self) -> Option<&str> {
        Some(self.known("pool")).filter(|pool| !pool.is_empty())
    }

    /// What the session is for.
    pub fn application_name(&self) -> &str {
        self.known("application_name")
    }

    /// The time zone's name.
    pub fn timezone(&self) -> &str {
        self.known("timezone")
    }

    /// Rows in a batch.
    pub fn batch_size(&self) -> usize {
        self.known("batch_size").parse().unwrap_or(8192)
    }

    /// Whether filters run inside the Parquet decoder.
    pub fn pushdown_filters(&self) -> bool {
        self.known("pushdown_filters") == "true"
    }

    /// Bytes below which a data file is not cut into ranges.
    pub fn split_bytes(&self) -> u64 {
        self.known("split_bytes").parse().unwrap_or(8 << 20)
    }

    /// Bytes of memory that an index of a table's equality deletes may take.
    pub fn equality_delete_bytes(&self) -> u64 {
        self.known("equality_delete_bytes").parse().unwrap_or(256 << 20)
    }

    /// Whether inner joins keep the order in which they are written.
    pub fn joins_as_written(&self) -> bool {
        self.known("join_order") == "written"
    }

    /// The wire profile's name: `compat` or `native`.
    pub fn wire_profile(&self) -> &str {
        self.known("wire_profile")
    }

    fn known(&self, name: &'static str) -> &str {
        find(name).map(|setting| self.value(setting)).unwrap_or_default()
    }

    fn value(&self, setting: &Setting) -> &str {
        let changed = self.changed.get(setting.name).or_else(|| self.defaults.get(setting.name));
        changed.map_or(setting.default, String::as_str)
    }
}

fn find(name: &str) -> Result<&'static Setting> {
    // BI tools and JDBC spell names in any case; `time zone` is the SQL standard's spelling.
    let name = name.to_ascii_lowercase();
    let name = if name == "time zone" || name == "time_zone" { "timezone" } else { name.as_str() };
    SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| {
        let known: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        Error::new(ErrorCode::NotFound, format!("setting \"{name}\" is unknown"))
            .with_hint(format!("settings: {}", known.join(", ")))
    })
}

fn boolean(value: &str) -> Result<String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Ok("true".to_string()),
        "false" | "off" | "0" => Ok("false".to_string()),
        other => Err(Error::invalid(format!("\"{other}\" is neither true nor false"))),
    }
}

fn integer(value: &str, least: u64, most: u64) -> Result<String> {
    match value.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number.to_string()),
        _ => Err(Error::invalid(format!("\"{value}\" is not a number from {least} to {most}"))),
    }
}

/// Reads `30s`, `1500ms`, `5m`, `2h`, or a plain number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let refuse = || Error::invalid(format!("\"{text}\" is not a duration such as 30s or 5m"));
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let millis = match unit.trim() {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" | "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    millis.map(Duration::from_millis).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_does_not_fit_is_refused_by_name() {
        let mut settings = Settings::default();
        let error = settings.set("query_timeout", "soon").unwrap_err();
        assert!(error.message().contains("query_timeout"), "{error}");
        assert!(settings.set("no_such", "1").unwrap_err().hint().unwrap().contains("execution_mode"));
    }

    #[test]
    fn reset_goes_back_to_the_servers_default() {
        let mut settings = Settings::with_defaults([("query_timeout", "30s")]).unwrap();
        settings.set("query_timeout", "5m").unwrap();
        assert_eq!(settings.query_timeout(), Some(Duration::from_secs(300)));
        settings.reset("query_timeout").unwrap();
        assert_eq!(settings.query_timeout(), Some(Duration::from_secs(30)));
        settings.set("QUERY_TIMEOUT", "0").unwrap();
        assert_eq!(settings.query_timeout(), None);
    }
}
