//! The table for a terminal.

use super::figure::{figure, quotient};
use super::{Ratio, Report};
use std::fmt::Write as _;

/// Which side a cell's text stands on.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

pub(super) fn render(report: &Report) -> String {
    let mut text = format!("{}\n", report.machine.line());
    let programs = report.machine.programs();
    if !programs.is_empty() {
        text += &format!("{programs}\n");
    }
    let mut lines = lines(report);
    align(&mut lines, &sides(report));
    for (n, line) in lines.iter().enumerate() {
        // An empty line before each metric, which is the line that has its name.
        if n == 0 || !line[0].trim().is_empty() {
            text.push('\n');
        }
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn sides(report: &Report) -> Vec<Side> {
    let mut sides = vec![Side::Left, Side::Left, Side::Left];
    sides.extend([Side::Right; 4]);
    sides.extend(report.baselines().iter().map(|_| Side::Left));
    sides
}

/// The head and one line for each row; the metric and the unit are on the first of a metric's lines.
fn lines(report: &Report) -> Vec<Vec<String>> {
    let baselines = report.baselines();
    let head = [
        "metric",
        "unit",
        "contender",
        "median",
        "min",
        "max",
        "rounds",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines[0].extend(baselines.iter().map(|against| format!("x {against}")));
    for rows in report.metrics() {
        for (n, row) in rows.iter().enumerate() {
            let first = |text: &String| if n == 0 { text.clone() } else { String::new() };
            let mut line = vec![
                first(&row.metric),
                first(&row.unit),
                row.contender.clone(),
                figure(row.median),
                figure(row.min),
                figure(row.max),
                row.rounds.to_string(),
            ];
            let ratio = |against: &&str| report.ratio(row, against).map(shown);
            line.extend(baselines.iter().map(|b| ratio(b).unwrap_or_default()));
            lines.push(line);
        }
    }
    lines
}

fn shown(ratio: &Ratio) -> String {
    format!(
        "{} ({}..{})",
        quotient(ratio.median),
        quotient(ratio.min),
        quotient(ratio.max)
    )
}

/// Pads each cell to the width of its column.
fn align(lines: &mut [Vec<String>], sides: &[Side]) {
    for (column, side) in sides.iter().enumerate() {
        let width = |line: &Vec<String>| line[column].chars().count();
        let width = lines.iter().map(width).max().unwrap_or(0);
        for line in &mut *lines {
            let cell = &line[column];
            line[column] = match side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            };
        }
    }
}
