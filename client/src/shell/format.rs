//! Rows to text: an aligned table, CSV, JSON lines.
//!
//! A table needs every width before its first line, so it keeps rows, but only the first
//! [`TABLE_ROWS_MAX`] of them and [`TABLE_BYTES_MAX`] of text; the rest is counted. CSV and JSON
//! are written batch by batch without bound. The rule: nothing here knows a terminal.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::{self, writer::LineDelimited};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::UnicodeWidthStr;

use crate::error::Error;

/// Rows that a table shows.
pub const TABLE_ROWS_MAX: usize = 10_000;
/// Bytes of text that a table keeps.
pub const TABLE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Characters of one cell that a table shows.
const CELL_CHARS_MAX: usize = 65_536;

const OPTIONS: FormatOptions<'static> = FormatOptions::new()
    .with_display_error(true)
    .with_null("NULL")
    .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
    .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// An aligned table, for people.
    #[default]
    Table,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line.
    Json,
}

/// Writes the rows of one result.
pub enum Rows<W: Write> {
    /// Kept until the end.
    Table(Table, W),
    /// Written as they come.
    Csv(Box<csv::Writer<W>>),
    /// Written as they come.
    Json(Box<json::Writer<W, LineDelimited>>),
}

impl<W: Write> Rows<W> {
    /// A writer of rows of a schema.
    pub fn new(format: Format, expanded: bool, schema: &SchemaRef, out: W) -> Result<Self, Error> {
        Ok(match format {
            Format::Table => Rows::Table(Table::new(schema, expanded), out),
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().with_header(true).build(out);
                writer.write(&plain(&RecordBatch::new_empty(Arc::clone(schema)))?)?;
                Rows::Csv(Box::new(writer))
            }
            Format::Json => {
                Rows::Json(Box::new(json::WriterBuilder::new().with_explicit_nulls(true).build(out)))
            }
        })
    }

    /// Takes a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        match self {
            Rows::Table(table, _) => table.push(batch)?,
            Rows::Csv(writer) => writer.write(&plain(batch)?)?,
            Rows::Json(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(self) -> Result<(), Error> {
        match self {
            Rows::Table(table, mut out) => table.print(&mut out).map_err(ArrowError::from)?,
            Rows::Csv(writer) => writer.into_inner().flush().map_err(ArrowError::from)?,
            Rows::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush().map_err(ArrowError::from)?;
            }
        }
        Ok(())
    }
}

/// The same batch with nested columns as text, which CSV cannot hold otherwise.
fn plain(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| field.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            let formatter = ArrayFormatter::try_new(column, &OPTIONS)?;
            let mut texts = StringBuilder::new();
            for row in 0..column.len() {
                if column.is_null(row) {
                    texts.append_null();
                } else {
                    texts.append_value(formatter.value(row).try_to_string()?);
                }
            }
            columns.push(Arc::new(texts.finish()));
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
        } else {
            columns.push(Arc::clone(column));
            fields.push(Arc::clone(field));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Rows kept for an aligned table.
pub struct Table {
    names: Vec<String>,
    right: Vec<bool>,
    /// Cells, row after row.
    cells: Vec<String>,
    bytes: usize,
    kept: usize,
    total: usize,
    expanded: bool,
}

impl Table {
    /// An empty table.
    pub fn new(schema: &SchemaRef, expanded: bool) -> Self {
        Self {
            names: schema.fields().iter().map(|field| clean(field.name()).replace('\n', "\\n")).collect(),
            right: schema.fields().iter().map(|field| field.data_type().is_numeric()).collect(),
            cells: Vec::new(),
            bytes: 0,
            kept: 0,
            total: 0,
            expanded,
        }
    }

    /// Keeps rows up to the bounds, counts the others.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.total += batch.num_rows();
        let wanted = batch.num_rows().min(TABLE_ROWS_MAX.saturating_sub(self.kept));
        // Once a row was left out, later ones are too: what is shown is the beginning.
        if self.kept + batch.num_rows() < self.total {
            return Ok(());
        }
        let columns = batch.columns().iter();
        let formatters: Vec<_> =
            columns.map(|column| ArrayFormatter::try_new(column, &OPTIONS)).collect::<Result<_, _>>()?;
        for row in 0..wanted {
            if self.bytes > TABLE_BYTES_MAX {
                return Ok(());
            }
            for formatter in &formatters {
                let cell = clean(&formatter.value(row).to_string());
                self.bytes += cell.len() + size_of::<String>();
                self.cells.push(cell);
            }
            self.kept += 1;
        }
        Ok(())
    }

    /// Number of rows pushed.
    pub fn rows(&self) -> usize {
        self.total
    }

    /// Writes the table.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.expanded {
            self.print_expanded(out)?;
        } else if !self.names.is_empty() {
            self.print_aligned(out)?;
        }
        if self.total > self.kept {
            writeln!(out, "… {} more rows", grouped(self.total - self.kept))?;
        }
        out.flush()
    }

    fn print_aligned(&self, out: &mut impl Write) -> io::Result<()> {
        let mut widths: Vec<_> = self.names.iter().map(|name| name.width()).collect();
        for row in self.rows_kept() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.split('\n').map(|line| line.width()).fold(*width, usize::max);
            }
        }
        self.print_row(out, &self.names, &widths)?;
        let rules: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(out, "{}", rules.join("+"))?;
        for row in self.rows_kept() {
            self.print_row(out, row, &widths)?;
        }
        Ok(())
    }

    /// One row, on as many lines as its tallest cell has.
    fn print_row(&self, out: &mut impl Write, cells: &[String], widths: &[usize]) -> io::Result<()> {
        let height = cells.iter().map(|cell| cell.split('\n').count()).max().unwrap_or(1);
        for line in 0..height {
            let line: Vec<_> =
                cells.iter().map(|cell| cell.split('\n').nth(line).unwrap_or_default()).collect();
            self.print_line(out, &line, widths)?;
        }
        Ok(())
    }

    fn print_line(&self, out: &mut impl Write, cells: &[&str], widths: &[usize]) -> io::Result<()> {
        let last = cells.len() - 1;
        for (index, cell) in cells.iter().enumerate() {
            let blanks = widths[index] - cell.width();
            match (self.right[index], index == last) {
                (true, _) => write!(out, " {:blanks$}{cell}", "")?,
                (false, true) => write!(out, " {cell}")?,
                (false, false) => write!(out, " {cell}{:blanks$}", "")?,
            }
            if index != last {
                write!(out, " |")?;
            }
        }
        writeln!(out)
    }

    fn print_expanded(&self, out: &mut impl Write) -> io::Result<()> {
        let width = self.names.iter().map(|name| name.width()).max().unwrap_or(0);
        for (number, row) in self.rows_kept().enumerate() {
            writeln!(out, "-[ row {} ]{}", number + 1, "-".repeat(width))?;
            for (name, cell) in self.names.iter().zip(row) {
                let indent = format!("\n{:width$} | ", "");
                let cell = cell.replace('\n', &indent);
                writeln!(out, "{name}{:blanks$} | {cell}", "", blanks = width - name.width())?;
            }
        }
        Ok(())
    }

    fn rows_kept(&self) -> impl Iterator<Item = &[String]> {
        self.cells.chunks(self.names.len().max(1))
    }
}

