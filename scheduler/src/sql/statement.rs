//! One statement: ours, or the engine's.

use datafusion::sql::sqlparser::ast::{self, VisitMut};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::create::{self, CreateTable, syntax};
use super::name::ObjectName;
use super::show::{self, Show};
use super::view::{self, CreateView, DropView};
use super::{clauses, like, placeholders, time_travel, tokens};
use crate::error::{Error, ErrorCode, Result};

/// A parsed statement. Names are not resolved.
#[derive(Debug, Clone)]
pub enum Statement {
    /// `SELECT`, `WITH`, `VALUES`, `TABLE`.
    Query(Box<ast::Statement>),
    /// `INSERT INTO table … VALUES | SELECT`.
    Insert {
        /// The table.
        table: ObjectName,
        /// The whole statement, for the engine's planner.
        statement: Box<ast::Statement>,
    },
    /// `CREATE TABLE …`.
    CreateTable(Box<CreateTable>),
    /// `DROP TABLE …`.
    DropTable(DropTable),
    /// `CREATE VIEW …`.
    CreateView(Box<CreateView>),
    /// `DROP VIEW …`.
    DropView(DropView),
    /// `CREATE SCHEMA [IF NOT EXISTS] name`.
    CreateSchema {
        /// The schema.
        name: ObjectName,
        /// No error if it exists.
        if_not_exists: bool,
    },
    /// `DROP SCHEMA [IF EXISTS] name`.
    DropSchema {
        /// The schema.
        name: ObjectName,
        /// No error if it does not exist.
        if_exists: bool,
    },
    /// `EXPLAIN [ANALYZE] [VERBOSE] statement`.
    Explain {
        /// Run it and show what happened.
        analyze: bool,
        /// More detail.
        verbose: bool,
        /// What is explained.
        statement: Box<Statement>,
    },
    /// `SHOW …`, `DESCRIBE …`.
    Show(Show),
    /// `USE [catalog.]schema`.
    Use(ObjectName),
    /// `SET name = value`.
    Set {
        /// The setting.
        name: String,
        /// The value as text.
        value: String,
    },
    /// `RESET name` or `RESET ALL`.
    Reset(Option<String>),
    /// `KILL QUERY 'id'`.
    Kill(String),
}

/// A parsed `DROP TABLE`.
#[derive(Debug, Clone)]
pub struct DropTable {
    /// The table.
    pub name: ObjectName,
    /// No error if it does not exist.
    pub if_exists: bool,
    /// Its files are deleted as well.
    pub purge: bool,
}

impl Statement {
    /// Whether it returns rows; the others return a count or nothing.
    pub fn returns_rows(&self) -> bool {
        matches!(self, Self::Query(_) | Self::Explain { .. } | Self::Show(_))
    }
}

/// Parses one statement; a trailing semicolon is fine, a second statement is not.
pub fn parse(sql: &str) -> Result<Statement> {
    let mut tokens = tokens::tokenize(sql)?;
    placeholders::number(&mut tokens)?;
    let end = tokens.last().map(|token| token.span.end);
    let last = tokens.iter().rev().find(|token| token.token != Token::SemiColon).map(|token| token.span.end);
    let mut parsed = parse_tokens(time_travel::rewrite(tokens)?);
    if let (Ok(Statement::CreateView(created)), Some(last)) = (&mut parsed, last) {
        let text = view::text_between(sql, created.begins, last);
        created.sql = text.ok_or_else(|| Error::internal("the view's query was not found"))?.to_string();
    }
    parsed.map_err(|error| match end {
        // The parser gives no place for the end of the text.
        Some(end) if error.code() == ErrorCode::SyntaxError && !error.message().contains("Line:") => {
            Error::new(ErrorCode::SyntaxError, format!("{}{end}", error.message()))
        }
        _ => error,
    })
}

fn parse_tokens(tokens: Vec<TokenWithSpan>) -> Result<Statement> {
    if tokens.iter().all(|token| token.token == Token::SemiColon) {
        return Err(Error::new(ErrorCode::SyntaxError, "the statement is empty"));
    }
    let mut parser = Parser::new(&tokens::DIALECT).with_tokens_with_locations(tokens);
    let mut statement = statement(&mut parser)?;
    clauses_of(&mut statement)?;
    while parser.consume_token(&Token::SemiColon) {}
    let rest = parser.peek_token();
    match rest.token {
        Token::EOF => Ok(statement),
        _ => parser.expected("the end of the statement", rest).map_err(syntax),
    }
}

