//! LIKE patterns of the metadata commands: `%`, `_`, and `\` to take either literally.
//!
//! Tools escape names that contain `_` (DBeaver does it for every table), so the escape is
//! not optional. Matching is case-sensitive: names are compared as they are stored.

/// A pattern; made once, matched against many names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyOne,
    AnyMany,
}

impl Pattern {
    /// Reads a pattern. A `\` before anything else than `%`, `_` and `\` stands for itself.
    pub fn new(text: &str) -> Self {
        let mut tokens = Vec::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let token = match c {
                '%' => Token::AnyMany,
                '_' => Token::AnyOne,
                '\\' => match chars.next_if(|next| matches!(next, '%' | '_' | '\\')) {
                    Some(escaped) => Token::Literal(escaped),
                    None => Token::Literal('\\'),
                },
                other => Token::Literal(other),
            };
            // `%%` means `%`; kept apart it would cost time and say nothing more.
            if !(token == Token::AnyMany && tokens.last() == Some(&Token::AnyMany)) {
                tokens.push(token);
            }
        }
        Self { tokens }
    }

    /// Whether a whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut token) = (0, 0);
        // Where to go on after the last `%`: the token behind it, and how much it has taken.
        let mut retry: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.tokens.get(token) {
                Some(Token::AnyMany) => {
                    retry = Some((token + 1, at));
                    token += 1;
                }
                Some(Token::AnyOne) => (at, token) = (at + 1, token + 1),
                Some(Token::Literal(c)) if *c == name[at] => (at, token) = (at + 1, token + 1),
                _ => match retry {
                    Some((behind, taken)) => {
                        retry = Some((behind, taken + 1));
                        (at, token) = (taken + 1, behind);
                    }
                    None => return false,
                },
            }
        }
        self.tokens[token..].iter().all(|rest| *rest == Token::AnyMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_sql_says() {
        let cases = [
            ("%", "", true),
            ("%", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("a_c", "abc", true),
            ("a_c", "ac", false),
            ("%sales", "fact_sales", true),
            ("fact%", "fact_sales", true),
            ("%a%b%", "xxaxxbxx", true),
            ("%a%b%", "xxbxxaxx", false),
            ("%%__%", "ab", true),
            ("%%__%", "a", false),
            ("straße_", "straßen", true),
            ("Fact%", "fact_sales", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_backslash_takes_wildcards_literally() {
        let cases = [
            (r"fact\_sales", "fact_sales", true),
            (r"fact\_sales", "factxsales", false),
            (r"100\%", "100%", true),
            (r"100\%", "100 percent", false),
            (r"a\\b", r"a\b", true),
            (r"a\b", r"a\b", true),
            (r"a\", r"a\", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }
}