/// A cell of bounded length: control characters other than the end of a line, which could also
/// drive the terminal, are spelled out.
fn clean(text: &str) -> String {
    let mut cell = String::with_capacity(text.len().min(CELL_CHARS_MAX));
    for (count, c) in text.chars().enumerate() {
        if count == CELL_CHARS_MAX {
            cell.push('…');
            break;
        }
        if c.is_control() && c != '\n' { cell.extend(c.escape_default()) } else { cell.push(c) }
    }
    cell
}

/// A number with a comma between thousands.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch() -> RecordBatch {
        let amount = Decimal128Array::from(vec![Some(1_250), None]).with_precision_and_scale(10, 2).unwrap();
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from(vec![1, 20])) as ArrayRef, false),
            ("name", Arc::new(StringArray::from(vec![Some("a\n\x1b[1mb"), Some("日本")])), true),
            ("amount", Arc::new(amount), true),
        ])
        .unwrap()
    }

    fn written(format: Format, expanded: bool, batches: &[RecordBatch]) -> String {
        let mut out = Vec::new();
        let mut rows = Rows::new(format, expanded, &batches[0].schema(), &mut out).unwrap();
        for batch in batches {
            rows.write(batch).unwrap();
        }
        rows.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn table_is_aligned_numbers_right_and_controls_spelled_out() {
        let expected = [
            " id | name       | amount",
            "----+------------+--------",
            "  1 | a          |  12.50",
            "    | \\u{1b}[1mb |       ",
            " 20 | 日本       |   NULL",
            "",
        ];
        assert_eq!(written(Format::Table, false, &[batch()]), expected.join("\n"));
    }

    #[test]
    fn expanded_puts_one_column_on_a_line() {
        let text = written(Format::Table, true, &[batch()]);
        assert!(text.starts_with("-[ row 1 ]------\nid     | 1\nname   | a\n       | "), "{text}");
    }

    #[test]
    fn table_keeps_the_first_rows_and_counts_the_rest() {
        let ids = Int64Array::from_iter_values(0..6_000);
        let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef)]).unwrap();
        let text = written(Format::Table, false, &[batch.clone(), batch.clone(), batch]);
        assert_eq!(text.lines().count(), 2 + TABLE_ROWS_MAX + 1);
        assert!(text.ends_with("… 8,000 more rows\n"), "{}", &text[text.len() - 40..]);
    }

    #[test]
    fn csv_has_a_header_even_without_rows() {
        assert_eq!(written(Format::Csv, false, &[batch().slice(0, 0)]), "id,name,amount\n");
        assert_eq!(
            written(Format::Csv, false, &[batch()]),
            "id,name,amount\n1,\"a\n\x1b[1mb\",12.50\n20,日本,\n"
        );
    }

    #[test]
    fn csv_spells_nested_values() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None]);
        let batch = RecordBatch::try_from_iter([("l", Arc::new(list) as ArrayRef)]).unwrap();
        assert_eq!(written(Format::Csv, false, &[batch]), "l\n\"[1, NULL]\"\n\"\"\n");
    }

    #[test]
    fn json_is_one_object_a_line_with_nulls() {
        let text = written(Format::Json, false, &[batch()]);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["name"], "日本");
        assert!(lines[1]["amount"].is_null());
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"].map(String::from)
        );
    }
}
