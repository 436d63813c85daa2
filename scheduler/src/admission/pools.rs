//! Pools: whose queries go where, and what each pool may have.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode, Result};

/// The pool of whoever fits no other.
pub const DEFAULT: &str = "default";

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// Its name, for `SET pool` and `SHOW POOLS`.
    pub name: String,
    /// Its part of the cluster when others wait too: twice the weight, twice the part.
    pub weight: f64,
    /// The part of the memory that its queries may be promised, in percent.
    pub memory_percent: u32,
    /// Queries that run at once; 0 stands for as many as the server allows.
    pub running_max: usize,
    /// Queries that wait at most; 0 stands for as many as the server allows.
    pub queue_max: usize,
    /// Users whose queries go here; `*` stands for any text. Empty: everybody.
    pub users: Vec<String>,
    /// Applications (setting `application_name`) whose queries go here. Empty: every one.
    pub sources: Vec<String>,
    /// Kinds of statement that go here: `select`, `insert`, `create`, `explain`. Empty: every kind.
    pub statements: Vec<String>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            name: DEFAULT.to_string(),
            weight: 1.0,
            memory_percent: 100,
            running_max: 0,
            queue_max: 0,
            users: Vec::new(),
            sources: Vec::new(),
            statements: Vec::new(),
        }
    }
}

impl PoolConfig {
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.name.trim().is_empty() {
            faults.push("name: is missing".to_string());
        }
        if !(self.weight.is_finite() && self.weight > 0.0) {
            faults.push(format!("weight: {} is not above 0", self.weight));
        }
        if !(1..=100).contains(&self.memory_percent) {
            faults.push(format!("memory_percent: {} is not from 1 to 100", self.memory_percent));
        }
        for kind in &self.statements {
            if !["select", "insert", "create", "explain"].contains(&kind.as_str()) {
                faults.push(format!("statements: \"{kind}\" is none of select, insert, create, explain"));
            }
        }
        faults
    }

    fn takes(&self, who: &Who<'_>) -> bool {
        let any = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, text))
        };
        any(&self.users, who.user) && any(&self.sources, who.source) && any(&self.statements, who.statement)
    }
}

/// Whose query it is.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The principal.
    pub user: &'a str,
    /// The application, as its setting says; empty if it does not.
    pub source: &'a str,
    /// The kind of statement.
    pub statement: &'a str,
    /// The pool that the session asked for by name.
    pub pool: Option<&'a str>,
}

/// Every pool of the server, the default one last unless it is configured.
#[derive(Debug, Clone)]
pub struct Pools {
    all: Vec<PoolConfig>,
}

impl Pools {
    /// The configured ones and the default.
    pub fn new(mut all: Vec<PoolConfig>) -> Self {
        if !all.iter().any(|pool| pool.name == DEFAULT) {
            all.push(PoolConfig::default());
        }
        Self { all }
    }

    /// All, in order.
    pub fn all(&self) -> &[PoolConfig] {
        &self.all
    }

    /// The pool of a query: the one that its session asked for, else the first whose rules fit.
    pub fn of(&self, who: &Who<'_>) -> Result<usize> {
        if let Some(name) = who.pool {
            return self.all.iter().position(|pool| pool.name == name).ok_or_else(|| self.unknown(name));
        }
        let default = || self.all.iter().position(|pool| pool.name == DEFAULT).unwrap_or_default();
        let ruled = |pool: &PoolConfig| pool.name != DEFAULT && pool.takes(who);
        Ok(self.all.iter().position(ruled).unwrap_or_else(default))
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<_> = self.all.iter().map(|pool| pool.name.as_str()).collect();
        Error::new(ErrorCode::NotFound, format!("pool \"{name}\" is unknown"))
            .with_hint(format!("pools: {}", known.join(", ")))
    }
}

/// Whether a text fits a pattern in which `*` stands for any text, in any case.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_texts() {
        for (pattern, text, expected) in [
            ("ana", "Ana", true),
            ("ana", "anab", false),
            ("etl-*", "etl-night", true),
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("*superset*", "my Superset 4", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_pool_whose_rules_all_fit_takes_the_query() {
        let pool = |name: &str, users: &[&str], statements: &[&str]| PoolConfig {
            name: name.to_string(),
            users: users.iter().map(ToString::to_string).collect(),
            statements: statements.iter().map(ToString::to_string).collect(),
            ..PoolConfig::default()
        };
        let pools = Pools::new(vec![pool("load", &[], &["insert"]), pool("bi", &["superset*"], &[])]);
        let name = |user, statement, asked| {
            let who = Who { user, source: "", statement, pool: asked };
            pools.of(&who).map(|at| pools.all()[at].name.clone())
        };
        assert_eq!(name("ana", "insert", None).unwrap(), "load");
        assert_eq!(name("superset-1", "select", None).unwrap(), "bi");
        assert_eq!(name("ana", "select", None).unwrap(), "default");
        assert_eq!(name("ana", "select", Some("bi")).unwrap(), "bi");
        let error = name("ana", "select", Some("none")).unwrap_err();
        assert!(error.hint().unwrap().contains("load, bi, default"), "{error}");
    }
}
