//! The text as tokens with their places, and the small tools to look at them.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::dialect::TarnDialect;
use crate::error::{Error, ErrorCode, Result};

/// Longest SQL text that is taken, in bytes.
const SQL_BYTES_MAX: usize = 4 << 20;

/// The dialect that names, quotes and operators follow; what it lacks is in this room.
pub(super) static DIALECT: TarnDialect = TarnDialect;

/// The tokens of a text without white space and comments. A text that cannot be cut into
/// tokens is a syntax error with line and column.
pub(super) fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>> {
    if sql.len() > SQL_BYTES_MAX {
        let message = format!("the statement has {} bytes, more than {SQL_BYTES_MAX}", sql.len());
        return Err(Error::new(ErrorCode::LimitExceeded, message));
    }
    let tokens = Tokenizer::new(&DIALECT, sql)
        .tokenize_with_location()
        .map_err(|error| Error::new(ErrorCode::SyntaxError, error.to_string()))?;
    Ok(tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect())
}

/// Whether the tokens from `at` on are these words, in any case, unquoted.
pub(super) fn words_at(tokens: &[TokenWithSpan], at: usize, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(offset, word)| {
        matches!(tokens.get(at + offset).map(|token| &token.token),
            Some(Token::Word(found)) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
    })
}

/// Whether a token may stand as a table's alias: a quoted word, or one that no clause begins with.
pub(super) fn is_alias(token: Option<&TokenWithSpan>) -> bool {
    use datafusion::sql::sqlparser::keywords::RESERVED_FOR_TABLE_ALIAS;
    match token.map(|token| &token.token) {
        Some(Token::Word(word)) => {
            word.quote_style.is_some()
                || word.keyword == Keyword::AS
                || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        _ => false,
    }
}