/// Nothing in the parts that the engine plans may be passed over by it.
fn clauses_of(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::Query(statement) | Statement::Insert { statement, .. } => for_engine(statement.as_mut()),
        Statement::CreateTable(table) => table.query.as_deref_mut().map_or(Ok(()), for_engine),
        Statement::CreateView(view) => for_engine(view.query.as_mut()),
        Statement::Explain { statement, .. } => clauses_of(statement),
        _ => Ok(()),
    }
}

/// A part that the engine plans, in words that it knows.
fn for_engine(part: &mut impl VisitMut) -> Result<()> {
    clauses::check(part)?;
    like::rewrite(part)
}

fn statement(parser: &mut Parser<'_>) -> Result<Statement> {
    if let Some(own) = own_statement(parser)? {
        return Ok(own);
    }
    match parser.parse_statement().map_err(syntax)? {
        statement @ ast::Statement::Query(_) => Ok(Statement::Query(Box::new(statement))),
        ast::Statement::Insert(insert) => insert_into(insert),
        ast::Statement::StartTransaction { .. }
        | ast::Statement::Commit { .. }
        | ast::Statement::Rollback { .. } => {
            Err(Error::not_supported("a transaction").with_hint("every statement commits by itself"))
        }
        other => Err(Error::not_supported(format!("statement \"{}\"", first_words(&other.to_string())))),
    }
}

fn own_statement(parser: &mut Parser<'_>) -> Result<Option<Statement>> {
    if parser.parse_keyword(Keyword::EXPLAIN) {
        return explain(parser).map(Some);
    }
    if parser.parse_keyword(Keyword::SHOW) {
        return show::parse(parser).map(Statement::Show).map(Some);
    }
    if parser.parse_keyword(Keyword::DESCRIBE) || parser.parse_keyword(Keyword::DESC) {
        return show::parse_describe(parser).map(Statement::Show).map(Some);
    }
    if parser.parse_keyword(Keyword::USE) {
        let _optional = parser.parse_one_of_keywords(&[Keyword::SCHEMA, Keyword::DATABASE, Keyword::CATALOG]);
        let name = parser.parse_object_name(false).map_err(syntax)?;
        return Ok(Some(Statement::Use(ObjectName::new(&name, 2)?)));
    }
    if parser.parse_keyword(Keyword::SET) {
        return set(parser).map(Some);
    }
    if parser.parse_keyword(Keyword::RESET) {
        let name = parser.parse_identifier().map_err(syntax)?.value;
        let name = (!name.eq_ignore_ascii_case("all")).then_some(name);
        return Ok(Some(Statement::Reset(name)));
    }
    if parser.parse_keyword(Keyword::KILL) {
        let _optional = parser.parse_keyword(Keyword::QUERY);
        let id = parser.parse_literal_string().map_err(syntax)?;
        return Ok(Some(Statement::Kill(id)));
    }
    create_or_drop(parser)
}

fn create_or_drop(parser: &mut Parser<'_>) -> Result<Option<Statement>> {
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::TABLE]) {
        return create::parse(parser, false).map(|table| Some(Statement::CreateTable(Box::new(table))));
    }
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::OR, Keyword::REPLACE, Keyword::TABLE]) {
        return create::parse(parser, true).map(|table| Some(Statement::CreateTable(Box::new(table))));
    }
    if parser.parse_keywords(&[Keyword::DROP, Keyword::TABLE]) {
        let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let name = ObjectName::new(&parser.parse_object_name(false).map_err(syntax)?, 3)?;
        let purge = parser.parse_keyword(Keyword::PURGE);
        return Ok(Some(Statement::DropTable(DropTable { name, if_exists, purge })));
    }
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::VIEW]) {
        return view::parse(parser, false).map(|view| Some(Statement::CreateView(Box::new(view))));
    }
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::OR, Keyword::REPLACE, Keyword::VIEW]) {
        return view::parse(parser, true).map(|view| Some(Statement::CreateView(Box::new(view))));
    }
    if parser.parse_keywords(&[Keyword::DROP, Keyword::VIEW]) {
        return view::parse_drop(parser).map(|drop| Some(Statement::DropView(drop)));
    }
    for kind in [Keyword::SCHEMA, Keyword::DATABASE] {
        if parser.parse_keywords(&[Keyword::CREATE, kind]) {
            let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
            let name = ObjectName::new(&parser.parse_object_name(false).map_err(syntax)?, 2)?;
            return Ok(Some(Statement::CreateSchema { name, if_not_exists }));
        }
        if parser.parse_keywords(&[Keyword::DROP, kind]) {
            let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
            let name = ObjectName::new(&parser.parse_object_name(false).map_err(syntax)?, 2)?;
            let _optional = parser.parse_keyword(Keyword::RESTRICT);
            return Ok(Some(Statement::DropSchema { name, if_exists }));
        }
    }
    Ok(None)
}

