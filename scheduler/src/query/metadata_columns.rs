//! Metadata columns (`_file`, `_pos`, `_row_id` …) in statements: there by name, and not in `*`.
//!
//! The engine knows no hidden columns. So a statement that names one is
//! rewritten before it is planned: the tables it reads get names that ask for
//! the columns (`"orders@columns=_pos" AS orders`, read back at binding by
//! [`split_columns`]), and every `*` over such a table leaves them out again.
//! A statement that names none, nearly all, is not touched. The one rule:
//! where a table has a column of its own by that name, the name means that
//! one, and `*` keeps it.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Ident, JoinConstraint, JoinOperator, ObjectName as AstName, ObjectNamePart,
    Query, Select, SelectItem, SelectItemQualifiedWildcardKind, Statement, TableAlias, TableFactor,
    TableWithJoins, Visit, VisitMut, Visitor, VisitorMut, WildcardAdditionalOptions, visit_expressions,
};
use tarn_scan::MetadataColumn;

use super::bind::{Pins, resolve};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::sql::{ObjectName, fold};

const COLUMNS: &str = "@columns=";

/// A table name as it stands after [`expose`]: without what asks for metadata columns, and these.
pub(super) fn split_columns(name: &str) -> (&str, Vec<MetadataColumn>) {
    match name.rsplit_once(COLUMNS) {
        Some((table, columns)) => (table, columns.split(',').filter_map(MetadataColumn::of_name).collect()),
        None => (name, Vec::new()),
    }
}

