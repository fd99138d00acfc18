//! When a certificate should worry somebody.

use std::time::{Duration, SystemTime};

use mesh_common::admin::ChainCertificate;

use super::text;

/// Whoever has to act on a root or an intermediate wants to know this long before.
const NOTICE: Duration = Duration::from_secs(30 * 86400);

/// Whether it ends soon, or has ended. SVIDs are renewed at half of their life, so one in its last quarter
/// was not; of the others a person is in charge.
pub fn is_near(certificate: &ChainCertificate, now: SystemTime) -> bool {
    let begin = text::time(&certificate.not_before);
    let end = text::time(&certificate.not_after);
    let (Some(begin), Some(end)) = (begin, end) else {
        return true;
    };
    let quarter = end.duration_since(begin).unwrap_or_default() / 4;
    let notice = match certificate.role.as_str() {
        "leaf" => quarter,
        _ => quarter.min(NOTICE),
    };
    end.duration_since(now).unwrap_or_default() < notice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_and_at_most_thirty_days() {
        let day = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n * 86400);
        let show = |at| humantime::format_rfc3339_seconds(at).to_string();
        let certificate = |role: &str, days| ChainCertificate {
            role: role.to_owned(),
            name: String::new(),
            serial: String::new(),
            not_before: show(day(0)),
            not_after: show(day(days)),
        };
        for (role, life, today, near) in [
            ("leaf", 8, 5, false),
            ("leaf", 8, 7, true),
            ("leaf", 8, 9, true),
            ("leaf", 4000, 3100, true),
            ("root", 4000, 3960, false),
            ("root", 4000, 3975, true),
            ("root", 8, 5, false),
            ("root", 8, 7, true),
        ] {
            let near_now = is_near(&certificate(role, life), day(today));
            assert_eq!(near_now, near, "{role} of {life} days on day {today}");
        }
    }
}
