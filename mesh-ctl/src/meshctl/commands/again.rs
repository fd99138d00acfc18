//! `--watch`: the same again and again.

use std::io::IsTerminal as _;
use std::time::Duration;

use crate::meshctl::output::Output;
use crate::meshctl::{CliError, Exit};

const PAUSE: Duration = Duration::from_secs(2);
/// To the top of the terminal, and everything below goes.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Again and again.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Again {
    /// Show it again every two seconds, until interrupted
    #[arg(short, long)]
    watch: bool,
}

impl Again {
    /// Does it once, or for ever.
    pub(super) async fn run(
        self,
        output: &Output,
        once: impl AsyncFn() -> Result<Exit, CliError>,
    ) -> Result<Exit, CliError> {
        if !self.watch {
            return once().await;
        }
        let clears = std::io::stdout().is_terminal();
        loop {
            if clears {
                output.write(CLEAR)?;
            }
            match once().await {
                Err(error @ (CliError::Output(_) | CliError::Usage(_))) => return Err(error),
                // It may come back.
                Err(error) => eprintln!("error: {error}"),
                Ok(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
