//! What people and programs see: tables, JSON lines, colours. Owns standard output; knows nothing of clusters.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use comfy_table::{Attribute, Cell, CellAlignment, Color as Shade, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use crate::options::{Color, Output};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// What a value says about the state of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// All is well.
    Good,
    /// Look at it.
    Doubtful,
    /// It is broken.
    Bad,
}

/// A column of a table: a field of the rows.
#[derive(Clone, Copy)]
pub struct Column {
    key: &'static str,
    title: &'static str,
    tone: fn(&Value) -> Tone,
}

impl Column {
    /// A column of the field `key` under `title`.
    pub const fn new(key: &'static str, title: &'static str) -> Column {
        Column { key, title, tone: |_value| Tone::Plain }
    }

    /// Colours values by what they say.
    pub const fn tone(mut self, tone: fn(&Value) -> Tone) -> Column {
        self.tone = tone;
        self
    }
}

/// Standard output in the format that was asked for.
pub struct Out {
    format: Output,
    color: bool,
    writer: BufWriter<Stdout>,
}

impl Out {
    /// Standard output.
    pub fn new(format: Output, color: Color) -> Out {
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        };
        Out { format, color, writer: BufWriter::with_capacity(BUFFER_BYTES, io::stdout()) }
    }

    /// Is it JSON?
    pub fn is_json(&self) -> bool {
        self.format == Output::Json
    }

    /// One JSON object a row, or a table of the columns; `empty` is said instead of a table without rows.
    ///
    /// # Errors
    /// What keeps standard output from being written.
    pub fn rows<T: Serialize>(&mut self, columns: &[Column], rows: &[T], empty: &str) -> io::Result<()> {
        if self.is_json() {
            for row in rows {
                self.json(row)?;
            }
            return Ok(());
        }
        if rows.is_empty() {
            return self.line(empty);
        }
        let values = rows.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>()?;
        let table = self.table(columns, &values);
        for line in table.lines() {
            writeln!(self.writer, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn table(&self, columns: &[Column], rows: &[Value]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(columns.iter().map(|column| Cell::new(column.title).add_attribute(Attribute::Bold)));
        for row in rows {
            table.add_row(columns.iter().map(|column| {
                let value = row.get(column.key).unwrap_or(&Value::Null);
                let cell = Cell::new(shown(value));
                match (column.tone)(value) {
                    Tone::Plain => cell,
                    Tone::Good => cell.fg(Shade::Green),
                    Tone::Doubtful => cell.fg(Shade::Yellow),
                    Tone::Bad => cell.fg(Shade::Red),
                }
            }));
        }
        for (index, column) in columns.iter().enumerate() {
            let mut values = rows.iter().map(|row| row.get(column.key).unwrap_or(&Value::Null));
            let is_number =
                values.clone().any(Value::is_number) && values.all(|v| v.is_number() || v.is_null());
            let Some(made) = table.column_mut(index) else { continue };
            made.set_padding((0, 2));
            if is_number {
                made.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// What was done: a sentence, or a JSON object.
    ///
    /// # Errors
    /// What keeps standard output from being written.
    pub fn done<T: Serialize>(&mut self, row: &T, sentence: &str) -> io::Result<()> {
        if self.is_json() { self.json(row) } else { self.line(sentence) }
    }

    /// One JSON object.
    ///
    /// # Errors
    /// What keeps standard output from being written.
    pub fn json<T: Serialize>(&mut self, row: &T) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, row)?;
        self.writer.write_all(b"\n")
    }

    /// A line for people; nothing where the output is JSON.
    ///
    /// # Errors
    /// What keeps standard output from being written.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        if self.is_json() {
            return Ok(());
        }
        writeln!(self.writer, "{text}")
    }

    /// Bytes as they are.
    ///
    /// # Errors
    /// What keeps standard output from being written.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    /// What keeps standard output from being written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A remark beside the output, on standard error.
pub fn remark(text: &str) {
    // Where standard error is gone nobody wants to know.
    drop(writeln!(io::stderr(), "{text}"));
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.replace(char::is_control, " "),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(parts) if parts.is_empty() => "-".to_owned(),
        Value::Array(parts) => parts.iter().map(shown).collect::<Vec<_>>().join(","),
        Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_has_no_lines_and_aligns_numbers() {
        let columns = [Column::new("name", "NAME"), Column::new("count", "COUNT"), Column::new("ids", "IDS")];
        let rows = [
            json!({"name": "a", "count": 5, "ids": [1, 2]}),
            json!({"name": null, "count": 10_000, "ids": []}),
        ];
        let out = Out::new(Output::Text, Color::Never);
        let text: Vec<String> =
            out.table(&columns, &rows).lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(text, ["NAME  COUNT  IDS", "a         5  1,2", "-     10000  -"]);
    }

    #[test]
    fn colours_come_only_when_they_are_wanted() {
        let columns = [Column::new("state", "STATE").tone(|_value| Tone::Bad)];
        let rows = [json!({"state": "gone"})];
        let red = Out::new(Output::Text, Color::Always).table(&columns, &rows).to_string();
        let plain = Out::new(Output::Text, Color::Never).table(&columns, &rows).to_string();
        assert!(red.contains('\u{1b}') && !plain.contains('\u{1b}'));
    }

    #[test]
    fn control_characters_of_others_do_not_reach_the_terminal() {
        assert_eq!(shown(&json!("a\u{1b}[31mb")), "a [31mb");
    }
}
