//! `FOR VERSION AS OF`, `FOR TIMESTAMP AS OF` and the same without `FOR`.
//!
//! No dialect of the parser takes them all, so they are taken out of the token stream: the
//! table's name carries the selector (`"orders@version=42"`), and the alias keeps the name by
//! which the rest of the statement knows it. [`split_selector`] reads it back at binding.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::tokens::{is_alias, words_at};
use crate::error::{Error, ErrorCode, Result};

/// Which state of a table is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A snapshot by its id.
    Snapshot(i64),
    /// A branch or a tag by its name.
    Ref(String),
    /// The state at a time, as written; the session's time zone applies.
    Timestamp(String),
}

const SNAPSHOT: &str = "@snapshot=";
const REFERENCE: &str = "@ref=";
const TIMESTAMP: &str = "@timestamp=";

impl Selector {
    fn attach(&self, table: &str) -> String {
        match self {
            Self::Snapshot(id) => format!("{table}{SNAPSHOT}{id}"),
            Self::Ref(name) => format!("{table}{REFERENCE}{name}"),
            Self::Timestamp(text) => format!("{table}{TIMESTAMP}{text}"),
        }
    }
}

/// The plain name and the selector of a table name as it stands after [`rewrite`].
pub fn split_selector(name: &str) -> (&str, Option<Selector>) {
    if let Some((table, id)) = name.split_once(SNAPSHOT)
        && let Ok(id) = id.parse()
    {
        return (table, Some(Selector::Snapshot(id)));
    }
    if let Some((table, reference)) = name.split_once(REFERENCE) {
        return (table, Some(Selector::Ref(reference.to_string())));
    }
    if let Some((table, text)) = name.split_once(TIMESTAMP) {
        return (table, Some(Selector::Timestamp(text.to_string())));
    }
    (name, None)
}

/// Moves every time-travel clause into the name of its table.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 4);
    let mut at = 0;
    while at < tokens.len() {
        let clause = clause_at(&tokens, at);
        let Some((is_version, value_at)) = clause.filter(|_| ends_with_name(&out)) else {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        };
        let (selector, next) = selector(&tokens, is_version, value_at)?;
        apply(&mut out, &selector, is_alias(tokens.get(next)));
        at = next;
    }
    Ok(out)
}

/// `[FOR] VERSION|TIMESTAMP AS OF` at a token: whether it is a version, and where its value is.
fn clause_at(tokens: &[TokenWithSpan], at: usize) -> Option<(bool, usize)> {
    let start = if words_at(tokens, at, &["for"]) { at + 1 } else { at };
    let is_version = words_at(tokens, start, &["version", "as", "of"]);
    let is_timestamp = words_at(tokens, start, &["timestamp", "as", "of"]);
    if !is_version && !is_timestamp {
        return None;
    }
    // `select version as of from t` names a column: a value must follow.
    let value_at = start + 3;
    let value = &tokens.get(value_at)?.token;
    let is_value = matches!(value, Token::Number(..) | Token::SingleQuotedString(_))
        || words_at(tokens, value_at, &["timestamp"]);
    (is_value || start > at).then_some((is_version, value_at))
}

fn ends_with_name(out: &[TokenWithSpan]) -> bool {
    matches!(out.last().map(|token| &token.token), Some(Token::Word(word)) if word.quote_style.is_some()
        || !matches!(word.keyword, Keyword::SELECT | Keyword::FROM | Keyword::JOIN))
}

fn selector(tokens: &[TokenWithSpan], is_version: bool, at: usize) -> Result<(Selector, usize)> {
    let value_at = if !is_version && words_at(tokens, at, &["timestamp"]) { at + 1 } else { at };
    let next = value_at + 1;
    match (is_version, tokens.get(value_at).map(|token| &token.token)) {
        (true, Some(Token::Number(digits, _))) => match digits.parse() {
            Ok(id) => Ok((Selector::Snapshot(id), next)),
            Err(_) => Err(refuse(tokens, value_at, "a snapshot id is a whole number")),
        },
        (true, Some(Token::SingleQuotedString(name))) => Ok((Selector::Ref(name.clone()), next)),
        (true, _) => {
            Err(refuse(tokens, value_at, "VERSION AS OF takes a snapshot id or the name of a branch or tag"))
        }
        (false, Some(Token::SingleQuotedString(text))) => Ok((Selector::Timestamp(text.clone()), next)),
        (false, _) => Err(refuse(tokens, value_at, "TIMESTAMP AS OF takes a timestamp literal")),
    }
}

fn refuse(tokens: &[TokenWithSpan], at: usize, message: &str) -> Error {
    let place = tokens.get(at).or(tokens.last()).map(|token| token.span.start);
    let place = place.map(|place| place.to_string()).unwrap_or_default();
    Error::new(ErrorCode::SyntaxError, format!("{message}{place}"))
}

/// Puts the selector into the last name, and keeps the name as an alias if none follows.
fn apply(out: &mut Vec<TokenWithSpan>, selector: &Selector, has_alias: bool) {
    let Some(last) = out.last_mut() else { return };
    let span = last.span;
    let Token::Word(name) = &mut last.token else { return };
    // Unquoted names fold to lower case, as everywhere.
    let plain = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
    *name = quoted(selector.attach(&plain));
    if !has_alias {
        let word = |value| TokenWithSpan::new(value, span);
        out.push(word(Token::make_keyword("AS")));
        out.push(word(Token::Word(quoted(plain))));
    }
}

fn quoted(value: String) -> Word {
    Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::tokens::tokenize;

    fn rewritten(sql: &str) -> String {
        let tokens = rewrite(tokenize(sql).unwrap()).unwrap();
        tokens.iter().map(|token| token.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn both_spellings_move_into_the_name() {
        assert_eq!(
            rewritten("select * from a.orders for version as of 42 where x = 1"),
            r#"select * from a . "orders@snapshot=42" AS "orders" where x = 1"#
        );
        assert_eq!(
            rewritten("select * from Orders version as of 'dev' o join t on true"),
            r#"select * from "orders@ref=dev" o join t on true"#
        );
        assert_eq!(
            rewritten("select * from t for timestamp as of timestamp '2024-01-01' as x, u"),
            r#"select * from "t@timestamp=2024-01-01" as x , u"#
        );
    }

    #[test]
    fn a_column_named_version_stays_a_column() {
        assert_eq!(rewritten("select version as of from t"), "select version as of from t");
    }

    #[test]
    fn a_selector_reads_back() {
        assert_eq!(split_selector("t@snapshot=7"), ("t", Some(Selector::Snapshot(7))));
        assert_eq!(split_selector("t"), ("t", None));
    }
}
