//! One sitting at the shell: statements run, commands carried out, errors shown.
//!
//! The session owns the connection, what `\x` and `\timing` set, and the names for completion.
//! Ctrl-C while a statement runs drops its stream and cancels it on the server; the connection
//! and its session stay. The rule: results go to standard output, everything else to standard
//! error.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use futures::TryStreamExt;
use tokio::task::JoinSet;
use tonic::Code;

use crate::connection::{Answer, Connection, QueryStream};
use crate::error::{Error, Result};
use crate::shell::command::{Command, HELP};
use crate::shell::complete::Names;
use crate::shell::format::{Format, Rows, grouped};
use crate::shell::input::{self, Item, Kind};
use crate::shell::progress::{Progress, duration_text};
use crate::shell::report::report;

/// How long we wait for the server to confirm a cancel.
const CANCEL_WAIT: Duration = Duration::from_secs(5);
const OUT_BUFFER_BYTES: usize = 256 * 1024;

/// How a piece of input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it should.
    Done,
    /// The server refused the statement.
    Refused,
    /// The input itself is at fault: an unknown command, an open quote.
    Misread,
    /// The server is gone.
    Disconnected,
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads our output any more.
    Unread,
    /// `\q`.
    Quit,
}

/// One sitting.
pub struct Session {
    connection: Connection,
    format: Format,
    interactive: bool,
    expanded: bool,
    timing: bool,
    location: (String, String),
    names: Names,
    /// Refreshes the names; at most one at a time.
    refresher: JoinSet<()>,
}

impl Session {
    /// A sitting on a connection.
    pub fn new(connection: Connection, format: Format, interactive: bool) -> Self {
        Self {
            connection,
            format,
            interactive,
            expanded: false,
            timing: interactive,
            location: Default::default(),
            names: Names::default(),
            refresher: JoinSet::new(),
        }
    }

    /// The names for completion.
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// The prompt: the schema in which names resolve.
    pub fn prompt(&self) -> String {
        match self.location.1.as_str() {
            "" => "tarn> ".to_string(),
            schema => format!("tarn:{schema}> "),
        }
    }

    /// Asks the server where names resolve, and which there are.
    pub async fn refresh(&mut self) {
        // Servers without session options still answer queries: the prompt is shorter then.
        if let Ok(location) = self.connection.location().await {
            self.location = location;
        }
        self.refresher.abort_all();
        let mut connection = self.connection.clone();
        let names = self.names.clone();
        let (catalog, schema) = self.location.clone();
        self.refresher.spawn(async move {
            let catalogs = connection.catalogs().await.unwrap_or_default();
            if let Ok(tables) = connection.tables(None, None).await {
                names.refresh(&catalog, &schema, &catalogs, &tables);
            }
        });
    }

    /// Leaves the server.
    pub async fn close(mut self) {
        self.refresher.abort_all();
        let _ = tokio::time::timeout(CANCEL_WAIT, self.connection.close()).await;
    }

    /// Runs every piece of an input; `file` names a script. Stops at the first that fails.
    pub async fn run(&mut self, text: &str, file: Option<&str>) -> Outcome {
        for item in input::split(text) {
            let place = file.map(|file| format!("{file}:{}", item.line));
            match self.run_item(item, place.as_deref()).await {
                Outcome::Done => {}
                other => return other,
            }
        }
        Outcome::Done
    }

    async fn run_item(&mut self, item: Item<'_>, place: Option<&str>) -> Outcome {
        match item.kind {
            Kind::Unclosed => misread("a quote or comment is not closed", place),
            Kind::Statement | Kind::Rest if input::is_farewell(item.text) => Outcome::Quit,
            Kind::Statement | Kind::Rest => self.run_statement(item.text, place).await,
            Kind::Command => match Command::parse(item.text) {
                Ok(command) => self.run_command(command, place).await,
                Err(message) => misread(&format!("{message}\nhint: \\? lists the commands"), place),
            },
        }
    }

    async fn run_statement(&mut self, sql: &str, place: Option<&str>) -> Outcome {
        let mut progress = Progress::start(self.interactive && self.format == Format::Table);
        let answer = match progress.watch(self.connection.execute(sql)).await {
            Ok(answer) => answer,
            // The call was dropped and its stream reset: the server stops by that.
            Err(_) => return self.interrupted(&mut progress),
        };
        let result = match answer {
            Ok(Answer::Rows(stream)) => {
                let canceller = stream.canceller();
                let work = write_rows(self.format, self.expanded, *stream);
                match print_watched(&mut progress, work).await {
                    Some(result) => result,
                    None => {
                        // A second Ctrl-C ends the wait for the server's word.
                        let cancel = tokio::time::timeout(CANCEL_WAIT, canceller.cancel());
                        let _ = progress.watch(cancel).await;
                        return self.interrupted(&mut progress);
                    }
                }
            }
            Ok(Answer::Count(count)) => Ok(Written::Count(count)),
            Err(error) => Err(error),
        };
        progress.erase();
        match result {
            Ok(written) => self.finished(sql, written, &progress).await,
            Err(error) => {
                let session_ended =
                    error.refusal().is_some_and(|refusal| refusal.status == Code::Unauthenticated);
                if self.interactive && session_ended {
                    // The next call opens another session, which is elsewhere: the prompt says so.
                    self.refresh().await;
                }
                failed(&error, sql, place)
            }
        }
    }

