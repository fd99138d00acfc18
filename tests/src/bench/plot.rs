//! The plot of a report: the figures by which data planes are compared first.

use super::report::Report;

const TITLE: &str = "Weft's data plane";

/// Metrics that are shown when they were measured; a report without any of them is shown whole.
const MAIN: &[&str] = &[
    "bulk-1",
    "bulk-8",
    "bulk-64",
    "rtt-64b-1-p50",
    "rtt-64b-1-p99",
    "http-64",
    "connect",
    "bulk-1-cpu-proxies",
    "http-64-cpu-proxies",
    "memory-idle",
    "memory-10000-connections",
    "memory-100000-workloads",
    "enrolment-100-pods",
];

/// The plot, an SVG file.
pub fn plot(report: &Report) -> String {
    let main = report.only(|metric| MAIN.contains(&metric));
    let shown = if main.rows.is_empty() { report } else { &main };
    shown.svg(TITLE)
}
