//! Text to statements: where one ends, and whether more is to come.
//!
//! Knows quotes (`'…'`, `"…"`, `` `…` ``, `E'…'`), comments (`--`, nested `/* */`), dollar
//! quotes (`$tag$…$tag$`) and the shell's own commands (`\d`), which stand at the start of a
//! statement and end with the line. The rule: it never changes a statement's text, so that
//! the server's positions fit it.

/// A piece of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its text, trimmed, without the `;`.
    pub text: &'a str,
    /// The line of the input in which it begins, comments aside, from 1.
    pub line: usize,
}

/// What a piece of input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A statement that its `;` ended.
    Statement,
    /// A command of the shell.
    Command,
    /// A statement that nothing ended.
    Rest,
    /// A statement in which a quote or comment is still open.
    Unclosed,
}

/// Splits input into its pieces. Blank statements are left out.
pub fn split(input: &str) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let mut scanner = Scanner { input, at: 0 };
    loop {
        scanner.skip_blanks();
        let start = scanner.at;
        if start == input.len() {
            return items;
        }
        let line_of = |at: usize| 1 + input[..at].matches('\n').count();
        if scanner.rest().starts_with('\\') {
            scanner.skip_line();
            let text = input[start..scanner.at].trim().trim_end_matches(';').trim_end();
            items.push(Item { kind: Kind::Command, text, line: line_of(start) });
            continue;
        }
        let (kind, end, first) = scanner.skip_statement();
        if let Some(first) = first {
            items.push(Item { kind, text: input[start..end].trim_end(), line: line_of(first) });
        }
    }
}

/// Whether a line editor may hand the input over: everything in it is ended.
pub fn is_complete(input: &str) -> bool {
    let items = split(input);
    items
        .last()
        .is_none_or(|last| matches!(last.kind, Kind::Statement | Kind::Command) || is_farewell(last.text))
}

/// `quit` and `exit` need no `;`.
pub fn is_farewell(text: &str) -> bool {
    text.eq_ignore_ascii_case("quit") || text.eq_ignore_ascii_case("exit")
}

