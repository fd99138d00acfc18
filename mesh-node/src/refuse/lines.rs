//! One log line for many refused connections: the first at once, then at most one a minute for each pod and policy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bpf::RefusedConnection;
use crate::pod::Pod;

/// The shortest time between two lines of one pod and policy.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Of one policy, since its last line.
#[derive(Debug, Default)]
struct Line {
    count: u64,
    last: Option<RefusedConnection>,
    written: Option<Instant>,
}

/// What was refused on behalf of one pod and is to be logged.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<Arc<str>, Line>);

impl Lines {
    pub(super) fn add(&mut self, policy: Arc<str>, count: u64, last: Option<RefusedConnection>) {
        let line = self.0.entry(policy).or_default();
        line.count += count;
        line.last = last;
    }

    /// Logs what is due.
    pub(super) fn write_due(&mut self, pod: &Pod, now: Instant) {
        for (policy, text) in self.due(now) {
            tracing::info!(%pod, %policy, "{text}");
        }
    }

    /// Logs all that is left.
    pub(super) fn write_all(&mut self, pod: &Pod) {
        for (policy, line) in std::mem::take(&mut self.0) {
            if line.count > 0 {
                tracing::info!(%pod, %policy, "{}", line.text());
            }
        }
    }

    /// The lines that are due; they are taken for written. What has had none for long is forgotten.
    fn due(&mut self, now: Instant) -> Vec<(Arc<str>, String)> {
        let mut due = Vec::new();
        self.0.retain(|policy, line| {
            let rests = |at: Instant| now.saturating_duration_since(at) < LINE_EVERY;
            if line.written.is_some_and(rests) {
                return true;
            }
            if line.count == 0 {
                return false;
            }
            due.push((policy.clone(), line.text()));
            *line = Line {
                written: Some(now),
                ..Line::default()
            };
            true
        });
        due
    }
}

impl Line {
    fn text(&self) -> String {
        let connections = if self.count == 1 {
            "1 plaintext connection".to_owned()
        } else {
            format!("{} plaintext connections", self.count)
        };
        match self.last {
            Some(RefusedConnection { source, port, .. }) => {
                format!(
                    "{connections} refused in the kernel, the last from {source} to port {port}"
                )
            }
            None => format!("{connections} refused in the kernel"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let policy: Arc<str> = "shop/strict".into();
        let last = RefusedConnection {
            time: Duration::from_secs(1),
            source: "10.0.0.9:4242".parse().unwrap(),
            port: 8080,
        };
        let mut lines = Lines::default();
        let start = Instant::now();
        lines.add(policy.clone(), 1, Some(last));
        let told = "1 plaintext connection refused in the kernel, the last from 10.0.0.9:4242 to port 8080";
        assert_eq!(lines.due(start), [(policy.clone(), told.to_owned())]);
        lines.add(policy.clone(), 2, Some(last));
        lines.add(policy.clone(), 3, None);
        assert_eq!(lines.due(start + LINE_EVERY / 2), []);
        let told = "5 plaintext connections refused in the kernel".to_owned();
        assert_eq!(lines.due(start + LINE_EVERY), [(policy.clone(), told)]);
        assert_eq!(lines.due(start + 2 * LINE_EVERY), []);
        assert!(lines.0.is_empty(), "what rests for long is forgotten");
    }
}
