//! The table: what was asked, what was expected, what came.

use crate::access_log::Entry;
use crate::topology::Pod;
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Instant;

/// One claim and what became of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// What is claimed.
    pub name: String,
    /// The client.
    pub from: String,
    /// The server.
    pub to: String,
    /// What the client asked.
    pub asked: String,
    /// What must happen.
    pub expected: String,
    /// What happened.
    pub got: String,
    /// True when the row holds.
    pub ok: bool,
    /// The policy that decided.
    pub policy: Option<String>,
    /// The client's identity.
    pub source_identity: Option<String>,
    /// The server's identity.
    pub destination_identity: Option<String>,
    /// Bytes of the application, both directions.
    pub bytes: u64,
    /// What was seen from outside.
    pub evidence: String,
    /// What did not hold.
    pub problems: Vec<String>,
}

impl Row {
    /// A row, before it is tried.
    pub(super) fn new(name: &str, from: &Pod, to: &str, asked: &str, expected: &str) -> Self {
        Self {
            name: name.to_owned(),
            from: from.key(),
            to: to.to_owned(),
            asked: asked.to_owned(),
            expected: expected.to_owned(),
            ..Self::default()
        }
    }

    /// States what must hold; when it does not, the row fails with the complaint.
    pub(super) fn must(&mut self, holds: bool, complaint: impl Into<String>) {
        if !holds {
            self.problems.push(complaint.into());
        }
    }

    /// Adds to what was seen from outside.
    pub(super) fn saw(&mut self, what: impl AsRef<str>) {
        if !self.evidence.is_empty() {
            self.evidence.push_str("; ");
        }
        self.evidence.push_str(what.as_ref());
    }

    /// Takes identities, policy and bytes from an agent's access log.
    pub(super) fn take(&mut self, entry: &Entry) {
        self.policy.clone_from(&entry.policy);
        self.source_identity.clone_from(&entry.src_identity);
        self.destination_identity.clone_from(&entry.dst_identity);
        self.bytes += entry.bytes_sent + entry.bytes_recv;
    }
}

/// A title, and what stands under it for a row.
type Column = (&'static str, fn(&Row) -> String);

/// All rows.
#[derive(Debug, Serialize)]
pub struct Report {
    rows: Vec<Row>,
    seconds: f64,
    #[serde(skip)]
    start: Instant,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            rows: Vec::new(),
            seconds: 0.0,
            start: Instant::now(),
        }
    }

    /// Tries one row and tells the progress on stderr. An error is a row that does not hold.
    pub(super) fn row(&mut self, mut row: Row, attempt: impl FnOnce(&mut Row) -> Result<()>) {
        eprint!("demo: {:2}. {} ... ", self.rows.len() + 1, row.name);
        let start = Instant::now();
        if let Err(error) = attempt(&mut row) {
            row.problems.push(format!("{error:#}"));
        }
        row.ok = row.problems.is_empty();
        let word = if row.ok { "ok" } else { "FAILED" };
        eprintln!("{word} ({:.1} s)", start.elapsed().as_secs_f64());
        for problem in &row.problems {
            eprintln!("demo:     {problem}");
        }
        self.rows.push(row);
        self.seconds = self.start.elapsed().as_secs_f64();
    }

    /// The names of the rows that do not hold.
    pub fn failed(&self) -> Vec<&str> {
        self.rows
            .iter()
            .filter(|row| !row.ok)
            .map(|row| row.name.as_str())
            .collect()
    }

    /// The table for a person.
    pub fn table(&self) -> String {
        let columns: [Column; 7] = [
            ("", |row| if row.ok { "ok".into() } else { "FAIL".into() }),
            ("row", |row| row.name.clone()),
            ("from", |row| row.from.clone()),
            ("to", |row| row.to.clone()),
            ("asked", |row| row.asked.clone()),
            ("expected", |row| row.expected.clone()),
            ("got", |row| row.got.clone()),
        ];
        let width = |(title, cell): &Column| {
            let cells = self.rows.iter().map(|row| cell(row).chars().count());
            cells.chain([title.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = columns.iter().map(width).collect();
        let mut text = String::new();
        let mut line = |cells: Vec<String>| {
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(text, "{cell:width$}  ");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        };
        line(
            columns
                .iter()
                .map(|(title, _)| (*title).to_owned())
                .collect(),
        );
        for row in &self.rows {
            line(columns.iter().map(|(_, cell)| cell(row)).collect());
            let dash = || "-".to_owned();
            line(vec![
                String::new(),
                format!(
                    "identities {} -> {}; policy {}; {} bytes",
                    row.source_identity.clone().unwrap_or_else(dash),
                    row.destination_identity.clone().unwrap_or_else(dash),
                    row.policy.clone().unwrap_or_else(dash),
                    row.bytes
                ),
            ]);
            line(vec![String::new(), format!("seen: {}", row.evidence)]);
            for problem in &row.problems {
                line(vec![String::new(), format!("BUT: {problem}")]);
            }
        }
        text
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when nothing was tried.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
