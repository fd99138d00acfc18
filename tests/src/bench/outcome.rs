//! Medians, extremes and ratios of what was sampled.

use super::contender::{Contender, Via};
use super::samples::{Samples, Series};
use serde::Serialize;

/// A metric of a contender over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub metric: String,
    /// For whom.
    pub contender: String,
    /// The unit of the values.
    pub unit: &'static str,
    /// The median of the rounds.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// How many rounds there were.
    pub rounds: usize,
}

/// One contender's metric divided by another's, both of the same round; the median of those.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// What was measured.
    pub metric: String,
    /// The dividend.
    pub contender: String,
    /// The divisor.
    pub against: String,
    /// The median of the rounds' ratios.
    pub ratio: f64,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// One a metric and contender.
    pub rows: Vec<Row>,
    /// One a metric and pair of contenders that are compared.
    pub ratios: Vec<Ratio>,
}

impl Outcome {
    pub(super) fn new(samples: &Samples, contenders: &[Contender]) -> Self {
        let rows = samples.series().iter().map(row).collect();
        let mut ratios = Vec::new();
        for series in samples.series() {
            for against in rivals(&series.contender, contenders) {
                let Some(other) = samples.values(&series.metric, against) else {
                    continue;
                };
                let pairs = series.values.iter().zip(other);
                let each: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
                ratios.push(Ratio {
                    metric: series.metric.clone(),
                    contender: series.contender.to_string(),
                    against: against.to_string(),
                    ratio: median(&each),
                });
            }
        }
        Self { rows, ratios }
    }
}

/// With whom a contender is compared: a proxy with no proxy, Weft also with its peer.
fn rivals<'a>(of: &Contender, all: &'a [Contender]) -> impl Iterator<Item = &'a Contender> {
    let of = of.clone();
    all.iter().filter(move |other| {
        let ranks = matches!(
            (&of.via, &other.via),
            (Via::Weft, Via::Peer(_)) | (Via::Weft | Via::Peer(_), Via::Direct)
        );
        ranks && of.same_node == other.same_node
    })
}

fn row(series: &Series) -> Row {
    Row {
        metric: series.metric.clone(),
        contender: series.contender.to_string(),
        unit: series.unit,
        median: median(&series.values),
        min: series.values.iter().copied().fold(f64::INFINITY, f64::min),
        max: series
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max),
        rounds: series.values.len(),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}
