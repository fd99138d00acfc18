//! Tables: aligned, one line for each row, never wrapped.

use std::fmt::Write as _;

/// Between columns.
const GAP: usize = 2;
/// No column is made narrower than this.
const NARROWEST: usize = 6;
/// Stands for what was cut off.
const CUT: char = '…';

/// What a cell means, as a colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Wrong.
    Bad,
    /// Of less interest.
    Faint,
    /// A title.
    Title,
}

impl Tone {
    pub(super) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            _ if !colour || text.is_empty() => return text.to_owned(),
            Self::Plain => return text.to_owned(),
            Self::Good => 32,
            Self::Doubtful => 33,
            Self::Bad => 31,
            Self::Faint => 2,
            Self::Title => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// One value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A value with a meaning. What cannot be printed in one line is replaced.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        let text: String = text.into();
        let text = if text.is_empty() {
            "-".to_owned()
        } else {
            text
        };
        Self {
            text: text.replace(|c: char| c.is_control(), " "),
            tone,
        }
    }

    /// A value that may be unknown.
    pub fn maybe(text: Option<impl Into<String>>) -> Self {
        text.map_or_else(|| Self::new("", Tone::Plain), Self::from)
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    title: &'static str,
    wide: bool,
    right: bool,
}

impl Column {
    /// Of text.
    pub const fn text(title: &'static str) -> Self {
        Self {
            title,
            wide: false,
            right: false,
        }
    }

    /// Of numbers.
    pub const fn number(title: &'static str) -> Self {
        Self {
            right: true,
            ..Self::text(title)
        }
    }

    /// Only shown when every column is asked for.
    pub const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }
}

/// Columns and rows.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, with a cell for each column; those that are missing are unknown.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().collect();
        row.resize_with(self.columns.len(), || Cell::new("", Tone::Plain));
        self.rows.push(row);
    }

    /// As text. With a width, columns are cut so that no line is longer: the widest first.
    pub fn render(&self, wide: bool, width: Option<usize>, colour: bool) -> String {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|i| wide || !self.columns[*i].wide)
            .collect();
        let mut widths: Vec<usize> = shown.iter().map(|i| self.natural(*i)).collect();
        if let Some(width) = width {
            narrow(&mut widths, width);
        }
        let titles = self
            .columns
            .iter()
            .map(|c| Cell::new(c.title, Tone::Title))
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            let mut pending = 0;
            for (&i, &column) in shown.iter().zip(&widths) {
                let cell = row.get(i).cloned().unwrap_or_default();
                let content = fit(&cell.text, column);
                let missing = column - content.chars().count();
                let painted = cell.tone.paint(&content, colour);
                if self.columns[i].right {
                    let _ = write!(line, "{:1$}{painted}", "", pending + missing);
                    pending = GAP;
                } else {
                    let _ = write!(line, "{:1$}{painted}", "", pending);
                    pending = missing + GAP;
                }
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    fn natural(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| cell.text.chars().count());
        let title = self.columns[column].title.chars().count();
        widths.max().unwrap_or(0).max(title)
    }
}

/// Takes from the widest until all fit, or none can be narrower.
fn narrow(widths: &mut [usize], width: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let Some(widest) = widths.iter_mut().max().filter(|w| **w > NARROWEST) else {
            // Too many columns for this terminal: the last ones give way.
            let last = widths.iter_mut().rfind(|w| **w > 1);
            match last {
                Some(last) => *last -= 1,
                None => return,
            }
            continue;
        };
        *widest -= 1;
    }
}

fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push(CUT);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            Column::text("NAME"),
            Column::number("BYTES"),
            Column::text("IDENTITY"),
            Column::text("UID").wide(),
        ]);
        let identity = "spiffe://cluster.local/ns/shop/sa/client";
        table.row(["client".into(), "12".into(), identity.into(), "u1".into()]);
        table.row([
            Cell::new("x", Tone::Bad),
            "123456".into(),
            Cell::maybe(None::<String>),
            "u2".into(),
        ]);
        table
    }

    #[test]
    fn columns_line_up_and_lines_have_no_blanks_at_their_end() {
        let text = table().render(false, None, false);
        assert_eq!(
            text,
            "NAME     BYTES  IDENTITY\n\
             client      12  spiffe://cluster.local/ns/shop/sa/client\n\
             x       123456  -\n"
        );
        let wide = table().render(true, None, false);
        assert!(
            wide.lines()
                .all(|line| line.contains("u") || line.contains("UID"))
        );
    }

    #[test]
    fn the_widest_column_is_cut_and_no_line_is_longer_than_the_terminal() {
        // Four columns of one letter and three gaps is the least.
        for width in 10..70 {
            let text = table().render(true, Some(width), false);
            assert_eq!(text.lines().count(), 3);
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width), "{width}:\n{text}");
        }
        let text = table().render(false, Some(40), false);
        assert!(
            text.contains("client      12  spiffe://cluster.local/…\n"),
            "{text}"
        );
    }

    #[test]
    fn colours_do_not_count_and_are_only_there_when_wanted() {
        let plain = table().render(false, None, false);
        assert!(!plain.contains('\x1b'));
        let colour = table().render(false, None, true);
        assert!(colour.contains("\x1b[31mx\x1b[0m       123456"), "{colour}");
        let stripped = ["\x1b[31m", "\x1b[1m", "\x1b[0m"];
        let stripped = stripped
            .iter()
            .fold(colour, |text, code| text.replace(code, ""));
        assert_eq!(stripped, plain);
    }

    #[test]
    fn what_would_break_a_line_is_replaced() {
        let mut table = Table::new(&[Column::text("REASON")]);
        table.row(["two\nlines\x1b[2J".into()]);
        assert_eq!(table.render(false, None, false), "REASON\ntwo lines [2J\n");
    }
}
