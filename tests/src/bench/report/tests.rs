//! Reports of made-up samples.

use super::*;
use std::collections::BTreeMap;
use std::path::Path;

fn machine() -> Machine {
    Machine {
        kernel: "6.12.0".into(),
        cpu: "Example CPU @ 2.00GHz".into(),
        cores: 2,
        date: "2026-01-02".into(),
        versions: BTreeMap::from([
            ("weft".into(), "0.1.0".into()),
            ("ztunnel".into(), "1.2".into()),
        ]),
    }
}

/// Three rounds of three contenders, where each round begins with another one.
fn samples() -> Samples {
    let mut samples = Samples::default();
    let figures = [
        ("bulk-1", "Gb/s", [15.02, 9.1, 4.12]),
        ("rtt-64b-1-p50", "µs", [35.2, 51.0, 87.4]),
        ("http-64", "requests/s", [88_012.0, 47_250.0, 20_611.0]),
        ("bulk-1-cpu-proxies", "s/GiB", [f64::NAN, 0.41, 1.2]),
    ];
    let contenders = ["direct", "weft", "ztunnel"];
    for round in 0..3 {
        for (metric, unit, values) in figures {
            for turn in 0..3 {
                let index = (round as usize + turn) % 3;
                let value = values[index] * [1.0, 1.05, 0.92][(round as usize + index) % 3];
                if !value.is_nan() {
                    let contender = contenders[index];
                    samples.add(metric, unit, contender, round, value).unwrap();
                }
            }
        }
    }
    samples
}

fn report() -> Report {
    let pairs = [
        ("weft", "direct"),
        ("ztunnel", "direct"),
        ("weft", "ztunnel"),
    ];
    let note = "Client, server and both proxies share the same cores, so a proxy that uses less CPU \
        time also leaves more of it to the client and the server; with <more> & \"faster\" cores the ratios differ.";
    samples().report(&pairs, machine(), vec![note.into()])
}

fn row<'a>(report: &'a Report, metric: &str, contender: &str) -> &'a Row {
    let fits = |row: &&Row| row.metric == metric && row.contender == contender;
    report.rows.iter().find(fits).unwrap()
}

#[test]
fn a_row_is_the_median_and_the_extremes() {
    let mut samples = Samples::default();
    for (round, value) in [5.0, 1.0, 9.0, 2.0].into_iter().enumerate() {
        samples.add("even", "s", "a", round as u32, value).unwrap();
    }
    for (round, value) in [5.0, 1.0, 9.0].into_iter().enumerate() {
        samples.add("odd", "s", "a", round as u32, value).unwrap();
    }
    let report = samples.report(&[], machine(), Vec::new());
    let even = row(&report, "even", "a");
    assert_eq!(
        (even.median, even.min, even.max, even.rounds),
        (3.5, 1.0, 9.0, 4)
    );
    let odd = row(&report, "odd", "a");
    assert_eq!(
        (odd.median, odd.min, odd.max, odd.rounds),
        (5.0, 1.0, 9.0, 3)
    );
}

#[test]
fn a_ratio_divides_values_of_the_same_round() {
    let mut samples = Samples::default();
    // Round 1 disturbed both; the quotient of the medians would be 4.
    for (round, ours, theirs) in [(0, 20.0, 10.0), (1, 2.0, 1.0), (2, 40.0, 5.0)] {
        samples.add("m", "s", "ours", round, ours).unwrap();
        samples.add("m", "s", "theirs", round, theirs).unwrap();
    }
    // Rounds that one of them missed, and one that divides by nothing.
    samples.add("m", "s", "ours", 3, 1e9).unwrap();
    samples.add("m", "s", "theirs", 4, 1e9).unwrap();
    samples.add("m", "s", "ours", 5, 1e9).unwrap();
    samples.add("m", "s", "theirs", 5, 0.0).unwrap();
    samples.add("m", "s", "alone", 9, 1.0).unwrap();
    let pairs = [
        ("ours", "theirs"),
        ("alone", "theirs"),
        ("nobody", "theirs"),
    ];
    let report = samples.report(&pairs, machine(), Vec::new());
    let [ratio] = &*report.ratios else {
        panic!("{:?}", report.ratios);
    };
    assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 2.0, 8.0));
}

#[test]
fn samples_that_contradict_each_other_are_refused() {
    let mut samples = Samples::default();
    samples.add("m", "s", "a", 0, 1.0).unwrap();
    for (unit, round, value, complaint) in [
        ("s", 0, 1.0, "m of a in round 0 was measured twice"),
        ("ms", 1, 1.0, "m of a in round 1 is in ms, others are in s"),
        ("s", 1, f64::NAN, "m of a in round 1 is NaN"),
        ("s", 1, f64::INFINITY, "m of a in round 1 is inf"),
    ] {
        let error = samples.add("m", unit, "a", round, value).unwrap_err();
        assert_eq!(error.to_string(), complaint);
    }
}

#[test]
fn rows_keep_the_order_of_the_first_round() {
    let report = report();
    let order: Vec<_> = report
        .rows
        .iter()
        .map(|r| (&*r.metric, &*r.contender))
        .collect();
    let expected = [
        ("bulk-1", "direct"),
        ("bulk-1", "weft"),
        ("bulk-1", "ztunnel"),
        ("rtt-64b-1-p50", "direct"),
        ("rtt-64b-1-p50", "weft"),
        ("rtt-64b-1-p50", "ztunnel"),
        ("http-64", "direct"),
        ("http-64", "weft"),
        ("http-64", "ztunnel"),
        ("bulk-1-cpu-proxies", "weft"),
        ("bulk-1-cpu-proxies", "ztunnel"),
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_part_of_a_report_has_only_what_is_wanted() {
    let part = report().only(|metric| metric == "http-64");
    assert_eq!((part.rows.len(), part.ratios.len()), (3, 3));
}

#[test]
fn the_json_is_as_agreed_and_can_be_read_again() {
    let report = report();
    let json = serde_json::to_string_pretty(&report).unwrap() + "\n";
    golden("report.json", &json);
    let again: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(again.machine, report.machine);
    assert_eq!(again.notes, report.notes);
    assert_eq!(again.ratios.len(), report.ratios.len());
    assert_eq!(again.rows.len(), report.rows.len());
    for (again, row) in again.rows.iter().zip(&report.rows) {
        assert_eq!(again.metric, row.metric);
        assert_eq!(again.rounds, row.rounds);
        // A number may lose its last bit on the way.
        assert!((again.median / row.median - 1.0).abs() < 1e-12);
    }
}

#[test]
fn the_table_is_as_agreed() {
    golden("table.txt", &report().table());
}

#[test]
fn the_plot_is_as_agreed() {
    golden("plot.svg", &report().svg("Weft beside no mesh & ztunnel"));
}

#[test]
fn a_report_of_nothing_is_no_failure() {
    let nothing = Samples::default().report(&[], machine(), Vec::new());
    assert!(nothing.svg("nothing").contains("Nothing was measured."));
    assert!(nothing.table().contains("contender"));
}

/// Compares with a file that a person has looked at; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, actual: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/report/golden");
    let path = dir.join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(
        actual == expected,
        "{} is no longer what comes out:\n{actual}\nlook at it, then run with UPDATE_GOLDEN=1",
        path.display()
    );
}
