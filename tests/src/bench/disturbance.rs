//! What others did on the machine meanwhile: the loads run beside it, and their figures suffer from it.

/// So many processors in the hands of others are worth a warning.
const DISTURBED: f64 = 0.1;

/// How many processors programs outside the lab used, run by run.
#[derive(Debug, Default)]
pub(super) struct Disturbance {
    runs: Vec<f64>,
    worst: Option<(f64, String)>,
}

impl Disturbance {
    /// Others used this many processors on average during `what`.
    pub(super) fn saw(&mut self, processors: f64, what: &str) {
        if processors > DISTURBED {
            eprintln!(
                "bench: warning: other programs used {processors:.2} processors during {what}"
            );
        }
        self.runs.push(processors);
        if self
            .worst
            .as_ref()
            .is_none_or(|(most, _)| processors > *most)
        {
            self.worst = Some((processors, what.to_owned()));
        }
    }

    /// A sentence for the report; none when nothing ran.
    pub(super) fn note(&self) -> Option<String> {
        let (most, when) = self.worst.as_ref()?;
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let disturbed = sorted.iter().filter(|used| **used > DISTURBED).count();
        Some(format!(
            "Programs outside the lab, the kernel's own threads among them, used {median:.2} processors \
             (median over the runs) and at most {most:.2}, during {when}; in {disturbed} of {} runs it was \
             more than {DISTURBED}.",
            self.runs.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::Disturbance;

    #[test]
    fn the_note_names_the_worst_run() {
        let mut disturbance = Disturbance::default();
        assert_eq!(disturbance.note(), None);
        for (processors, what) in [(0.01, "a"), (0.7, "b through weft"), (0.02, "c")] {
            disturbance.saw(processors, what);
        }
        let note = disturbance.note().unwrap();
        assert!(note.contains("0.02 processors (median"), "{note}");
        assert!(
            note.contains("at most 0.70, during b through weft"),
            "{note}"
        );
        assert!(note.contains("in 1 of 3 runs"), "{note}");
    }
}
