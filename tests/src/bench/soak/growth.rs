//! When something has grown: its last third of samples stands clearly above the second third. The first
//! third is warm-up. Medians, so that no single sample decides.

use std::fmt;

/// What is watched for growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Resident memory, MiB.
    Memory,
    /// Open descriptors.
    Descriptors,
}

/// The samples of one quantity of one process.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What it is called in the report.
    pub(super) name: String,
    pub(super) quantity: Quantity,
    /// In the order in which they were taken.
    pub(super) values: Vec<f64>,
}

/// Growth up to this share of the second third's median is tolerated, and the quantity's slack on top.
const TOLERATED: f64 = 0.05;

impl Quantity {
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Memory => "MiB",
            Self::Descriptors => "descriptors",
        }
    }

    const fn slack(self) -> f64 {
        match self {
            Self::Memory => 4.0,
            Self::Descriptors => 64.0,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
        })
    }
}

impl Series {
    /// A sentence about its growth, if it has grown.
    pub(super) fn growth(&self) -> Option<String> {
        let third = self.values.len() / 3;
        let (rest, last) = self.values.split_at(self.values.len() - third);
        let second = &rest[rest.len() - third..];
        let (before, after) = (median(second)?, median(last)?);
        let limit = before * (1.0 + TOLERATED) + self.quantity.slack();
        (after > limit).then(|| {
            let unit = self.quantity.unit();
            format!(
                "{} went from {before:.1} to {after:.1} {unit}, above the limit of {limit:.1}",
                self.name
            )
        })
    }
}

/// The rule, for the report.
pub(super) fn rule() -> String {
    format!(
        "A proxy has grown when the median of the last third of its samples is above that of the second \
         third by more than {} % and, on top, {} {} or {} {}; the first third is warm-up.",
        TOLERATED * 100.0,
        Quantity::Memory.slack(),
        Quantity::Memory.unit(),
        Quantity::Descriptors.slack(),
        Quantity::Descriptors.unit()
    )
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let lower = if sorted.len() % 2 == 1 {
        upper
    } else {
        sorted[middle - 1]
    };
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(values: impl IntoIterator<Item = f64>) -> Series {
        Series {
            name: "memory-client-side".into(),
            quantity: Quantity::Memory,
            values: values.into_iter().collect(),
        }
    }

    #[test]
    fn warm_up_and_single_peaks_are_no_growth() {
        let warming = (0..60).map(|n| 20.0 + f64::from(n.min(15)) * 10.0);
        assert_eq!(memory(warming).growth(), None);
        let peak = (0..60).map(|n| if n % 7 == 0 { 900.0 } else { 30.0 });
        assert_eq!(memory(peak).growth(), None);
        let noise = (0..60).map(|n| 100.0 + f64::from(n * 31 % 17));
        assert_eq!(memory(noise).growth(), None);
        for few in 0..3 {
            assert_eq!(memory((0..few).map(f64::from)).growth(), None);
        }
    }

    #[test]
    fn steady_growth_is_seen() {
        // 40 KiB/s, sampled every 10 s for ten minutes.
        let leak = (0..60).map(|n| 30.0 + f64::from(n) * 0.4);
        let told = memory(leak).growth().unwrap();
        assert!(
            told.starts_with("memory-client-side went from 41.8 to 49.8 MiB"),
            "{told}"
        );
        let descriptors = Series {
            name: "descriptors-server-side".into(),
            quantity: Quantity::Descriptors,
            values: (0..60).map(|n| 300.0 + f64::from(n) * 5.0).collect(),
        };
        assert!(descriptors.growth().is_some());
        assert!(
            memory((0..3).map(|n| f64::from(n) * 100.0))
                .growth()
                .is_some()
        );
    }
}
