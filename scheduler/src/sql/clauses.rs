//! Clauses that the parser takes and the engine's planner passes over without a word.
//!
//! A query with one would be answered as if it stood there without, which is another question. So each is refused by
//! its name; `FETCH FIRST n ROWS ONLY`, the standard's word for `LIMIT`, is made that. The rule: a clause is read,
//! refused by the engine, or refused here.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Fetch, LimitClause, Query, Select, SelectFlavor, TableFactor, VisitMut, VisitorMut,
};

use crate::error::{Error, Result};

/// Fails by the name of the first clause that would be passed over.
pub(super) fn check(part: &mut impl VisitMut) -> Result<()> {
    match part.visit(&mut Clauses) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(clause) => Err(Error::not_supported(clause)),
    }
}

struct Clauses;

impl VisitorMut for Clauses {
    type Break = &'static str;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if let Some(fetch) = query.fetch.take() {
            limit(query, fetch)?;
        }
        first([
            (!query.locks.is_empty(), "FOR UPDATE or FOR SHARE"),
            (query.for_clause.is_some(), "FOR XML, FOR JSON or FOR BROWSE"),
            (query.settings.is_some(), "SETTINGS"),
            (query.format_clause.is_some(), "FORMAT"),
        ])
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        first([
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (select.select_modifiers.is_some(), "a modifier of SELECT"),
            (select.value_table_mode.is_some(), "SELECT AS STRUCT or AS VALUE"),
            (matches!(select.flavor, SelectFlavor::FromFirstNoSelect) && select.exclude.is_some(), "EXCLUDE"),
        ])
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<Self::Break> {
        match table {
            TableFactor::Table {
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                name: _,
                alias: _,
                args: _,
            } => first([
                (sample.is_some(), "TABLESAMPLE"),
                (version.is_some(), "this way to ask for a version"),
                (*with_ordinality, "WITH ORDINALITY"),
                (!partitions.is_empty(), "PARTITION behind a table"),
                (!with_hints.is_empty() || !index_hints.is_empty(), "a hint behind a table"),
                (json_path.is_some(), "a path behind a table"),
            ]),
            TableFactor::Derived { sample, .. } => first([(sample.is_some(), "TABLESAMPLE")]),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn first<const N: usize>(clauses: [(bool, &'static str); N]) -> ControlFlow<&'static str> {
    match clauses.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, clause)) => ControlFlow::Break(clause),
        None => ControlFlow::Continue(()),
    }
}

/// `FETCH FIRST n ROWS ONLY`, with or without `OFFSET` in front, as a limit.
fn limit(query: &mut Query, fetch: Fetch) -> ControlFlow<&'static str> {
    if fetch.with_ties || fetch.percent {
        return ControlFlow::Break("FETCH with PERCENT or WITH TIES");
    }
    let one = || ast::Expr::value(ast::Value::Number("1".to_owned(), false));
    let rows = Some(fetch.quantity.unwrap_or_else(one));
    match &mut query.limit_clause {
        None => {
            let clause = LimitClause::LimitOffset { limit: rows, offset: None, limit_by: Vec::new() };
            query.limit_clause = Some(clause);
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = rows,
        Some(_) => return ControlFlow::Break("LIMIT beside FETCH"),
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::super::dialect::TarnDialect;
    use super::*;

    fn checked(sql: &str) -> std::result::Result<String, String> {
        let mut statement = Parser::parse_sql(&TarnDialect, sql).unwrap().remove(0);
        check(&mut statement).map(|()| statement.to_string()).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_would_be_passed_over_is_refused_by_name() {
        for (sql, name) in [
            ("select * from t tablesample bernoulli (10)", "TABLESAMPLE"),
            ("select * from (select 1) as s tablesample (10 percent)", "TABLESAMPLE"),
            ("select 1 where x in (select y from t tablesample system (1))", "TABLESAMPLE"),
            ("with a as (select * from t for update) select * from a", "FOR UPDATE"),
            ("select * from t prewhere x > 1", "PREWHERE"),
            ("select * from t distribute by x", "DISTRIBUTE BY"),
            ("select * from t start with x = 1 connect by prior y = x", "CONNECT BY"),
            ("select * from t order by x fetch first 3 rows with ties", "WITH TIES"),
            ("select * from t fetch first 3 percent rows only", "PERCENT"),
            ("insert into s select * from t tablesample system (1)", "TABLESAMPLE"),
        ] {
            let refused = checked(sql).unwrap_err();
            assert!(refused.contains(name), "{sql}: {refused}");
        }
        assert!(
            checked("select a, count(*) from t, u where a is null group by a having b order by 1 limit 2")
                .is_ok()
        );
    }

    #[test]
    fn fetch_is_a_limit() {
        for (sql, read) in [
            ("select * from t fetch first 3 rows only", "SELECT * FROM t LIMIT 3"),
            ("select * from t offset 2 rows fetch next row only", "SELECT * FROM t LIMIT 1 OFFSET 2 ROWS"),
        ] {
            assert_eq!(checked(sql).unwrap(), read);
        }
    }
}
