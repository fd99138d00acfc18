//! What standard output is.

use std::io::{self, IsTerminal as _};

use rustix::termios::tcgetwinsize;

/// What can be shown there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Columns; none when it is no terminal, which takes everything.
    pub(super) width: Option<usize>,
    /// Whether colours are wanted.
    pub(super) colour: bool,
}

impl Terminal {
    pub(super) fn of_stdout() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self {
                width: None,
                colour: false,
            };
        }
        let size = tcgetwinsize(&stdout).ok();
        let plain = |name: &str, plain: fn(&str) -> bool| {
            std::env::var(name).is_ok_and(|value| plain(&value))
        };
        Self {
            width: size
                .map(|size| usize::from(size.ws_col))
                .filter(|columns| *columns > 0),
            colour: !plain("NO_COLOR", |value| !value.is_empty())
                && !plain("TERM", |value| value == "dumb"),
        }
    }
}
