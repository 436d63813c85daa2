//! Programs that tests need and that are no part of the workspace: whether they are installed, where what they
//! fetch is kept, and how a server of theirs is ended.
//!
//! The rule: without a program a test skips, loudly; with `CI` set that is a failure.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Says that something is missing.
///
/// # Panics
/// If `CI` is set.
pub(crate) fn skip(message: &str) {
    let in_ci = std::env::var("CI");
    let in_ci = in_ci.is_ok_and(|value| ["1", "true", "yes"].contains(&value.to_lowercase().as_str()));
    assert!(!in_ci, "{message}, and CI is set");
    eprintln!("SKIPPED: {message}");
}

/// Whether all of these are on the path; if not, that `what` is missing is said as [`skip`] does.
pub(crate) fn installed(what: &str, programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|name| !is_there(name)).copied().collect();
    if !missing.is_empty() {
        skip(&format!("no {what}: {} not installed", missing.join(", ")));
    }
    missing.is_empty()
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The folder `name` in the cache folder, filled by `fetch` unless an earlier run did it.
///
/// # Panics
/// If it cannot be fetched.
pub(crate) fn fetched(name: &str, fetch: impl FnOnce(&Path) -> Command) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let folder = cache.unwrap_or_else(std::env::temp_dir).join("tarn").join(name);
    if !folder.exists() {
        // Fetched aside and renamed, so that what is there is whole.
        let aside = PathBuf::from(format!("{}.{}", folder.display(), std::process::id()));
        std::fs::create_dir_all(&aside).expect("the cache folder takes a folder");
        assert_succeeds(&mut fetch(&aside));
        if std::fs::rename(&aside, &folder).is_err() {
            assert!(folder.exists(), "what was fetched could not be put to {}", folder.display());
            let _ = std::fs::remove_dir_all(&aside);
        }
    }
    folder
}

/// Runs a command to its end.
///
/// # Panics
/// If it fails, with what it printed.
pub(crate) fn assert_succeeds(command: &mut Command) {
    let output = command.output().expect("the program can be started");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&text));
}

/// Ends a program when its owner ends, even if by a signal: the program, or the shell around it, waits for the end
/// of its standard input.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts the program.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).spawn().expect("a shell can be started"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A script that runs `server`, with its output in `log`, until standard input ends.
pub(crate) fn until_input_ends(server: &str, log: &str) -> String {
    format!(
        "{server} >{log} 2>&1 & server=$!; trap 'kill -INT $server; wait $server' EXIT; read -r line || true"
    )
}
