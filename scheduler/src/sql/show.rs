//! `SHOW`, `DESCRIBE` and their like: statements that ask the server about itself.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::create::syntax;
use super::name::ObjectName;
use crate::error::{Error, ErrorCode, Result};

/// A parsed `SHOW …` or `DESCRIBE …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// `SHOW CATALOGS [LIKE 'pattern']`.
    Catalogs {
        /// Pattern of the names.
        like: Option<String>,
    },
    /// `SHOW SCHEMAS [FROM catalog] [LIKE 'pattern']`.
    Schemas {
        /// The catalog, else the session's.
        catalog: Option<String>,
        /// Pattern of the names.
        like: Option<String>,
    },
    /// `SHOW TABLES [FROM [catalog.]schema] [LIKE 'pattern']`.
    Tables {
        /// The schema, else the session's.
        schema: Option<ObjectName>,
        /// Pattern of the names.
        like: Option<String>,
    },
    /// `SHOW VIEWS [FROM [catalog.]schema] [LIKE 'pattern']`.
    Views {
        /// The schema, else the session's.
        schema: Option<ObjectName>,
        /// Pattern of the names.
        like: Option<String>,
    },
    /// `SHOW CREATE VIEW view`.
    CreateView {
        /// The view.
        view: ObjectName,
    },
    /// `SHOW COLUMNS FROM table`, `DESCRIBE table`.
    Columns {
        /// The table.
        table: ObjectName,
    },
    /// `SHOW QUERIES`.
    Queries,
    /// `SHOW POOLS`.
    Pools,
    /// `SHOW ALL`.
    Settings,
    /// `SHOW name`.
    Setting {
        /// The setting's name.
        name: String,
    },
}

/// Parses what follows `SHOW`.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Show> {
    let word = first_word(parser)?;
    match word.as_str() {
        "catalogs" => Ok(Show::Catalogs { like: like(parser)? }),
        "schemas" | "databases" | "namespaces" => {
            let catalog = from(parser)?.map(|name| ObjectName::new(&name, 1)).transpose()?;
            Ok(Show::Schemas { catalog: catalog.map(|name| name.last().to_string()), like: like(parser)? })
        }
        "tables" => {
            let schema = from(parser)?.map(|name| ObjectName::new(&name, 2)).transpose()?;
            Ok(Show::Tables { schema, like: like(parser)? })
        }
        "views" => {
            let schema = from(parser)?.map(|name| ObjectName::new(&name, 2)).transpose()?;
            Ok(Show::Views { schema, like: like(parser)? })
        }
        "create" => {
            parser.expect_keyword(Keyword::VIEW).map_err(syntax)?;
            let name = parser.parse_object_name(false).map_err(syntax)?;
            Ok(Show::CreateView { view: ObjectName::new(&name, 3)? })
        }
        "columns" => match from(parser)? {
            Some(name) => Ok(Show::Columns { table: ObjectName::new(&name, 3)? }),
            None => Err(Error::new(ErrorCode::SyntaxError, "SHOW COLUMNS needs FROM with a table")),
        },
        "queries" => Ok(Show::Queries),
        "pools" => Ok(Show::Pools),
        "all" => Ok(Show::Settings),
        "time" => {
            let zone = first_word(parser)?;
            Ok(Show::Setting { name: format!("time {zone}") })
        }
        _ => Ok(Show::Setting { name: word }),
    }
}

/// Parses what follows `DESCRIBE` or `DESC`.
pub(super) fn parse_describe(parser: &mut Parser<'_>) -> Result<Show> {
    let _optional = parser.parse_keyword(Keyword::TABLE);
    let name = parser.parse_object_name(false).map_err(syntax)?;
    Ok(Show::Columns { table: ObjectName::new(&name, 3)? })
}

fn first_word(parser: &mut Parser<'_>) -> Result<String> {
    let token = parser.next_token();
    match token.token {
        Token::Word(word) => Ok(word.value.to_lowercase()),
        _ => parser.expected("a name after SHOW", token).map_err(syntax),
    }
}

fn from(parser: &mut Parser<'_>) -> Result<Option<ast::ObjectName>> {
    match parser.parse_one_of_keywords(&[Keyword::FROM, Keyword::IN]) {
        Some(_) => parser.parse_object_name(false).map(Some).map_err(syntax),
        None => Ok(None),
    }
}

fn like(parser: &mut Parser<'_>) -> Result<Option<String>> {
    match parser.parse_keyword(Keyword::LIKE) {
        true => parser.parse_literal_string().map(Some).map_err(syntax),
        false => Ok(None),
    }
}
