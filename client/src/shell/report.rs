//! How an error looks: the message, a caret under the place, the hint, the query.
//!
//! The server names places as line and column of the statement it was sent; this module finds
//! them in the message and points there. The rule: text only, no terminal.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use crate::error::Error;

/// Columns of a statement's line that are shown around the caret.
const LINE_WIDTH_MAX: usize = 100;

/// The error as lines of text, ended by a newline. `place` names file and line of a script.
pub fn report(error: &Error, sql: &str, place: Option<&str>) -> String {
    let mut text = String::new();
    let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
    let _ = writeln!(text, "{place}error: {error}");
    if let Some((line, column)) = position(&error.to_string())
        && let Some(pointed) = point(sql, line, column)
    {
        text.push_str(&pointed);
    }
    if let Some(refusal) = error.refusal() {
        if let Some(hint) = &refusal.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        if let Some(id) = &refusal.query_id {
            let _ = writeln!(text, "query: {id}");
        }
    }
    text
}

/// The last `line L, column C` of a message, in any of the usual spellings.
fn position(message: &str) -> Option<(usize, usize)> {
    // ASCII only: byte offsets stay those of the message.
    let lower = message.to_ascii_lowercase();
    lower.match_indices("line").filter_map(|(at, word)| after_line(&lower[at + word.len()..])).last()
}

fn after_line(text: &str) -> Option<(usize, usize)> {
    let (line, text) = number(text)?;
    let text = text.trim_start_matches([',', ':', ' ']);
    let (column, _) = number(text.strip_prefix("column").unwrap_or(text))?;
    (line > 0 && column > 0).then_some((line, column))
}

fn number(text: &str) -> Option<(usize, &str)> {
    let text = text.trim_start_matches([':', ' ']);
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The line with a caret under the column; both count from 1, columns in characters.
fn point(sql: &str, line: usize, column: usize) -> Option<String> {
    let source = sql.lines().nth(line - 1)?;
    let count = source.chars().count();
    // One behind the end is where something is missing.
    if column > count + 1 {
        return None;
    }
    let start = column.saturating_sub(LINE_WIDTH_MAX * 3 / 4);
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = source.chars().skip(start).take(LINE_WIDTH_MAX).map(visible).collect();
    let before: String = shown.chars().take(column - 1 - start).collect();
    let prefix = if sql.lines().nth(1).is_some() { format!("line {line}: ") } else { String::from("  ") };
    Some(format!("{prefix}{shown}\n{:blanks$}^\n", "", blanks = prefix.width() + before.width()))
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn caret_stands_under_the_place() {
        let error = Error::from(Status::invalid_argument("expected: an expression at Line: 1, Column: 8"));
        assert_eq!(
            report(&error, "select form t", None),
            "error: expected: an expression at Line: 1, Column: 8\n  select form t\n         ^\n"
        );
        let error = Error::from(Status::invalid_argument("syntax error at line 2, column 3"));
        assert_eq!(
            report(&error, "select\n  ) x", Some("a.sql:7")),
            "a.sql:7: error: syntax error at line 2, column 3\nline 2:   ) x\n          ^\n"
        );
    }

    #[test]
    fn positions_are_found_in_the_usual_spellings() {
        assert_eq!(position("found: x at Line: 3, Column: 14"), Some((3, 14)));
        assert_eq!(position("unexpected end at line 1 column 2"), Some((1, 2)));
        assert_eq!(position("at line 4:5"), Some((4, 5)));
        assert_eq!(position("table \"lineitem\" not found"), None);
        assert_eq!(position("line 0, column 0"), None);
    }

    #[test]
    fn a_place_outside_the_statement_is_not_pointed_at() {
        assert_eq!(point("select", 2, 1), None);
        assert_eq!(point("select", 1, 9), None);
        assert!(point("select", 1, 7).is_some());
        assert!(point(&"x ".repeat(500), 1, 700).unwrap().contains('^'));
    }
}
