//! `CREATE TABLE` as Iceberg has it: hidden partitioning by transforms, properties, location.
//!
//! The grammar, in the order that Spark and Trino users know; clauses after the columns may
//! stand in any order:
//!
//! ```text
//! CREATE [OR REPLACE] TABLE [IF NOT EXISTS] name [( column type [NOT NULL] [COMMENT 'text'], … )]
//!   [USING ICEBERG] [PARTITIONED BY ( column | month(column) | bucket(16, column), … )]
//!   [LOCATION 'uri'] [COMMENT 'text'] [TBLPROPERTIES | WITH ( 'key' = 'value', … )] [AS query]
//! ```

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{
    self, ColumnDef, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use tarn_scan::write::Transform;

use super::name::{ObjectName, fold};
use crate::error::{Error, ErrorCode, Result};

/// A parsed `CREATE TABLE`.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// The table's name.
    pub name: ObjectName,
    /// `OR REPLACE` was given.
    pub or_replace: bool,
    /// `IF NOT EXISTS` was given.
    pub if_not_exists: bool,
    /// The column definitions; empty for a `CREATE TABLE AS` without them.
    pub columns: Vec<ColumnDef>,
    /// The partition fields, in order.
    pub partition: Vec<PartitionField>,
    /// Table properties; `COMMENT` stands as `comment`.
    pub properties: BTreeMap<String, String>,
    /// The table's folder, if it is not the default.
    pub location: Option<String>,
    /// The query of `AS`.
    pub query: Option<Box<ast::Query>>,
}

/// One field of `PARTITIONED BY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionField {
    /// The source column.
    pub column: String,
    /// The transform; a bare column is `identity`.
    pub transform: Transform,
}

/// Parses what follows `CREATE [OR REPLACE] TABLE`.
pub(super) fn parse(parser: &mut Parser<'_>, or_replace: bool) -> Result<CreateTable> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = ObjectName::new(&parser.parse_object_name(false).map_err(syntax)?, 3)?;
    let (columns, constraints) = parser.parse_columns().map_err(syntax)?;
    if !constraints.is_empty() {
        return Err(Error::not_supported("a table constraint (primary key, unique, check, foreign key)"));
    }
    let mut table = CreateTable {
        name,
        or_replace,
        if_not_exists,
        columns,
        partition: Vec::new(),
        properties: BTreeMap::new(),
        location: None,
        query: None,
    };
    while clause(parser, &mut table)? {}
    if parser.parse_keyword(Keyword::AS) {
        table.query = Some(parser.parse_query().map_err(syntax)?);
    }
    if table.query.is_none() && table.columns.is_empty() {
        return Err(Error::new(ErrorCode::SyntaxError, "CREATE TABLE needs columns or AS with a query"));
    }
    if table.query.is_some() && !table.columns.is_empty() {
        return Err(Error::not_supported("CREATE TABLE AS with column definitions"));
    }
    if or_replace && if_not_exists {
        return Err(Error::new(ErrorCode::SyntaxError, "OR REPLACE and IF NOT EXISTS exclude each other"));
    }
    Ok(table)
}

fn clause(parser: &mut Parser<'_>, table: &mut CreateTable) -> Result<bool> {
    if parser.parse_keyword(Keyword::USING) {
        let format = parser.parse_identifier().map_err(syntax)?;
        if !format.value.eq_ignore_ascii_case("iceberg") {
            return Err(Error::not_supported(format!("table format \"{}\"", format.value)));
        }
    } else if parser.parse_keywords(&[Keyword::PARTITIONED, Keyword::BY]) {
        parser.expect_token(&Token::LParen).map_err(syntax)?;
        let fields = parser.parse_comma_separated(Parser::parse_expr).map_err(syntax)?;
        parser.expect_token(&Token::RParen).map_err(syntax)?;
        table.partition = fields.iter().map(partition_field).collect::<Result<_>>()?;
    } else if parser.parse_keyword(Keyword::LOCATION) {
        table.location = Some(parser.parse_literal_string().map_err(syntax)?);
    } else if parser.parse_keyword(Keyword::COMMENT) {
        let comment = parser.parse_literal_string().map_err(syntax)?;
        table.properties.insert("comment".to_string(), comment);
    } else if parser.parse_keyword(Keyword::TBLPROPERTIES) || parser.parse_keyword(Keyword::WITH) {
        table.properties.extend(properties(parser)?);
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Parses `( key = value, … )`.
pub(super) fn properties(parser: &mut Parser<'_>) -> Result<Vec<(String, String)>> {
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let properties = parser.parse_comma_separated(property).map_err(syntax)?;
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(properties)
}

fn property(
    parser: &mut Parser<'_>,
) -> std::result::Result<(String, String), datafusion::sql::sqlparser::parser::ParserError> {
    let key = match parser.peek_token().token {
        Token::SingleQuotedString(_) => parser.parse_literal_string()?,
        _ => {
            let name = parser.parse_object_name(false)?;
            name.to_string().replace('"', "")
        }
    };
    parser.expect_token(&Token::Eq)?;
    let token = parser.next_token();
    let value = match token.token {
        Token::SingleQuotedString(text) | Token::Number(text, _) => text,
        Token::Word(word) => word.value,
        _ => return parser.expected("a property's value", token),
    };
    Ok((key, value))
}

/// `column`, `month(column)`, `bucket(16, column)`, `truncate(column, 4)`: both orders of
/// arguments are in use.
fn partition_field(expr: &Expr) -> Result<PartitionField> {
    if let Expr::Identifier(column) = expr {
        return Ok(PartitionField { column: fold(column), transform: Transform::Identity });
    }
    let refuse = || {
        Error::invalid(format!("\"{expr}\" is not a partition field"))
            .with_hint("column, year(column), month(column), day(column), hour(column), bucket(n, column) or truncate(n, column)")
    };
    let Expr::Function(function) = expr else { return Err(refuse()) };
    let FunctionArguments::List(list) = &function.args else { return Err(refuse()) };
    let mut column = None;
    let mut width = None;
    for argument in &list.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name))) => column = Some(fold(name)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
                Value::Number(digits, _) => width = digits.parse::<u32>().ok().filter(|width| *width > 0),
                _ => return Err(refuse()),
            },
            _ => return Err(refuse()),
        }
    }
    let column = column.ok_or_else(refuse)?;
    let transform = match (function.name.to_string().to_ascii_lowercase().as_str(), width) {
        ("identity", None) => Transform::Identity,
        ("year" | "years", None) => Transform::Year,
        ("month" | "months", None) => Transform::Month,
        ("day" | "days" | "date", None) => Transform::Day,
        ("hour" | "hours" | "date_hour", None) => Transform::Hour,
        ("void", None) => Transform::Void,
        ("bucket", Some(buckets)) => Transform::Bucket(buckets),
        ("truncate", Some(width)) => Transform::Truncate(width),
        _ => return Err(refuse()),
    };
    Ok(PartitionField { column, transform })
}

pub(super) fn syntax(error: datafusion::sql::sqlparser::parser::ParserError) -> Error {
    let text = error.to_string();
    let text = text.strip_prefix("sql parser error: ").unwrap_or(&text);
    Error::new(ErrorCode::SyntaxError, text)
}