/// Rewrites a statement that names metadata columns.
pub(super) async fn expose(statement: &mut Statement, session: &Session, pins: &Pins) -> Result<()> {
    let named = named(statement);
    if named.is_empty() {
        return Ok(());
    }
    let mut tables = HashMap::new();
    for relation in relations(statement) {
        let Ok(name) = ObjectName::new(&relation, 3) else { continue };
        let table = resolve(session, &name);
        // A relation that is no table is said so by the engine, if it is not its own (a CTE, a function).
        if let Ok(pinned) = pins.pin(&table.catalog, &table.schema, &table.table).await {
            tables.insert(relation, pinned.metadata_columns(&named));
        }
    }
    tables.retain(|_, columns| !columns.is_empty());
    match statement.visit(&mut Rewriter { tables }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The metadata columns that a statement names.
fn named(statement: &Statement) -> Vec<MetadataColumn> {
    let mut named = Vec::new();
    let walked = visit_expressions(statement, |expr| {
        let parts = match expr {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(parts) => parts,
            _ => return ControlFlow::<()>::Continue(()),
        };
        for column in parts.iter().filter_map(|part| MetadataColumn::of_name(&fold(part))) {
            if !named.contains(&column) {
                named.push(column);
            }
        }
        ControlFlow::Continue(())
    });
    debug_assert!(walked.is_continue(), "nothing ends this walk");
    named
}

/// What a statement reads from by a name that may be a table's.
fn relations(statement: &Statement) -> HashSet<AstName> {
    #[derive(Default)]
    struct Gather {
        read: HashSet<AstName>,
        bound: HashSet<AstName>,
    }
    impl Visitor for Gather {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let tables = query.with.iter().flat_map(|with| &with.cte_tables);
            self.bound.extend(tables.map(|table| AstName::from(table.alias.name.clone())));
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, args: None, .. } = factor {
                self.read.insert(name.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut gather = Gather::default();
    let walked = statement.visit(&mut gather);
    debug_assert!(walked.is_continue(), "nothing ends this walk");
    gather.read.retain(|name| !gather.bound.contains(name));
    gather.read
}

struct Rewriter {
    /// Tables, as the statement names them, and the columns that each gets.
    tables: HashMap<AstName, Vec<MetadataColumn>>,
}

/// A relation of a FROM clause.
struct Relation<'a> {
    alias: Option<Ident>,
    hidden: &'a [MetadataColumn],
}

impl VisitorMut for Rewriter {
    type Break = Error;

    // Before the names below it are rewritten.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        match self.select(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, alias, args: None, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let Some(columns) = self.tables.get(name) else {
            return ControlFlow::Continue(());
        };
        let Some(last) = name.0.pop().and_then(|part| part.as_ident().cloned()) else {
            return ControlFlow::Continue(());
        };
        let columns: Vec<_> = columns.iter().map(|column| column.name()).collect();
        let asking = format!("{}{COLUMNS}{}", fold(&last), columns.join(","));
        name.0.push(ObjectNamePart::Identifier(Ident::with_quote('"', asking)));
        alias.get_or_insert_with(|| TableAlias { explicit: true, name: last, columns: Vec::new(), at: None });
        ControlFlow::Continue(())
    }
}

impl Rewriter {
    fn select(&self, select: &mut Select) -> Result<()> {
        let mut relations = Vec::new();
        let mut merging = false;
        for table in &select.from {
            self.relations(table, &mut relations, &mut merging)?;
        }
        if relations.iter().all(|relation| relation.hidden.is_empty()) {
            return Ok(());
        }
        let one = relations.len() == 1;
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match item {
                SelectItem::Wildcard(mut options) if one => {
                    leave_out(&mut options, relations[0].hidden);
                    items.push(SelectItem::Wildcard(options));
                }
                SelectItem::Wildcard(_) if merging => {
                    return Err(Error::not_supported(
                        "\"*\" over a join with USING or NATURAL beside a metadata column",
                    )
                    .with_hint("name the columns"));
                }
                SelectItem::Wildcard(options) => items.extend(each(&relations, &options)?),
                SelectItem::QualifiedWildcard(kind, mut options) => {
                    if let Some(relation) = relations.iter().find(|relation| relation.is(&kind)) {
                        leave_out(&mut options, relation.hidden);
                    }
                    items.push(SelectItem::QualifiedWildcard(kind, options));
                }
                other => items.push(other),
            }
        }
        select.projection = items;
        Ok(())
    }

    fn relations<'a>(
        &'a self,
        table: &TableWithJoins,
        relations: &mut Vec<Relation<'a>>,
        merging: &mut bool,
    ) -> Result<()> {
        self.factor(&table.relation, relations, merging)?;
        for join in &table.joins {
            self.factor(&join.relation, relations, merging)?;
            match constraint(&join.join_operator) {
                Some(JoinConstraint::Using(_)) => *merging = true,
                Some(JoinConstraint::Natural) => {
                    return Err(Error::not_supported("NATURAL JOIN in a statement with a metadata column")
                        .with_hint("say by USING or ON what is joined"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn factor<'a>(
        &'a self,
        factor: &TableFactor,
        relations: &mut Vec<Relation<'a>>,
        merging: &mut bool,
    ) -> Result<()> {
        let (alias, hidden) = match factor {
            TableFactor::Table { name, alias, args, .. } => {
                let hidden = self.tables.get(name).filter(|_| args.is_none());
                let own = || name.0.last().and_then(|part| part.as_ident().cloned());
                (alias.as_ref().map(|alias| alias.name.clone()).or_else(own), hidden)
            }
            TableFactor::Derived { alias, .. } => (alias.as_ref().map(|alias| alias.name.clone()), None),
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                return self.relations(table_with_joins, relations, merging);
            }
            _ => (None, None),
        };
        relations.push(Relation { alias, hidden: hidden.map_or(&[], Vec::as_slice) });
        Ok(())
    }
}

impl Relation<'_> {
    fn is(&self, kind: &SelectItemQualifiedWildcardKind) -> bool {
        let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else { return false };
        let last = name.0.last().and_then(|part| part.as_ident());
        matches!((last, &self.alias), (Some(last), Some(alias)) if fold(last) == fold(alias))
    }
}

/// `*` as one `alias.*` for each relation.
fn each(relations: &[Relation<'_>], options: &WildcardAdditionalOptions) -> Result<Vec<SelectItem>> {
    let plain =
        WildcardAdditionalOptions { wildcard_token: options.wildcard_token.clone(), ..Default::default() };
    let refuse = |what: &str| {
        let feature = format!("\"*\" {what} beside a metadata column");
        Err(Error::not_supported(feature).with_hint("name the columns"))
    };
    if *options != plain {
        return refuse("with options over several tables");
    }
    let mut items = Vec::with_capacity(relations.len());
    for relation in relations {
        let Some(alias) = &relation.alias else {
            return refuse("over a relation without a name");
        };
        let mut options = plain.clone();
        leave_out(&mut options, relation.hidden);
        let kind = SelectItemQualifiedWildcardKind::ObjectName(AstName::from(alias.clone()));
        items.push(SelectItem::QualifiedWildcard(kind, options));
    }
    Ok(items)
}

fn leave_out(options: &mut WildcardAdditionalOptions, hidden: &[MetadataColumn]) {
    let mut names: Vec<AstName> = match options.opt_exclude.take() {
        Some(ExcludeSelectItem::Single(name)) => vec![name],
        Some(ExcludeSelectItem::Multiple(names)) => names,
        None => Vec::new(),
    };
    for column in hidden {
        let name = AstName::from(Ident::with_quote('"', column.name()));
        let known = |other: &AstName| {
            other.0.last().and_then(|part| part.as_ident()).is_some_and(|ident| fold(ident) == column.name())
        };
        if !names.iter().any(known) {
            names.push(name);
        }
    }
    options.opt_exclude = (!names.is_empty()).then_some(ExcludeSelectItem::Multiple(names));
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse;

    fn rewritten(sql: &str) -> Result<String> {
        let crate::sql::Statement::Query(mut statement) = parse(sql).unwrap() else { panic!("{sql}") };
        let named = named(&statement);
        let tables = relations(&statement)
            .into_iter()
            .filter(|name| !name.to_string().starts_with('x') && !named.is_empty())
            .map(|name| (name, named.clone()))
            .collect();
        match VisitMut::visit(statement.as_mut(), &mut Rewriter { tables }) {
            ControlFlow::Continue(()) => Ok(statement.to_string()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    #[test]
    fn columns_are_asked_for_where_they_are_named_and_left_out_of_every_star() {
        let cases = [
            ("SELECT a FROM t", "SELECT a FROM t"),
            ("SELECT * FROM t WHERE b = '_pos'", "SELECT * FROM t WHERE b = '_pos'"),
            ("SELECT _pos FROM t", r#"SELECT _pos FROM "t@columns=_pos" AS t"#),
            (
                "SELECT *, _file FROM l.db.t AS u WHERE u._pos > 1",
                r#"SELECT * EXCLUDE ("_file", "_pos"), _file FROM l.db."t@columns=_file,_pos" AS u WHERE u._pos > 1"#,
            ),
            (
                "SELECT * FROM t JOIN x ON t._pos = x.a",
                r#"SELECT t.* EXCLUDE ("_pos"), x.* FROM "t@columns=_pos" AS t JOIN x ON t._pos = x.a"#,
            ),
            (
                "WITH c AS (SELECT *, _pos FROM t) SELECT * FROM c",
                r#"WITH c AS (SELECT * EXCLUDE ("_pos"), _pos FROM "t@columns=_pos" AS t) SELECT * FROM c"#,
            ),
            (
                "SELECT v.*, x.* FROM t AS v, x WHERE EXISTS (SELECT 1 FROM u WHERE u._pos = 0)",
                r#"SELECT v.* EXCLUDE ("_pos"), x.* FROM "t@columns=_pos" AS v, x WHERE EXISTS (SELECT 1 FROM "u@columns=_pos" AS u WHERE u._pos = 0)"#,
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(rewritten(sql).unwrap(), expected, "{sql}");
        }
    }

    #[test]
    fn what_would_mix_hidden_columns_into_a_join_is_refused() {
        for sql in ["SELECT _pos FROM t NATURAL JOIN u", "SELECT *, t._pos FROM t JOIN u USING (a)"] {
            assert!(rewritten(sql).is_err(), "{sql}");
        }
        assert!(rewritten("SELECT a, t._pos FROM t JOIN u USING (a)").is_ok());
    }

    #[test]
    fn names_come_apart() {
        assert_eq!(split_columns("t"), ("t", Vec::new()));
        assert_eq!(
            split_columns("t@version=4@columns=_pos,_file"),
            ("t@version=4", vec![MetadataColumn::Position, MetadataColumn::File])
        );
    }
}
