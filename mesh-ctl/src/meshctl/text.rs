//! Numbers and times as people read them.

use std::time::{Duration, SystemTime};

/// A length of time in at most two units: `5s`, `3m12s`, `2h5m`, `4d3h`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let units = [(86400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size);
    let Some(first) = first else {
        return "0s".to_owned();
    };
    let (size, unit) = units[first];
    let mut text = format!("{}{unit}", seconds / size);
    if let Some((next, unit)) = units.get(first + 1)
        && seconds % size / next > 0
    {
        text.push_str(&format!("{}{unit}", seconds % size / next));
    }
    text
}

/// As [`duration`].
pub fn seconds(seconds: u64) -> String {
    duration(Duration::from_secs(seconds))
}

/// A number of bytes: `512 B`, `1.5 KiB`, `20 MiB`.
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = units[0];
    for larger in &units[1..] {
        // What would be rounded to 1024 belongs to the next unit.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A time as RFC 3339 gives it.
pub fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339_weak(text).ok()
}

/// How long ago that was; the text itself if it is no time.
pub fn since(text: &str, now: SystemTime) -> String {
    let past = time(text).map(|at| now.duration_since(at).unwrap_or_default());
    past.map_or_else(|| text.to_owned(), duration)
}

/// `3 agents`, `1 agent`.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (length, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (192, "3m12s"),
            (3600, "1h"),
            (7500, "2h5m"),
            (3601, "1h"),
            (356_400, "4d3h"),
            (86400 * 400, "400d"),
        ] {
            assert_eq!(seconds(length), text);
        }
    }

    #[test]
    fn bytes_are_rounded_in_the_unit_that_fits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 * 1024, "10 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (20 << 20, "20 MiB"),
            (5 << 50, "5.0 PiB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn times_are_read_with_and_without_a_fraction() {
        let at = time("2026-01-02T03:04:05Z").unwrap();
        assert_eq!(
            time("2026-01-02T03:04:05.5Z").unwrap(),
            at + Duration::from_millis(500)
        );
        assert_eq!(
            since("2026-01-02T03:04:05Z", at + Duration::from_secs(61)),
            "1m1s"
        );
        assert_eq!(since("then", at), "then");
    }
}
