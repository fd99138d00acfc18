//! What is shown, and how: tables for people, JSON and YAML for programs.

mod table;
mod terminal;

pub use table::{Cell, Column, Table, Tone};

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use super::CliError;
use terminal::Terminal;

/// How to show it.
#[derive(Clone, Debug, clap::Args)]
pub struct OutputOptions {
    /// How to show it
    #[arg(short, long, value_enum, value_name = "FORMAT", global = true)]
    pub output: Option<Format>,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table that fits the terminal, or text
    #[value(alias = "text")]
    Table,
    /// A table with every column
    Wide,
    /// JSON, for programs
    Json,
    /// YAML, for programs
    Yaml,
}

/// Standard output.
pub struct Output {
    format: Option<Format>,
    terminal: Terminal,
}

impl Output {
    /// As these options and the terminal want it.
    pub fn new(options: &OutputOptions) -> Self {
        Self {
            format: options.output,
            terminal: Terminal::of_stdout(),
        }
    }

    /// The form that was asked for.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// Whether tables are shown.
    pub fn is_table(&self) -> bool {
        matches!(self.format, None | Some(Format::Table | Format::Wide))
    }

    /// Shows `value` as JSON or YAML if that was asked for, or else the tables, with an empty line between
    /// one and the next.
    pub fn show<'a>(
        &self,
        value: &impl Serialize,
        tables: impl IntoIterator<Item = &'a Table>,
    ) -> Result<(), CliError> {
        match self.format.unwrap_or(Format::Table) {
            Format::Table => self.tables(tables, false),
            Format::Wide => self.tables(tables, true),
            Format::Json => self.json(value),
            Format::Yaml => self.yaml(value),
        }
    }

    /// Shows a value as JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<(), CliError> {
        let mut text = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
        text.push(b'\n');
        self.write(&text)
    }

    /// Shows a value as YAML.
    pub fn yaml(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_norway::to_string(value).map_err(io::Error::other)?;
        self.write(text.as_bytes())
    }

    /// Text in that tone, as the terminal shows it.
    pub fn tinted(&self, tone: Tone, text: &str) -> String {
        tone.paint(text, self.terminal.colour)
    }

    /// Writes bytes as they are.
    pub fn write(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        Ok(())
    }

    fn tables<'a>(
        &self,
        tables: impl IntoIterator<Item = &'a Table>,
        wide: bool,
    ) -> Result<(), CliError> {
        let width = self.terminal.width.filter(|_| !wide);
        let tables = tables.into_iter();
        let texts: Vec<_> = tables
            .map(|table| table.render(wide, width, self.terminal.colour))
            .collect();
        self.write(texts.join("\n").as_bytes())
    }
}