    async fn finished(&mut self, sql: &str, written: Written, progress: &Progress) -> Outcome {
        let changed = matches!(written, Written::Count(_)) || changes_location(sql);
        if let Err(error) = self.print_summary(sql, &written, progress.elapsed()) {
            return closed_or(error);
        }
        if self.interactive && changed {
            self.refresh().await;
        }
        Outcome::Done
    }

    /// What was done, and how long it took. CSV and JSON stay free of it.
    fn print_summary(&self, sql: &str, written: &Written, elapsed: Duration) -> io::Result<()> {
        if self.format != Format::Table {
            return Ok(());
        }
        let time = if self.timing { format!(" in {}", duration_text(elapsed)) } else { String::new() };
        let summary = match written {
            Written::Rows(1) => "1 row".to_string(),
            Written::Rows(rows) => format!("{} rows", grouped(*rows)),
            Written::Count(Some(count)) if counts_rows(sql) => match count {
                1 => format!("{}: 1 row", tag(sql)),
                count => format!("{}: {} rows", tag(sql), grouped(usize::try_from(*count).unwrap_or(0))),
            },
            Written::Count(_) => tag(sql),
        };
        let mut out = io::stdout().lock();
        match written {
            Written::Rows(_) => writeln!(out, "({summary}{time})")?,
            Written::Count(_) => writeln!(out, "{summary}{time}")?,
        }
        if self.interactive {
            writeln!(out)?;
        }
        out.flush()
    }

    fn interrupted(&self, progress: &mut Progress) -> Outcome {
        progress.erase();
        complain("cancelled\n");
        Outcome::Interrupted
    }

    async fn run_command(&mut self, command: Command, place: Option<&str>) -> Outcome {
        let result = match command {
            Command::Describe(name) => {
                return Box::pin(self.run_statement(&format!("DESCRIBE {name}"), place)).await;
            }
            Command::Tables => self.list_tables().await,
            Command::Schemas => self.list_schemas().await,
            Command::Catalogs => self.list_catalogs().await,
            Command::Timing(wanted) => {
                self.timing = wanted.unwrap_or(!self.timing);
                say(&format!("timing is {}\n", if self.timing { "on" } else { "off" }))
            }
            Command::Expanded(wanted) => {
                self.expanded = wanted.unwrap_or(!self.expanded);
                say(&format!("expanded display is {}\n", if self.expanded { "on" } else { "off" }))
            }
            Command::Help => say(&format!("{HELP}\n")),
            Command::Quit => return Outcome::Quit,
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => failed(&error, "", place),
        }
    }

    async fn list_tables(&mut self) -> Result<()> {
        let catalog = self.current_catalog().await;
        let mut tables = self.connection.tables(catalog.as_deref(), None).await?;
        tables.retain(|table| table.schema != "information_schema");
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        let rows = tables.into_iter().map(|table| [table.schema, table.name, table.kind.to_lowercase()]);
        self.print_listing(["schema", "table", "type"], rows.collect())
    }

    async fn list_schemas(&mut self) -> Result<()> {
        let catalog = self.current_catalog().await;
        let rows = self.connection.schemas(catalog.as_deref()).await?;
        self.print_listing(["catalog", "schema"], rows.into_iter().map(|(a, b)| [a, b]).collect())
    }

    async fn list_catalogs(&mut self) -> Result<()> {
        let rows = self.connection.catalogs().await?.into_iter().map(|name| [name]).collect();
        self.print_listing(["catalog"], rows)
    }

    /// The current catalog; all of them for a server that does not say.
    async fn current_catalog(&mut self) -> Option<String> {
        let (catalog, _) = self.connection.location().await.ok()?;
        (!catalog.is_empty()).then_some(catalog)
    }

    fn print_listing<const N: usize>(&self, names: [&str; N], rows: Vec<[String; N]>) -> Result<()> {
        let columns = (0..N).map(|column| {
            let values: StringArray = rows.iter().map(|row| Some(row[column].as_str())).collect();
            (names[column], Arc::new(values) as ArrayRef, false)
        });
        let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
        let mut out = Rows::new(self.format, self.expanded, &batch.schema(), BufWriter::new(io::stdout()))?;
        out.write(&batch)?;
        out.finish()?;
        if self.format == Format::Table {
            let noun = if rows.len() == 1 { "row" } else { "rows" };
            say(&format!("({} {noun})\n", grouped(rows.len())))?;
        }
        Ok(())
    }
}

/// What a statement gave.
enum Written {
    Rows(usize),
    Count(Option<i64>),
}

/// A result on its way out: rows are told to the progress as they come.
struct Work {
    stream: QueryStream,
    rows: Rows<BufWriter<io::Stdout>>,
    total: usize,
}

