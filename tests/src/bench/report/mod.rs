//! The report of a benchmark: one shape for every `cargo xtask bench`, as JSON, a table and a plot.
//!
//! A row is one metric of one contender over all rounds. A ratio divides two contenders' values of the
//! same round and is the median of those quotients: what disturbs a whole round cancels out.

mod figure;
mod machine;
mod samples;
mod svg;
mod table;

pub use machine::Machine;
pub use samples::Samples;

use serde::{Deserialize, Serialize};

/// Everything that a benchmark found out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// Where and when it ran.
    pub machine: Machine,
    /// One for each metric and contender, those of one metric together.
    pub rows: Vec<Row>,
    /// One for each metric and pair of contenders that were compared.
    pub ratios: Vec<Ratio>,
    /// What a reader must know to read the figures rightly.
    pub notes: Vec<String>,
}

/// One metric of one contender over all rounds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub metric: String,
    /// What it was measured on.
    pub contender: String,
    /// The unit of the values; a unit that ends in `/s` is a rate, and more of it is better.
    pub unit: String,
    /// The median of the rounds.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// How many rounds have a value.
    pub rounds: usize,
}

/// A contender's values divided by another's, round by round.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ratio {
    /// What was measured.
    pub metric: String,
    /// The dividend.
    pub contender: String,
    /// The divisor.
    pub against: String,
    /// The median of the quotients.
    pub median: f64,
    /// The smallest quotient.
    pub min: f64,
    /// The largest quotient.
    pub max: f64,
}

impl Report {
    /// The same report with only those rows and ratios whose metric is wanted.
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let mut report = self.clone();
        report.rows.retain(|row| wanted(&row.metric));
        report.ratios.retain(|ratio| wanted(&ratio.metric));
        report
    }

    /// The table for a terminal, with the machine above it and the notes below.
    pub fn table(&self) -> String {
        table::render(self)
    }

    /// A plot: for each metric a bar for each contender's median, with a whisker from min to max.
    pub fn svg(&self, title: &str) -> String {
        svg::render(self, title)
    }

    /// The rows of each metric.
    fn metrics(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|a, b| a.metric == b.metric)
    }

    /// The ratio of a row's contender against another.
    fn ratio(&self, row: &Row, against: &str) -> Option<&Ratio> {
        let fits = |ratio: &&Ratio| {
            ratio.metric == row.metric
                && ratio.contender == row.contender
                && ratio.against == against
        };
        self.ratios.iter().find(fits)
    }

    /// Those that others are compared with, each once.
    fn baselines(&self) -> Vec<&str> {
        distinct(self.ratios.iter().map(|ratio| &*ratio.against))
    }

    /// All contenders, each once.
    fn contenders(&self) -> Vec<&str> {
        distinct(self.rows.iter().map(|row| &*row.contender))
    }

    /// The fewest and the most rounds of a row.
    fn rounds(&self) -> Option<(usize, usize)> {
        let rounds = || self.rows.iter().map(|row| row.rounds);
        rounds().min().zip(rounds().max())
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests;
