//! What the rounds gave, by metric and contender.

use super::contender::{Contender, Via};
use super::load::Figure;

/// The values of one metric for one contender, one a round.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What was measured.
    pub(super) metric: String,
    /// For whom.
    pub(super) contender: Contender,
    /// The unit of the values.
    pub(super) unit: &'static str,
    /// The value of each round.
    pub(super) values: Vec<f64>,
}

/// Every series, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Series>);

impl Samples {
    /// Adds a round's value.
    pub(super) fn push(&mut self, contender: &Contender, figure: Figure) {
        let found = self
            .0
            .iter_mut()
            .find(|s| s.metric == figure.metric && s.contender == *contender);
        match found {
            Some(series) => series.values.push(figure.value),
            None => self.0.push(Series {
                metric: figure.metric,
                contender: contender.clone(),
                unit: figure.unit,
                values: vec![figure.value],
            }),
        }
    }

    /// Adds, for every latency through a proxy, how much longer than without it took in the same round.
    pub(super) fn add_latency(&mut self) {
        let mut added = Vec::new();
        for series in self.0.iter().filter(|s| is_latency(&s.metric)) {
            let direct = Contender {
                via: Via::Direct,
                same_node: series.contender.same_node,
            };
            if series.contender == direct {
                continue;
            }
            if let Some(without) = self.values(&series.metric, &direct) {
                let pairs = series.values.iter().zip(without);
                added.push(Series {
                    metric: format!("{}-added", series.metric),
                    values: pairs.map(|(with, without)| with - without).collect(),
                    ..series.clone()
                });
            }
        }
        self.0.extend(added);
    }

    /// All of them.
    pub(super) fn series(&self) -> &[Series] {
        &self.0
    }

    /// The values of one metric for one contender.
    pub(super) fn values(&self, metric: &str, contender: &Contender) -> Option<&[f64]> {
        let found = self
            .0
            .iter()
            .find(|s| s.metric == metric && s.contender == *contender);
        found.map(|series| &*series.values)
    }
}

fn is_latency(metric: &str) -> bool {
    ["-p50", "-p99", "-p999"]
        .iter()
        .any(|end| metric.ends_with(end))
}
