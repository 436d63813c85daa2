//! `?` becomes `$1`, `$2`, … in the order of the text: drivers send the one, the engine knows
//! the other. Tokens are rewritten, so strings and comments are never touched.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Error, ErrorCode, Result};

/// Numbers the question marks; refuses a text that mixes both kinds.
pub(super) fn number(tokens: &mut [TokenWithSpan]) -> Result<()> {
    let mut questions = 0;
    let mut dollars = false;
    for token in tokens {
        let Token::Placeholder(name) = &mut token.token else { continue };
        match name.strip_prefix('?') {
            Some("") => {
                questions += 1;
                *name = format!("${questions}");
            }
            Some(position) => {
                *name = format!("${position}");
                dollars = true;
            }
            None => dollars = true,
        }
    }
    if questions > 0 && dollars {
        return Err(Error::new(
            ErrorCode::SyntaxError,
            "parameters are either ? or $1, not both in one statement",
        ));
    }
    Ok(())
}
