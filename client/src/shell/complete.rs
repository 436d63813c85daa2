//! Completion: keywords, names of tables, schemas and catalogs, the shell's commands.
//!
//! Names come from a cache that the session refreshes in the background; completing never
//! waits for the server. [`LineHelper`] is what the line editor calls: it also says when input
//! is complete and shows what the history would add.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Result};

use crate::connection::Table;
use crate::shell::{command, input};

/// Candidates that one completion offers.
const CANDIDATES_MAX: usize = 200;

const KEYWORDS: &[&str] = &[
    "all",
    "and",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "cast",
    "create",
    "cross join",
    "current_date",
    "current_timestamp",
    "date_trunc",
    "delete",
    "desc",
    "describe",
    "distinct",
    "drop",
    "else",
    "end",
    "except",
    "execution_mode",
    "exists",
    "explain",
    "explain analyze",
    "extract",
    "false",
    "filter",
    "first",
    "for timestamp as of",
    "for version as of",
    "from",
    "full join",
    "group by",
    "having",
    "if exists",
    "if not exists",
    "in",
    "inner join",
    "insert into",
    "intersect",
    "interval",
    "into",
    "is not null",
    "is null",
    "join",
    "kill query",
    "last",
    "left join",
    "like",
    "limit",
    "not",
    "null",
    "nulls first",
    "nulls last",
    "offset",
    "on",
    "or",
    "order by",
    "outer",
    "over",
    "partition by",
    "partitioned by",
    "purge",
    "query_timeout",
    "replace",
    "reset",
    "right join",
    "row_number",
    "schema",
    "select",
    "set",
    "show",
    "show all",
    "show catalogs",
    "show columns from",
    "show queries",
    "show schemas",
    "show tables",
    "sum",
    "avg",
    "count",
    "min",
    "max",
    "table",
    "then",
    "timezone",
    "true",
    "union",
    "union all",
    "use",
    "using",
    "values",
    "view",
    "when",
    "where",
    "window",
    "with",
];

/// The names that completion knows; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Guards the words of the last refresh.
    words: Arc<RwLock<BTreeSet<String>>>,
}

impl Names {
    /// Replaces what is known.
    pub fn refresh(&self, catalog: &str, schema: &str, catalogs: &[String], tables: &[Table]) {
        let mut words: BTreeSet<_> = catalogs.iter().cloned().collect();
        for table in tables {
            if table.catalog == catalog {
                words.insert(table.schema.clone());
                words.insert(format!("{}.{}", table.schema, table.name));
                if table.schema == schema {
                    words.insert(table.name.clone());
                }
            } else {
                words.insert(format!("{}.{}.{}", table.catalog, table.schema, table.name));
            }
        }
        *self.words.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = words;
    }

    fn starting_with(&self, prefix: &str) -> Vec<String> {
        let words = self.words.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let from = words.range(prefix.to_string()..);
        from.take_while(|word| word.starts_with(prefix)).take(CANDIDATES_MAX).cloned().collect()
    }
}

/// The helper of the line editor.
#[derive(Default)]
pub struct LineHelper {
    names: Names,
    history: HistoryHinter,
}

impl LineHelper {
    /// A helper over the names of a session.
    pub fn new(names: Names) -> Self {
        Self { names, history: HistoryHinter::new() }
    }
}

/// Where the word before the cursor begins, and what it may become.
fn candidates(names: &Names, line: &str, position: usize) -> (usize, Vec<String>) {
    let before = &line[..position];
    if before.trim_start().starts_with('\\') && !before.contains(char::is_whitespace) {
        let found = command::NAMES.iter().filter(|name| name.starts_with(before));
        return (0, found.map(ToString::to_string).collect());
    }
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let start = before
        .rfind(|c| !is_word(c))
        .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    let word = &before[start..];
    if word.is_empty() {
        return (start, Vec::new());
    }
    let lower = word.to_lowercase();
    let mut found = names.starting_with(&lower);
    if !lower.contains('.') {
        let upper = word.chars().all(|c| !c.is_lowercase());
        let keywords = KEYWORDS.iter().filter(|keyword| keyword.starts_with(&lower));
        found.extend(keywords.map(|word| if upper { word.to_uppercase() } else { word.to_string() }));
    }
    (start, found)
}

impl Completer for LineHelper {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> Result<(usize, Vec<String>)> {
        Ok(candidates(&self.names, line, position))
    }
}

impl Validator for LineHelper {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        let complete = input::is_complete(ctx.input());
        Ok(if complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for LineHelper {
    type Hint = String;

    fn hint(&self, line: &str, position: usize, ctx: &Context<'_>) -> Option<String> {
        // Blank input would be offered the last statement whole, which only distracts.
        if line.trim().is_empty() { None } else { self.history.hint(line, position, ctx) }
    }
}

impl Highlighter for LineHelper {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Helper for LineHelper {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let table = |schema: &str, name: &str| Table {
            catalog: "lakehouse".into(),
            schema: schema.into(),
            name: name.into(),
            kind: "TABLE".into(),
        };
        let names = Names::default();
        let tables = [table("shop", "fact_sales"), table("shop", "dim_dates"), table("tpch", "nation")];
        names.refresh("lakehouse", "shop", &["lakehouse".into()], &tables);
        names
    }

    fn found(line: &str) -> (usize, Vec<String>) {
        candidates(&names(), line, line.len())
    }

    #[test]
    fn tables_are_offered_bare_in_their_schema_and_qualified_elsewhere() {
        assert_eq!(found("select * from fact"), (14, vec!["fact_sales".into()]));
        assert_eq!(found("select * from tp"), (14, vec!["tpch".into(), "tpch.nation".into()]));
        assert_eq!(found("select * from (tpch.n"), (15, vec!["tpch.nation".into()]));
    }

    #[test]
    fn keywords_keep_the_case_of_what_is_typed() {
        assert_eq!(found("sel").1, ["select"]);
        assert_eq!(found("SEL").1, ["SELECT"]);
        assert!(found("select ").1.is_empty());
    }

    #[test]
    fn commands_are_offered_after_a_backslash() {
        assert_eq!(found("\\d").1, ["\\d", "\\dn"]);
    }

    #[test]
    fn words_may_be_of_any_script() {
        assert_eq!(found("select '日本").0, "select '".len());
        assert_eq!(found("日 sel").0, "日 ".len());
    }
}
