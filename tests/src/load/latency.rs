//! Times of round trips: every one is kept, so a percentile is exact.

use std::time::Duration;

/// All times of a run.
#[derive(Default)]
pub(super) struct Latencies {
    nanos: Vec<u64>,
}

impl Latencies {
    /// Keeps one.
    pub(super) fn add(&mut self, time: Duration) {
        self.nanos
            .push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.nanos.len()
    }

    /// Puts them in order, after which percentiles can be asked for.
    pub(super) fn sort(mut self) -> Sorted {
        self.nanos.sort_unstable();
        Sorted(self.nanos)
    }
}

/// Times in ascending order.
pub(super) struct Sorted(Vec<u64>);

impl Sorted {
    /// The shortest time, in microseconds, that so many of 1,000 did not exceed (nearest rank); none
    /// when there are no times.
    pub(super) fn per_mille(&self, share: usize) -> Option<f64> {
        let rank = (self.0.len() * share).div_ceil(1000).max(1);
        self.0.get(rank - 1).map(|nanos| *nanos as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Sorted {
        let mut latencies = Latencies::default();
        for time in micros {
            latencies.add(Duration::from_micros(time));
        }
        latencies.sort()
    }

    #[test]
    fn a_percentile_is_the_time_of_the_nearest_rank() {
        let thousand = of((1..=1000).rev());
        assert_eq!(thousand.per_mille(500), Some(500.0));
        assert_eq!(thousand.per_mille(990), Some(990.0));
        assert_eq!(thousand.per_mille(999), Some(999.0));
        let three = of([30, 10, 20]);
        assert_eq!(three.per_mille(500), Some(20.0));
        assert_eq!(three.per_mille(999), Some(30.0));
        assert_eq!(of([7]).per_mille(500), Some(7.0));
        assert_eq!(of([]).per_mille(500), None);
    }
}
