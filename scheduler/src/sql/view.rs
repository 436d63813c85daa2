//! `CREATE VIEW` and `DROP VIEW`.
//!
//! ```text
//! CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name [( column [COMMENT 'text'], … )]
//!   [COMMENT 'text'] [TBLPROPERTIES | WITH ( 'key' = 'value', … )] AS query
//! ```
//!
//! The query is kept as it was written, not as the parser would write it: other people read it.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

use super::create::{properties, syntax};
use super::name::{ObjectName, fold};
use crate::error::{Error, ErrorCode, Result};

/// A parsed `CREATE VIEW`.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// The view's name.
    pub name: ObjectName,
    /// `OR REPLACE` was given.
    pub or_replace: bool,
    /// `IF NOT EXISTS` was given.
    pub if_not_exists: bool,
    /// Names of the columns, with comments; empty if they are those of the query.
    pub columns: Vec<(String, Option<String>)>,
    /// Its properties; `COMMENT` stands as `comment`.
    pub properties: BTreeMap<String, String>,
    /// Its query.
    pub query: Box<ast::Query>,
    /// The text of its query.
    pub sql: String,
    /// Where the query begins in the statement.
    pub(super) begins: Location,
}

/// A parsed `DROP VIEW`.
#[derive(Debug, Clone)]
pub struct DropView {
    /// The view.
    pub name: ObjectName,
    /// No error if it does not exist.
    pub if_exists: bool,
}

/// Parses what follows `CREATE [OR REPLACE] VIEW`.
pub(super) fn parse(parser: &mut Parser<'_>, or_replace: bool) -> Result<CreateView> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    if or_replace && if_not_exists {
        return Err(Error::new(ErrorCode::SyntaxError, "OR REPLACE and IF NOT EXISTS exclude each other"));
    }
    let name = ObjectName::new(&parser.parse_object_name(false).map_err(syntax)?, 3)?;
    let mut columns = Vec::new();
    if parser.consume_token(&Token::LParen) {
        columns = parser.parse_comma_separated(column).map_err(syntax)?;
        parser.expect_token(&Token::RParen).map_err(syntax)?;
    }
    let mut given = BTreeMap::new();
    loop {
        if parser.parse_keyword(Keyword::COMMENT) {
            given.insert("comment".to_string(), parser.parse_literal_string().map_err(syntax)?);
        } else if parser.parse_keyword(Keyword::TBLPROPERTIES) || parser.parse_keyword(Keyword::WITH) {
            given.extend(properties(parser)?);
        } else {
            break;
        }
    }
    parser.expect_keyword(Keyword::AS).map_err(syntax)?;
    let begins = parser.peek_token().span.start;
    let query = parser.parse_query().map_err(syntax)?;
    let (properties, sql) = (given, String::new());
    Ok(CreateView { name, or_replace, if_not_exists, columns, properties, query, sql, begins })
}

/// Parses what follows `DROP VIEW`.
pub(super) fn parse_drop(parser: &mut Parser<'_>) -> Result<DropView> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let name = ObjectName::new(&parser.parse_object_name(false).map_err(syntax)?, 3)?;
    Ok(DropView { name, if_exists })
}

fn column(
    parser: &mut Parser<'_>,
) -> std::result::Result<(String, Option<String>), datafusion::sql::sqlparser::parser::ParserError> {
    let name = fold(&parser.parse_identifier()?);
    let comment = match parser.parse_keyword(Keyword::COMMENT) {
        true => Some(parser.parse_literal_string()?),
        false => None,
    };
    Ok((name, comment))
}

/// The part of a text from one place to another; places count lines and characters from 1.
pub(super) fn text_between(text: &str, from: Location, to: Location) -> Option<&str> {
    let offset = |at: Location| {
        let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
        let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let rest = text.get(before..)?;
        let inside = rest.char_indices().map(|(offset, _)| offset).chain([rest.len()]).nth(column)?;
        Some(before + inside)
    };
    text.get(offset(from)?..offset(to)?).map(str::trim)
}

#[cfg(test)]
mod tests {
    use crate::sql::{Statement, parse};

    #[test]
    fn query_is_kept_as_it_was_written() {
        let sql = "create or replace view a.b (x comment 'é', \"Y\")\n comment 'c' tblproperties ('k' = 'v') as\n  \
                   -- why\n  Select  1, 'ü;' -- one\n  FROM t ;  ";
        let Statement::CreateView(view) = parse(sql).unwrap() else { panic!("not a view") };
        assert_eq!(view.sql, "Select  1, 'ü;' -- one\n  FROM t");
        assert_eq!(view.columns, [("x".to_string(), Some("é".to_string())), ("Y".to_string(), None)]);
        assert_eq!(view.properties["comment"], "c");
        assert_eq!(view.properties["k"], "v");
        assert!(view.or_replace && !view.if_not_exists);
    }

    #[test]
    fn views_are_dropped_and_shown() {
        assert!(
            matches!(parse("drop view if exists v").unwrap(), Statement::DropView(drop) if drop.if_exists)
        );
        assert!(parse("create view v").is_err());
        assert!(parse("create or replace view if not exists v as select 1").is_err());
        assert!(parse("show create view s.v").is_ok());
    }
}
