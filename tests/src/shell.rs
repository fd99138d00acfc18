//! Commands that run to their end: none without a deadline, and every failure shows what it printed.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// How a command ended and what it printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Output {
    /// True when the exit code is 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// One line that says how it ended, with the last line of stderr.
    pub fn summary(&self) -> String {
        let last = self
            .stderr
            .lines()
            .rfind(|l| !l.trim().is_empty())
            .unwrap_or("");
        format!(
            "{}{}{last}",
            self.status,
            if last.is_empty() { "" } else { ": " }
        )
    }
}

/// Runs the command with `stdin` as its input; after `limit` it is killed, which is an error.
pub fn capture(command: &mut Command, stdin: &[u8], limit: Duration) -> Result<Output> {
    // Files, not pipes: no reader is needed, and a grandchild that keeps one open blocks nobody.
    let mut stdout = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut stderr = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut input = tempfile::tempfile().context("cannot make a temporary file")?;
    input.write_all(stdin)?;
    input.rewind()?;
    command
        .stdin(input)
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    let shown = show(command);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            let output = text(&mut stderr)?;
            bail!(
                "`{shown}` did not end within {limit:?}; stderr: {}",
                output.trim()
            );
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    Ok(Output {
        status,
        stdout: text(&mut stdout)?,
        stderr: text(&mut stderr)?,
    })
}

/// Runs the command on the host; it must succeed.
pub fn run(argv: &[&str]) -> Result<String> {
    run_with(argv, b"")
}

/// Runs the command on the host with this input; it must succeed.
pub fn run_with(argv: &[&str], stdin: &[u8]) -> Result<String> {
    let (program, args) = argv.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(args);
    let output = capture(&mut command, stdin, Duration::from_secs(60))?;
    if !output.success() {
        let shown = show(&command);
        bail!(
            "`{shown}` failed ({}): {}",
            output.status,
            output.stderr.trim()
        );
    }
    Ok(output.stdout)
}

/// The command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
