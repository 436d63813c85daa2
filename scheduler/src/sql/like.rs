//! `LIKE 'pattern' ESCAPE 'c'`, which the engine knows for the backslash alone.
//!
//! A pattern that is a constant is written anew with the backslash. One that is known only row by row is refused by
//! name, for then the rows would have to be written anew.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Value, ValueWithSpan, VisitMut, visit_expressions_mut};

use crate::error::{Error, ErrorCode, Result};

/// What the engine escapes with.
const BACKSLASH: char = '\\';

/// Rewrites every `LIKE` and `ILIKE` with an escape character of its own.
pub(super) fn rewrite(part: &mut impl VisitMut) -> Result<()> {
    let walked = visit_expressions_mut(part, |expr| match rewrite_one(expr) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    match walked {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

fn rewrite_one(expr: &mut Expr) -> Result<()> {
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else {
        return Ok(());
    };
    let Some(escape) = escape_char.take() else { return Ok(()) };
    let escape = match &escape.value {
        Value::SingleQuotedString(text) => single(text),
        _ => None,
    };
    let Some(escape) = escape else {
        return Err(Error::new(ErrorCode::InvalidArgument, "ESCAPE takes one character in quotes"));
    };
    if escape == BACKSLASH {
        return Ok(());
    }
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = pattern.as_mut() else {
        return Err(Error::not_supported("LIKE with ESCAPE and a pattern that is no constant"));
    };
    *text = with_backslash(text, escape).ok_or_else(|| {
        let message = format!("a pattern of LIKE ends with its escape character {escape:?}");
        Error::new(ErrorCode::InvalidArgument, message)
    })?;
    Ok(())
}

fn single(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}

/// `None` if nothing follows an escape character.
fn with_backslash(pattern: &str, escape: char) -> Option<String> {
    let mut written = String::with_capacity(pattern.len() + 2);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let literal = if character == escape { Some(characters.next()?) } else { None };
        match literal.unwrap_or(character) {
            '%' | '_' if literal.is_none() => written.push(character),
            // A character that means something to the engine.
            meant @ ('%' | '_' | BACKSLASH) => written.extend([BACKSLASH, meant]),
            meant => written.push(meant),
        }
    }
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_written_anew() {
        for (pattern, escape, expected) in [
            ("10!%", '!', Some("10\\%")),
            ("a!_b%_", '!', Some("a\\_b%_")),
            ("!!", '!', Some("!")),
            ("!a", '!', Some("a")),
            ("a\\b", '!', Some("a\\\\b")),
            ("!\\", '!', Some("\\\\")),
            ("%%", '%', Some("\\%")),
            ("ä€_", '€', Some("ä\\_")),
            ("", '!', Some("")),
            ("a!", '!', None),
        ] {
            assert_eq!(with_backslash(pattern, escape).as_deref(), expected, "{pattern}");
        }
    }
}
