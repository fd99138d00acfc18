//! When to try again and when to renew: arithmetic only, time and chance come in as arguments.

use std::time::{Duration, SystemTime};

/// Growing pauses between attempts.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            failures: 0,
        }
    }

    /// The pause after one more failure: doubled each time, at most `most`, and of that between half and
    /// all by `chance` (0 to 1), so that many clients do not come back together.
    pub(super) fn after_failure(&mut self, chance: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = (self.failures + 1).min(31);
        doubled
            .min(self.most)
            .mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// When to renew what was obtained at `obtained` and is valid until `not_after`: halfway or, by `chance`
/// (0 to 1), up to a tenth of the time earlier. The certificate's own beginning does not count, because
/// authorities date it back.
pub(super) fn renewal(obtained: SystemTime, not_after: SystemTime, chance: f64) -> SystemTime {
    let life = not_after.duration_since(obtained).unwrap_or_default();
    obtained + life.mul_f64(0.5 - 0.1 * chance.clamp(0.0, 1.0))
}

/// How long to wait from `now` until `at`; never less than `least`, so that a certificate which
/// has hardly any life left when it arrives does not make a busy loop.
pub(super) fn wait(now: SystemTime, at: SystemTime, least: Duration) -> Duration {
    at.duration_since(now).unwrap_or_default().max(least)
}

/// The longest pause while there is nothing valid to go on with: connections are being refused.
const LONGEST_WITHOUT: Duration = Duration::from_secs(15);

/// Shortens a pause at `now` so that what is valid until `valid_until` does not run out during it.
pub(super) fn capped(
    pause: Duration,
    now: SystemTime,
    valid_until: Option<SystemTime>,
) -> Duration {
    let left = valid_until
        .and_then(|until| until.duration_since(now).ok())
        .unwrap_or_default();
    pause.min(left.max(LONGEST_WITHOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_limit_and_start_over() {
        let mut backoff = Backoff::new(SECOND, 150 * SECOND);
        let pauses: Vec<_> = (0..10)
            .map(|_| backoff.after_failure(1.0).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]);
        for _ in 0..100 {
            assert_eq!(backoff.after_failure(1.0), 150 * SECOND);
        }
        backoff.reset();
        assert_eq!(backoff.after_failure(1.0), SECOND);
    }

    #[test]
    fn chance_takes_at_most_half_off() {
        let mut backoff = Backoff::new(8 * SECOND, 8 * SECOND);
        assert_eq!(backoff.after_failure(0.0), 4 * SECOND);
        assert_eq!(backoff.after_failure(0.5), 6 * SECOND);
        assert_eq!(backoff.after_failure(7.0), 8 * SECOND);
    }

    #[test]
    fn renewal_is_at_half_of_life_or_a_little_earlier() {
        let from = SystemTime::UNIX_EPOCH + 1000 * SECOND;
        let to = from + 100 * SECOND;
        assert_eq!(renewal(from, to, 0.0), from + 50 * SECOND);
        assert_eq!(renewal(from, to, 1.0), from + 40 * SECOND);
        assert_eq!(renewal(to, from, 0.5), to);
    }

    #[test]
    fn waiting_is_never_a_busy_loop() {
        let now = SystemTime::UNIX_EPOCH + 1000 * SECOND;
        assert_eq!(wait(now, now + 5 * SECOND, SECOND), 5 * SECOND);
        assert_eq!(wait(now, now, SECOND), SECOND);
        assert_eq!(wait(now, now - 5 * SECOND, SECOND), SECOND);
    }

    #[test]
    fn pauses_are_short_when_there_is_nothing_to_go_on_with() {
        let now = SystemTime::UNIX_EPOCH + 1000 * SECOND;
        let pause = 150 * SECOND;
        assert_eq!(capped(pause, now, None), 15 * SECOND);
        assert_eq!(capped(pause, now, Some(now - SECOND)), 15 * SECOND);
        assert_eq!(capped(pause, now, Some(now + 60 * SECOND)), 60 * SECOND);
        assert_eq!(capped(pause, now, Some(now + 3600 * SECOND)), pause);
        assert_eq!(capped(SECOND, now, None), SECOND);
    }
}