struct Scanner<'a> {
    input: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// Moves behind the statement; returns how it ended, where its text ends, and where it has
    /// something other than comments, if anywhere.
    fn skip_statement(&mut self) -> (Kind, usize, Option<usize>) {
        let mut first = None;
        let mut previous = ' ';
        while let Some(next) = self.rest().chars().next() {
            let rest = self.rest();
            if next == ';' {
                let end = self.at;
                self.at += 1;
                return (Kind::Statement, end, first);
            } else if rest.starts_with("--") {
                self.skip_line();
            } else if rest.starts_with("/*") {
                let start = self.at;
                if !self.skip_block_comment() {
                    return (Kind::Unclosed, self.at, first.or(Some(start)));
                }
            } else {
                if !next.is_whitespace() {
                    first.get_or_insert(self.at);
                }
                let closed = match next {
                    '\'' => self.skip_quoted('\'', matches!(previous, 'e' | 'E') && self.is_prefix()),
                    '"' | '`' => self.skip_quoted(next, false),
                    '$' if !is_word(previous) => self.skip_dollar_quoted(),
                    _ => {
                        self.at += next.len_utf8();
                        true
                    }
                };
                if !closed {
                    return (Kind::Unclosed, self.at, first);
                }
            }
            previous = next;
        }
        (Kind::Rest, self.at, first)
    }

    /// Whether the letter before the quote stands alone, so that it says how to read it.
    fn is_prefix(&self) -> bool {
        let mut before = self.input[..self.at].chars().rev();
        before.next();
        !before.next().is_some_and(is_word)
    }

    /// A doubled quote stands for itself; a backslash escapes in `E'…'` alone.
    fn skip_quoted(&mut self, quote: char, backslash: bool) -> bool {
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((index, next)) = chars.next() {
            if backslash && next == '\\' {
                chars.next();
            } else if next == quote && chars.next_if(|(_, after)| *after == quote).is_none() {
                self.at += index + next.len_utf8();
                return true;
            }
        }
        self.at = self.input.len();
        false
    }

    fn skip_block_comment(&mut self) -> bool {
        let mut depth = 0;
        loop {
            let rest = self.rest();
            if rest.starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if rest.starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return true;
                }
            } else if let Some(next) = rest.chars().next() {
                self.at += next.len_utf8();
            } else {
                return false;
            }
        }
    }

    /// `$tag$ … $tag$`. A `$` that opens none, as in `$1`, is passed over.
    fn skip_dollar_quoted(&mut self) -> bool {
        let rest = self.rest();
        let tag_end = rest[1..].find('$').map(|end| end + 2);
        let tag = tag_end.map(|end| &rest[..end]).filter(|tag| {
            let name = &tag[1..tag.len() - 1];
            name.chars().all(is_word) && !name.starts_with(|first: char| first.is_ascii_digit())
        });
        let Some(tag) = tag else {
            self.at += 1;
            return true;
        };
        match rest[tag.len()..].find(tag) {
            Some(end) => {
                self.at += end + 2 * tag.len();
                true
            }
            None => {
                self.at = self.input.len();
                false
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Vec<&str> {
        split(input).into_iter().map(|item| item.text).collect()
    }

    #[test]
    fn statements_end_at_semicolons_outside_quotes_and_comments() {
        assert_eq!(texts("select 1; select 2 ;"), ["select 1", "select 2"]);
        assert_eq!(texts("select ';', \"a;b\", `c;d`;x"), ["select ';', \"a;b\", `c;d`", "x"]);
        assert_eq!(texts("select 'it''s;'; y;"), ["select 'it''s;'", "y"]);
        assert_eq!(texts("select 1 -- a; b\n, 2;"), ["select 1 -- a; b\n, 2"]);
        assert_eq!(texts("select /* ; /* ; */ ; */ 1;"), ["select /* ; /* ; */ ; */ 1"]);
        assert_eq!(texts("select $$;$$, $t$ ; $$ ; $t$; z"), ["select $$;$$, $t$ ; $$ ; $t$", "z"]);
    }

    #[test]
    fn backslash_escapes_in_e_strings_only() {
        assert_eq!(texts(r"select e'\';'; x;"), [r"select e'\';'", "x"]);
        assert_eq!(texts(r"select '\'; x;"), [r"select '\'", "x"]);
        assert_eq!(texts(r"select date'\'; x;"), [r"select date'\'", "x"]);
    }

    #[test]
    fn placeholders_are_no_dollar_quotes() {
        assert_eq!(texts("select $1, $2; select a$b$c;"), ["select $1, $2", "select a$b$c"]);
    }

    #[test]
    fn blank_statements_are_left_out() {
        assert!(texts(" ;; -- nothing\n; /* none */ ; ").is_empty());
        assert!(texts("").is_empty());
    }

    #[test]
    fn a_statement_begins_behind_its_comments() {
        let items = split("-- one\n/* two\n*/ select 1;\n\nselect\n2;");
        assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn commands_end_with_the_line() {
        let items = split("\\d sales;\nselect 1;\n  \\x\n");
        let kinds: Vec<_> = items.iter().map(|item| (item.kind, item.text, item.line)).collect();
        assert_eq!(
            kinds,
            [(Kind::Command, "\\d sales", 1), (Kind::Statement, "select 1", 2), (Kind::Command, "\\x", 3)]
        );
    }

    #[test]
    fn input_is_complete_when_everything_is_ended() {
        for input in ["", "select 1;", "\\d", "select 1; -- done", "quit", "EXIT", "select ';' ; "] {
            assert!(is_complete(input), "{input}");
        }
        for input in ["select 1", "select ';", "select 1; select", "select /* ;", "select $$ ;", "select \";"]
        {
            assert!(!is_complete(input), "{input}");
        }
    }

    #[test]
    fn unclosed_is_told_from_unended() {
        assert_eq!(split("select 1")[0].kind, Kind::Rest);
        assert_eq!(split("select 'x")[0].kind, Kind::Unclosed);
        assert_eq!(split("/* x")[0].kind, Kind::Unclosed);
    }

    #[test]
    fn any_text_is_taken() {
        for input in ["'", "$", "$$", "\\", "E'\\", "ä$ö$ü", "--", "/*/", "\u{1F980};\u{1F980}"] {
            split(input);
        }
    }
}
