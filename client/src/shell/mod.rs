//! The SQL shell: `tarn sql`.
//!
//! - [`session`]: one sitting: statements, commands, cancel
//! - [`input`]: text to statements; [`command`]: the shell's own commands
//! - [`format`]: rows to text; [`report`]: errors to text; [`progress`]: a query is running
//! - [`editor`]: the prompt; [`complete`]: what Tab offers
//!
//! Statements come from `-c`, from a file, from standard input, or from the prompt, and take
//! the same way. Exit codes: 0 all done, 1 a statement failed, 2 no server or it went away,
//! 3 the script is at fault (unreadable, an unknown command, an open quote), 130 interrupted.

pub mod command;
pub mod complete;
pub mod editor;
pub mod format;
pub mod input;
pub mod progress;
pub mod report;
pub mod session;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use futures::FutureExt;

pub use format::Format;

use crate::connection::Connection;
use crate::error::Error;
use crate::shell::editor::{Line, Prompter};
use crate::shell::report::report;
use crate::shell::session::{Outcome, Session, complain};

/// Where a server listens unless told otherwise.
pub const URL_DEFAULT: &str = "grpc://127.0.0.1:32010";

const EXIT_REFUSED: u8 = 1;
const EXIT_CONNECT: u8 = 2;
const EXIT_SCRIPT: u8 = 3;
const EXIT_INTERRUPTED: u8 = 130;

/// The options of `tarn sql`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the server: `grpc://[user:password@]host[:port]`.
    pub url: String,
    /// Statements to run instead of asking for them.
    pub command: Option<String>,
    /// A file of statements to run; `-` is standard input.
    pub file: Option<PathBuf>,
    /// How rows are written.
    pub format: Format,
    /// Where the history is kept; by default `tarn/history` in the user's state folder.
    pub history: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: URL_DEFAULT.to_string(),
            command: None,
            file: None,
            format: Format::default(),
            history: None,
        }
    }
}

/// Runs the shell to its end.
pub async fn run(options: Options) -> ExitCode {
    let script = match script(&options) {
        Ok(script) => script,
        Err(message) => {
            complain(&format!("error: {message}\n"));
            return ExitCode::from(EXIT_SCRIPT);
        }
    };
    // From the first poll on, Ctrl-C is ours and no longer ends the process.
    let _ = tokio::signal::ctrl_c().now_or_never();
    let connect = Connection::connect(&options.url);
    let connection = tokio::select! {
        connection = connect => connection,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(EXIT_INTERRUPTED),
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => {
            complain(&report(&error, "", None));
            if let Error::Connect { url, .. } = &error {
                complain(&format!("hint: is a server running at {url}? `tarn demo` starts one\n"));
            }
            return ExitCode::from(EXIT_CONNECT);
        }
    };
    let mut session = Session::new(connection, options.format, script.is_none());
    let code = match script {
        Some(Script { text, name }) => run_script(&mut session, &text, name.as_deref()).await,
        None => run_prompt(&mut session, options.history.or_else(history_path)).await,
    };
    session.close().await;
    code
}

/// Statements that are given, as opposed to typed.
struct Script {
    text: String,
    name: Option<String>,
}

/// What to run; `None` is the prompt.
fn script(options: &Options) -> Result<Option<Script>, String> {
    if let Some(text) = &options.command {
        return Ok(Some(Script { text: text.clone(), name: None }));
    }
    let stdin = std::io::stdin();
    match &options.file {
        Some(path) if path.as_os_str() != "-" => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read \"{}\": {error}", path.display()))?;
            Ok(Some(Script { text, name: Some(path.display().to_string()) }))
        }
        None if stdin.is_terminal() => Ok(None),
        _ => {
            let mut text = String::new();
            let read = stdin.lock().read_to_string(&mut text);
            read.map_err(|error| format!("cannot read standard input: {error}"))?;
            Ok(Some(Script { text, name: Some("stdin".to_string()) }))
        }
    }
}

async fn run_script(session: &mut Session, text: &str, name: Option<&str>) -> ExitCode {
    match session.run(text, name).await {
        Outcome::Done | Outcome::Quit | Outcome::Unread => ExitCode::SUCCESS,
        Outcome::Refused => ExitCode::from(EXIT_REFUSED),
        Outcome::Disconnected => ExitCode::from(EXIT_CONNECT),
        Outcome::Misread => ExitCode::from(EXIT_SCRIPT),
        Outcome::Interrupted => ExitCode::from(EXIT_INTERRUPTED),
    }
}

/// The prompt: an error ends a statement, never the sitting.
async fn run_prompt(session: &mut Session, history: Option<PathBuf>) -> ExitCode {
    let prompter = match Prompter::start(session.names(), history) {
        Ok(prompter) => prompter,
        Err(error) => {
            complain(&format!("error: cannot use the terminal: {error}\n"));
            return ExitCode::from(EXIT_SCRIPT);
        }
    };
    session.refresh().await;
    complain("Type \\? for help, \\q to leave.\n");
    loop {
        match prompter.line(session.prompt()).await {
            Line::Input(text) => match session.run(&text, None).await {
                Outcome::Quit | Outcome::Unread => return ExitCode::SUCCESS,
                _ => {}
            },
            Line::Cleared => {}
            Line::Ended => return ExitCode::SUCCESS,
        }
    }
}

/// `$XDG_STATE_HOME/tarn/history`, or below `~/.local/state`; none without a home.
fn history_path() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    Some(state.or_else(home)?.join("tarn").join("history"))
}