fn write_rows(format: Format, expanded: bool, stream: QueryStream) -> Result<Work> {
    let out = BufWriter::with_capacity(OUT_BUFFER_BYTES, io::stdout());
    let rows = Rows::new(format, expanded, &stream.schema(), out)?;
    Ok(Work { stream, rows, total: 0 })
}

/// Writes a result; `None` when Ctrl-C came first.
async fn print_watched(progress: &mut Progress, work: Result<Work>) -> Option<Result<Written>> {
    let mut work = match work {
        Ok(work) => work,
        Err(error) => return Some(Err(error)),
    };
    loop {
        let batch = match progress.watch(work.stream.try_next()).await.ok()? {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(error) => return Some(Err(error)),
        };
        work.total += batch.num_rows();
        progress.add_rows(batch.num_rows());
        if let Err(error) = work.rows.write(&batch) {
            return Some(Err(error));
        }
    }
    progress.erase();
    Some(work.rows.finish().map(|()| Written::Rows(work.total)))
}

/// Says what is wrong with the input.
fn misread(message: &str, place: Option<&str>) -> Outcome {
    let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
    complain(&format!("{place}error: {message}\n"));
    Outcome::Misread
}

/// Shows an error and says what kind it is.
fn failed(error: &Error, sql: &str, place: Option<&str>) -> Outcome {
    if is_broken_pipe(error) {
        return Outcome::Unread;
    }
    complain(&report(error, sql, place));
    if error.is_disconnected() { Outcome::Disconnected } else { Outcome::Refused }
}

/// Whether the reader of our output went away, in any of the writers' wrappings.
fn is_broken_pipe(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        let io = match current.downcast_ref::<arrow::error::ArrowError>() {
            Some(arrow::error::ArrowError::IoError(_, error)) => Some(error),
            _ => current.downcast_ref::<io::Error>(),
        };
        if io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        cause = current.source();
    }
    // The CSV writer keeps the text of the cause alone.
    matches!(error, Error::Arrow(_)) && error.to_string().contains("Broken pipe")
}

fn closed_or(error: io::Error) -> Outcome {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Outcome::Unread;
    }
    complain(&format!("error: cannot write the result: {error}\n"));
    Outcome::Misread
}

fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(arrow::error::ArrowError::from)?;
    Ok(())
}

/// Writes to standard error; there is nobody to tell when that fails.
pub fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The words of a statement that name what was done: `CREATE TABLE`, `INSERT`.
fn tag(sql: &str) -> String {
    const TWO_WORDS: [&str; 5] = ["CREATE", "DROP", "ALTER", "KILL", "TRUNCATE"];
    const BETWEEN: [&str; 4] = ["OR", "REPLACE", "EXTERNAL", "TEMPORARY"];
    let mut words = words(sql).filter(|word| !BETWEEN.contains(&word.as_str()));
    let first = words.next().unwrap_or_default();
    match words.next() {
        Some(second) if TWO_WORDS.contains(&first.as_str()) => format!("{first} {second}"),
        _ => first,
    }
}

/// Whether the count of a change is a count of rows.
fn counts_rows(sql: &str) -> bool {
    let mut words = words(sql);
    match words.next().as_deref() {
        Some("INSERT" | "DELETE" | "UPDATE" | "MERGE") => true,
        Some("CREATE") => words.any(|word| matches!(word.as_str(), "SELECT" | "VALUES")),
        _ => false,
    }
}

fn changes_location(sql: &str) -> bool {
    matches!(words(sql).next().as_deref(), Some("USE" | "SET" | "RESET"))
}

/// The words of a statement in capitals, comments left out.
fn words(sql: &str) -> impl Iterator<Item = String> {
    let mut text = String::new();
    let mut rest = sql;
    while let Some(at) = [rest.find("--"), rest.find("/*")].into_iter().flatten().min() {
        text.push_str(&rest[..at]);
        text.push(' ');
        let end = if rest[at..].starts_with("--") { ("\n", 1) } else { ("*/", 2) };
        rest = rest[at..].find(end.0).map_or("", |found| &rest[at + found + end.1..]);
    }
    text.push_str(rest);
    let words: Vec<_> = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_uppercase)
        .collect();
    words.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_what_was_done() {
        assert_eq!(tag("create or replace table a.b (x int)"), "CREATE TABLE");
        assert_eq!(tag("-- first\ninsert into t values (1)"), "INSERT");
        assert_eq!(tag("/* x */ drop schema s"), "DROP SCHEMA");
        assert_eq!(tag("set timezone = 'UTC'"), "SET");
    }

    #[test]
    fn counts_are_rows_where_rows_were_written() {
        assert!(counts_rows("insert into t select 1"));
        assert!(counts_rows("create table t as select 1"));
        assert!(!counts_rows("create table t (x int)"));
        assert!(!counts_rows("drop table t"));
    }

    #[test]
    fn a_closed_pipe_is_found_in_every_wrapping() {
        let error = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&Error::Arrow(error().into())));
        assert!(is_broken_pipe(&Error::Arrow(arrow::error::ArrowError::ExternalError(Box::new(error())))));
        let other = io::Error::from(io::ErrorKind::NotFound);
        assert!(!is_broken_pipe(&Error::Arrow(other.into())));
    }
}
