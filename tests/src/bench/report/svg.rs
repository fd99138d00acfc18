//! The plot: one panel for each metric, in a file that needs nothing else.
//!
//! Colours follow the reader's light or dark scheme. Every bar has its figure beside it, so that
//! neither the colour nor the length alone carries a value.

use super::figure::{figure, quotient};
use super::{Report, Row};
use std::fmt::{Display, Write as _};

/// The width of the page, unless the columns need more.
const WIDTH: f64 = 860.0;
/// The least room for the longest bar.
const ROOM: f64 = 240.0;
const MARGIN: f64 = 24.0;
/// The height of one bar's line.
const LINE: f64 = 21.0;
const BAR: f64 = 13.0;
/// The height of a panel's title, and the room below the panel.
const HEAD: f64 = 24.0;
const GAP: f64 = 16.0;
/// The column of a figure.
const VALUE: f64 = 78.0;
/// About the width of one character of the small font.
const CHARACTER: f64 = 6.7;
/// How many characters fit on a line of prose.
const PROSE: usize = 125;
/// How many contenders have a colour of their own; more begin again.
const COLOURS: usize = 6;

const STYLE: &str = "
text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; }
.metric { font-size: 13px; font-weight: 600; }
.muted { fill: #59636e; }
.value { font-weight: 600; }
.end { text-anchor: end; }
.page { fill: #ffffff; }
.zero { stroke: #8c959f; }
.rule { stroke: #d8dee4; }
.whisker { stroke: #1f2328; stroke-width: 1.3; fill: none; }
.c0 { fill: #a7b0ba; } .c1 { fill: #3b82d6; } .c2 { fill: #e08a2e; }
.c3 { fill: #3a9d6e; } .c4 { fill: #a06cc9; } .c5 { fill: #c9577a; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.muted { fill: #9198a1; }
.page { fill: #0d1117; }
.zero { stroke: #6e7681; }
.rule { stroke: #2b323b; }
.whisker { stroke: #f0f6fc; }
.c0 { fill: #5b6570; } .c1 { fill: #2f6fbd; } .c2 { fill: #b96a16; }
.c3 { fill: #2b7d56; } .c4 { fill: #7f4fa8; } .c5 { fill: #a33f60; }
}
";

pub(super) fn render(report: &Report, title: &str) -> String {
    let mut plot = Plot::new(report);
    plot.heading(title);
    for rows in report.metrics() {
        plot.panel(rows);
    }
    plot.footer();
    plot.finish(title)
}

/// A plot that grows downwards.
struct Plot<'a> {
    report: &'a Report,
    contenders: Vec<&'a str>,
    /// Who is compared with, and the right edge of that column.
    baselines: Vec<(&'a str, f64)>,
    /// Where bars begin, and how long the longest may be.
    bars: (f64, f64),
    /// The right edge of the figures.
    values: f64,
    /// The right edge of everything.
    right: f64,
    body: String,
    y: f64,
}

impl<'a> Plot<'a> {
    fn new(report: &'a Report) -> Self {
        let contenders = report.contenders();
        let labels = contenders.iter().map(|name| text_width(name));
        let begin = MARGIN + labels.fold(40.0, f64::max) + 10.0;
        let baselines = report.baselines();
        let columns: Vec<f64> = baselines.iter().map(|name| column_width(name)).collect();
        let room = WIDTH - MARGIN - begin - VALUE - columns.iter().sum::<f64>();
        let length = room.max(ROOM);
        let values = begin + length + VALUE;
        let mut edge = values;
        let edges = columns.iter().map(|width| {
            edge += width;
            edge
        });
        let baselines = baselines.into_iter().zip(edges).collect();
        Self {
            report,
            contenders,
            baselines,
            bars: (begin, length),
            values,
            right: edge,
            body: String::new(),
            y: MARGIN + 10.0,
        }
    }

    fn heading(&mut self, title: &str) {
        self.text(MARGIN, "title", title);
        let rounds = match self.report.rounds() {
            Some((1, 1)) => "One round.".to_owned(),
            Some((least, most)) if least == most => {
                format!("Bars: median of {most} rounds. Whiskers: smallest and largest.")
            }
            Some((least, most)) => {
                format!("Bars: median of {least} to {most} rounds. Whiskers: smallest and largest.")
            }
            None => "Nothing was measured.".to_owned(),
        };
        let machine = &self.report.machine;
        let facts = [machine.line(), machine.programs(), rounds];
        for line in facts.iter().flat_map(|fact| wrapped(fact)) {
            self.y += 19.0;
            self.text(MARGIN, "muted", line);
        }
        self.y += GAP;
    }

    fn panel(&mut self, rows: &[Row]) {
        let Some(first) = rows.first() else {
            return;
        };
        self.rule();
        self.y += HEAD;
        self.panel_head(first);
        self.y += 10.0;
        let longest = rows.iter().map(|row| row.max.max(row.median));
        let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
        let (top, height) = (self.y, LINE * rows.len() as f64);
        for row in rows {
            self.row(row, longest);
            self.y += LINE;
        }
        let x = self.bars.0;
        let _ = writeln!(
            self.body,
            r#"<line class="zero" x1="{x:.1}" y1="{top:.1}" x2="{x:.1}" y2="{:.1}"/>"#,
            top + height
        );
        self.y += GAP;
    }

    fn panel_head(&mut self, row: &Row) {
        let better = if row.unit.ends_with("/s") {
            "more is better"
        } else {
            "less is better"
        };
        let _ = writeln!(
            self.body,
            r#"<text x="{MARGIN}" y="{:.1}"><tspan class="metric">{}</tspan><tspan class="muted" dx="8">{}, {better}</tspan></text>"#,
            self.y,
            escaped(&row.metric),
            escaped(&row.unit),
        );
        for (against, edge) in self.baselines.clone() {
            if self
                .report
                .ratios
                .iter()
                .any(|r| r.metric == row.metric && r.against == against)
            {
                self.text(edge, "muted end", format!("× {against}"));
            }
        }
    }

    /// One contender's bar, whisker, figure and ratios.
    fn row(&mut self, row: &Row, longest: f64) {
        let (x, length) = self.bars;
        let at = |value: f64| x + length * (value / longest).clamp(0.0, 1.0);
        let middle = self.y + LINE / 2.0;
        let (top, end) = (middle - BAR / 2.0, at(row.median));
        let colour = self
            .contenders
            .iter()
            .position(|name| *name == row.contender);
        let colour = colour.unwrap_or(0) % COLOURS;
        let _ = writeln!(
            self.body,
            r#"<rect class="c{colour}" x="{x:.1}" y="{top:.1}" width="{:.1}" height="{BAR}"/>"#,
            end - x
        );
        if row.rounds > 1 {
            let (from, to) = (at(row.min), at(row.max));
            let (up, down) = (middle - 3.5, middle + 3.5);
            let _ = writeln!(
                self.body,
                r#"<path class="whisker" d="M{from:.1} {up:.1}V{down:.1}M{from:.1} {middle:.1}H{to:.1}M{to:.1} {up:.1}V{down:.1}"/>"#
            );
        }
        let line = self.y;
        self.y = middle + 4.2;
        self.text(x - 8.0, "end", &row.contender);
        self.text(self.values, "value end", figure(row.median));
        for (against, edge) in self.baselines.clone() {
            if let Some(ratio) = self.report.ratio(row, against) {
                self.text(edge, "end", quotient(ratio.median));
            }
        }
        self.y = line;
    }

    fn footer(&mut self) {
        if !self.report.notes.is_empty() {
            self.rule();
        }
        for note in &self.report.notes {
            self.y += 4.0;
            for line in wrapped(note) {
                self.y += 16.0;
                self.text(MARGIN, "muted", line);
            }
        }
    }

    fn text(&mut self, x: f64, class: &str, text: impl Display) {
        let _ = writeln!(
            self.body,
            r#"<text class="{class}" x="{x:.1}" y="{:.1}">{}</text>"#,
            self.y,
            escaped(&text.to_string())
        );
    }

    fn rule(&mut self) {
        let (y, right) = (self.y, self.right);
        let _ = writeln!(
            self.body,
            r#"<line class="rule" x1="{MARGIN:.1}" y1="{y:.1}" x2="{right:.1}" y2="{y:.1}"/>"#
        );
    }

    fn finish(self, title: &str) -> String {
        let (width, height) = (self.right + MARGIN, self.y + MARGIN);
        let title = escaped(title);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}">
<title>{title}</title>
<style>{STYLE}</style>
<rect class="page" width="100%" height="100%"/>
{}</svg>
"#,
            self.body
        )
    }
}

/// About the width of a text.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// The width of the column of ratios against this contender.
fn column_width(against: &str) -> f64 {
    (text_width(against) + 2.0 * CHARACTER + 14.0).max(56.0)
}

/// The words of a text on lines that fit.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= PROSE => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A text as XML shows it; what XML has no place for is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}
