//! What the rounds gave, and the report that is made of it.

use super::{Machine, Ratio, Report, Row};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;

/// All values of a benchmark. Metrics and contenders keep the order in which they first came.
#[derive(Debug, Default)]
pub struct Samples {
    metrics: Vec<Metric>,
    contenders: Vec<String>,
}

#[derive(Debug)]
struct Metric {
    name: String,
    unit: String,
    /// The value of each round, by contender.
    values: BTreeMap<String, BTreeMap<u32, f64>>,
}

impl Samples {
    /// Adds the value of one round.
    ///
    /// # Errors
    /// When the value is no number, the round has one already, or the metric has another unit.
    pub fn add(
        &mut self,
        metric: &str,
        unit: &str,
        contender: &str,
        round: u32,
        value: f64,
    ) -> Result<()> {
        let what = || format!("{metric} of {contender} in round {round}");
        ensure!(value.is_finite(), "{} is {value}", what());
        if !self.contenders.iter().any(|name| name == contender) {
            self.contenders.push(contender.to_owned());
        }
        let metric = self.metric(metric, unit);
        ensure!(
            metric.unit == unit,
            "{} is in {unit}, others are in {}",
            what(),
            metric.unit
        );
        let rounds = metric.values.entry(contender.to_owned()).or_default();
        let before = rounds.insert(round, value);
        ensure!(before.is_none(), "{} was measured twice", what());
        Ok(())
    }

    /// The report. `pairs` are the contenders to compare, each with its baseline; a round in which one
    /// of them has no value, or the baseline's value is zero, gives no quotient.
    pub fn report(&self, pairs: &[(&str, &str)], machine: Machine, notes: Vec<String>) -> Report {
        let rows = self.metrics.iter().flat_map(|metric| {
            let row = |contender| metric.row(contender);
            self.contenders.iter().filter_map(row)
        });
        let ratios = self.metrics.iter().flat_map(|metric| {
            let ratio = |(contender, against): &(&str, &str)| metric.ratio(contender, against);
            pairs.iter().filter_map(ratio)
        });
        Report {
            machine,
            rows: rows.collect(),
            ratios: ratios.collect(),
            notes,
        }
    }

    fn metric(&mut self, name: &str, unit: &str) -> &mut Metric {
        let found = self.metrics.iter().position(|metric| metric.name == name);
        let index = found.unwrap_or(self.metrics.len());
        if found.is_none() {
            self.metrics.push(Metric {
                name: name.to_owned(),
                unit: unit.to_owned(),
                values: BTreeMap::new(),
            });
        }
        &mut self.metrics[index]
    }
}

impl Metric {
    fn row(&self, contender: &String) -> Option<Row> {
        let values = self.values.get(contender)?;
        let spread = Spread::of(values.values().copied())?;
        Some(Row {
            metric: self.name.clone(),
            contender: contender.clone(),
            unit: self.unit.clone(),
            median: spread.median,
            min: spread.min,
            max: spread.max,
            rounds: values.len(),
        })
    }

    fn ratio(&self, contender: &str, against: &str) -> Option<Ratio> {
        let (ours, theirs) = (self.values.get(contender)?, self.values.get(against)?);
        let quotients = ours.iter().filter_map(|(round, value)| {
            let base = theirs.get(round)?;
            (*base != 0.0).then(|| value / base)
        });
        let spread = Spread::of(quotients)?;
        Some(Ratio {
            metric: self.name.clone(),
            contender: contender.to_owned(),
            against: against.to_owned(),
            median: spread.median,
            min: spread.min,
            max: spread.max,
        })
    }
}

/// The middle and the ends of some values.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}
