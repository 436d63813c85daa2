//! The shell's own commands: `\d` and its kin.
//!
//! Parsing only; [`super::session`] carries them out. The rule: a command never changes data.

/// A command of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `\d`: tables of the current catalog.
    Tables,
    /// `\d NAME`: columns of a table.
    Describe(String),
    /// `\l`: catalogs.
    Catalogs,
    /// `\dn`: schemas of the current catalog.
    Schemas,
    /// `\timing [on|off]`.
    Timing(Option<bool>),
    /// `\x [on|off]`.
    Expanded(Option<bool>),
    /// `\?`.
    Help,
    /// `\q`.
    Quit,
}

/// What `\?` prints.
pub const HELP: &str = "\
\\d            tables of the current catalog
\\d NAME       columns of a table
\\dn           schemas of the current catalog
\\l            catalogs
\\timing       time of each statement, on or off
\\x            one column a line, on or off
\\q            leave (also Ctrl-D)
\\?            this help

A statement ends with ; and may have many lines.
Ctrl-C cancels a running query on the cluster; at the prompt it clears the input.
Tab completes keywords and names; Ctrl-R searches the history.";

/// Words that may follow the backslash, for completion.
pub const NAMES: &[&str] = &["\\?", "\\d", "\\dn", "\\l", "\\q", "\\timing", "\\x"];

impl Command {
    /// Reads a command with its backslash; the error is for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let argument = argument.trim();
        let command = match name {
            "\\d" | "\\dt" if argument.is_empty() => return Ok(Command::Tables),
            "\\d" => return Ok(Command::Describe(argument.to_string())),
            "\\timing" => return Ok(Command::Timing(switch(name, argument)?)),
            "\\x" => return Ok(Command::Expanded(switch(name, argument)?)),
            "\\l" => Command::Catalogs,
            "\\dn" => Command::Schemas,
            "\\?" | "\\h" | "\\help" => Command::Help,
            "\\q" | "\\quit" => Command::Quit,
            _ => return Err(format!("command \"{name}\" is unknown")),
        };
        if argument.is_empty() { Ok(command) } else { Err(format!("command \"{name}\" takes no argument")) }
    }
}

/// `on`, `off`, or nothing for the other one.
fn switch(name: &str, argument: &str) -> Result<Option<bool>, String> {
    match argument {
        "" => Ok(None),
        "on" => Ok(Some(true)),
        "off" => Ok(Some(false)),
        _ => Err(format!("command \"{name}\" takes on or off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        assert_eq!(Command::parse("\\d"), Ok(Command::Tables));
        assert_eq!(Command::parse("\\d  shop.fact_sales"), Ok(Command::Describe("shop.fact_sales".into())));
        assert_eq!(Command::parse("\\timing off"), Ok(Command::Timing(Some(false))));
        assert_eq!(Command::parse("\\x"), Ok(Command::Expanded(None)));
        assert_eq!(Command::parse("\\q"), Ok(Command::Quit));
        assert!(Command::parse("\\nope").is_err());
        assert!(Command::parse("\\q now").is_err());
        assert!(Command::parse("\\").is_err());
    }
}
