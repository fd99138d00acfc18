//! What a terminal gets: lines that fit, and colours unless they are not wanted.

use std::process::Command;

use crate::agent;
use crate::run::run;

const COLUMNS: usize = 50;

/// On a terminal of 50 columns.
async fn on_terminal(url: &str, environment: &[(&str, &str)]) -> String {
    let program = env!("CARGO_BIN_EXE_meshctl");
    let line = format!("stty cols {COLUMNS} && exec {program} --node-url {url} status");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    command.envs(environment.iter().copied());
    let output = run(command).await;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    output.stdout
}

#[tokio::test]
async fn a_table_fits_the_terminal_and_has_colours_there() {
    let url = format!(
        "http://{}",
        agent::start("a-node-with-quite-a-long-name").await
    );
    let coloured = on_terminal(&url, &[]).await;
    assert!(coloured.contains("\x1b[32myes\x1b[0m"), "{coloured:?}");
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_terminal(&url, &[plain]).await;
        assert!(!shown.contains('\x1b'), "{shown:?}");
        assert_eq!(shown.lines().count(), 2, "{shown}");
        let longest = shown
            .lines()
            .map(|line| line.trim_end().chars().count())
            .max();
        assert!(longest <= Some(COLUMNS), "{shown}");
        assert!(shown.contains('…'), "{shown}");
    }
    let piped = run(crate::run::command(&["--node-url", &url, "status"])).await;
    assert!(!piped.stdout.contains(['\x1b', '…']), "{}", piped.stdout);
    assert!(piped.stdout.contains("a-node-with-quite-a-long-name"));
}
