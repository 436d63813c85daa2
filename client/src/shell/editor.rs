//! The line editor: prompt, history, and a thread of its own.
//!
//! rustyline blocks on the terminal, so it lives on a thread and is asked over a channel; a
//! process that must end while the prompt waits just ends. The rule: a history that cannot be
//! read or written never keeps anyone from working.

use std::path::PathBuf;
use std::sync::mpsc;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::sync::oneshot;

use crate::shell::complete::{LineHelper, Names};

/// Statements that the history keeps.
const HISTORY_ENTRIES_MAX: usize = 2_000;

/// What came from the prompt.
#[derive(Debug)]
pub enum Line {
    /// Input that is complete.
    Input(String),
    /// Ctrl-C: what was typed is thrown away.
    Cleared,
    /// Ctrl-D, or no terminal any more.
    Ended,
}

/// Asks the editor's thread for lines.
pub struct Prompter {
    requests: mpsc::Sender<Request>,
}

struct Request {
    prompt: String,
    reply: oneshot::Sender<Line>,
}

impl Prompter {
    /// Starts the editor.
    pub fn start(names: Names, history: Option<PathBuf>) -> Result<Self, ReadlineError> {
        let config = Config::builder()
            .max_history_size(HISTORY_ENTRIES_MAX)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor: Editor<LineHelper, FileHistory> = Editor::with_config(config)?;
        editor.set_helper(Some(LineHelper::new(names)));
        let (requests, receiver) = mpsc::channel();
        std::thread::Builder::new()
            .name("shell-input".into())
            .spawn(move || serve(editor, history, receiver))
            .map_err(ReadlineError::Io)?;
        Ok(Self { requests })
    }

    /// The next input.
    pub async fn line(&self, prompt: String) -> Line {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(Request { prompt, reply }).is_err() {
            return Line::Ended;
        }
        answer.await.unwrap_or(Line::Ended)
    }
}

fn serve(
    mut editor: Editor<LineHelper, FileHistory>,
    history: Option<PathBuf>,
    requests: mpsc::Receiver<Request>,
) {
    if let Some(path) = &history {
        if let Some(folder) = path.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = editor.load_history(path);
    }
    for Request { prompt, reply } in requests {
        let line = match editor.readline(&prompt) {
            Ok(text) => {
                // Appended at once: a second shell does not overwrite it, a crash not lose it.
                if !text.trim().is_empty()
                    && editor.add_history_entry(text.as_str()).unwrap_or(false)
                    && let Some(path) = &history
                {
                    let _ = editor.append_history(path);
                }
                Line::Input(text)
            }
            Err(ReadlineError::Interrupted) => Line::Cleared,
            Err(_) => Line::Ended,
        };
        if reply.send(line).is_err() {
            return;
        }
    }
}