fn explain(parser: &mut Parser<'_>) -> Result<Statement> {
    let analyze = parser.parse_keyword(Keyword::ANALYZE);
    let verbose = parser.parse_keyword(Keyword::VERBOSE);
    let statement = Box::new(statement(parser)?);
    match *statement {
        Statement::Query(_) | Statement::Insert { .. } | Statement::CreateTable(_) => {
            Ok(Statement::Explain { analyze, verbose, statement })
        }
        _ => Err(Error::not_supported("EXPLAIN of this statement")),
    }
}

/// `SET name = value`, `SET name TO value`, `SET TIME ZONE 'x'`; values may be bare words.
fn set(parser: &mut Parser<'_>) -> Result<Statement> {
    let _optional = parser.parse_one_of_keywords(&[Keyword::SESSION, Keyword::LOCAL]);
    if parser.parse_keywords(&[Keyword::TIME, Keyword::ZONE]) {
        return Ok(Statement::Set { name: "timezone".to_string(), value: set_value(parser)? });
    }
    let name = parser.parse_object_name(false).map_err(syntax)?;
    if !parser.consume_token(&Token::Eq) && !parser.parse_keyword(Keyword::TO) {
        let token = parser.peek_token();
        return parser.expected("= or TO", token).map_err(syntax);
    }
    Ok(Statement::Set { name: name.to_string(), value: set_value(parser)? })
}

fn set_value(parser: &mut Parser<'_>) -> Result<String> {
    let mut value = String::new();
    loop {
        match parser.peek_token().token {
            Token::EOF | Token::SemiColon => break,
            Token::SingleQuotedString(text) => value.push_str(&text),
            other => value.push_str(&other.to_string()),
        }
        parser.next_token();
    }
    match value.is_empty() {
        true => Err(Error::new(ErrorCode::SyntaxError, "SET needs a value")),
        false => Ok(value),
    }
}

fn insert_into(insert: ast::Insert) -> Result<Statement> {
    if insert.overwrite || insert.replace_into || insert.on.is_some() || insert.returning.is_some() {
        return Err(Error::not_supported("INSERT with OVERWRITE, REPLACE, ON CONFLICT or RETURNING"));
    }
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(Error::not_supported("INSERT into anything but a table"));
    };
    let table = ObjectName::new(name, 3)?;
    Ok(Statement::Insert { table, statement: Box::new(ast::Statement::Insert(insert)) })
}

fn first_words(text: &str) -> String {
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use tarn_scan::write::Transform;

    use super::*;

    #[test]
    fn a_syntax_error_names_line_and_column() {
        let error = parse("select *\nfrom t wher x = 1 1").unwrap_err();
        assert_eq!(error.code(), ErrorCode::SyntaxError);
        assert!(error.message().contains("Line: 2"), "{error}");
    }

    #[test]
    fn a_second_statement_is_refused() {
        assert!(parse("select 1;").is_ok());
        assert!(parse("select 1; select 2").is_err());
        assert!(parse(" ; -- nothing").is_err());
    }

    #[test]
    fn partition_transforms_are_read() {
        let sql = "create table if not exists a.b (x int, y timestamp not null, z string) \
                   partitioned by (month(y), bucket(16, x), truncate(z, 4), z) with (a = 'b')";
        let Statement::CreateTable(table) = parse(sql).unwrap() else { panic!("not a create table") };
        let transforms: Vec<_> = table.partition.iter().map(|field| field.transform).collect();
        assert_eq!(
            transforms,
            [Transform::Month, Transform::Bucket(16), Transform::Truncate(4), Transform::Identity]
        );
        assert_eq!(table.properties["a"], "b");
        assert!(table.if_not_exists);
    }

    #[test]
    fn settings_take_bare_and_quoted_values() {
        for sql in
            ["set query_timeout = 30s", "set query_timeout to '30s'", "SET session query_timeout='30s';"]
        {
            let Statement::Set { name, value } = parse(sql).unwrap() else { panic!("{sql}") };
            assert_eq!((name.as_str(), value.as_str()), ("query_timeout", "30s"), "{sql}");
        }
    }

    #[test]
    fn own_statements_are_known() {
        assert!(matches!(
            parse("show tables from shop like 'dim%'").unwrap(),
            Statement::Show(Show::Tables { .. })
        ));
        assert!(matches!(parse("describe shop.fact_sales").unwrap(), Statement::Show(Show::Columns { .. })));
        assert!(matches!(parse("kill query 'abc'").unwrap(), Statement::Kill(_)));
        assert!(matches!(parse("drop table if exists t purge").unwrap(), Statement::DropTable(_)));
        assert!(parse("begin").unwrap_err().hint().is_some());
    }
}
