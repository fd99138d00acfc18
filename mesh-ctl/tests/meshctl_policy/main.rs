//! Every command of `meshctl policy` on the directories beside this file, and what it says: `cases/NAME.txt`
//! is a command line, its standard output, its standard error and its exit code.
//!
//! `MESHCTL_BLESS=1` writes what is said now into the cases; then read the difference. A run without it
//! changes nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent;
mod permission;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/meshctl_policy")
}

/// `meshctl`, with nothing of the caller's surroundings that it would heed.
fn meshctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshctl"));
    for name in ["KUBECONFIG", "MESHCTL_NODE_URLS", "MESHCTL_CONTROLLER_URLS"] {
        command.env_remove(name);
    }
    command.current_dir(here());
    command
}

/// Everything that was said, and the exit code.
fn transcript(output: &Output) -> String {
    let mut text = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    if !stderr.is_empty() {
        write!(text, "[stderr]\n{stderr}").unwrap();
    }
    writeln!(text, "[exit {}]", output.status.code().unwrap()).unwrap();
    text
}

/// Compares with the case, or writes it.
fn check(name: &str, command: &str, said: &str) -> Result<(), String> {
    let file = here().join(format!("cases/{name}.txt"));
    let got = format!("$ meshctl policy {command}\n{said}");
    if std::env::var_os("MESHCTL_BLESS").is_some() {
        fs::write(&file, &got).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    match got == expected {
        true => Ok(()),
        false => Err(format!("{}: said was\n{got}", file.display())),
    }
}

/// Cases that need more than the command line have tests of their own.
const OTHERS: [&str; 4] = [
    "live-explain",
    "live-unknown",
    "live-ambiguous",
    "explain-no-permission",
];

#[test]
fn every_case_says_what_is_written() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(here().join("cases")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if OTHERS.contains(&&*name) {
            continue;
        }
        cases += 1;
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().next().unwrap();
        let command = line.strip_prefix("$ meshctl policy ").unwrap();
        let output = meshctl().arg("policy").args(command.split(' ')).output();
        wrong.extend(check(&name, command, &transcript(&output.unwrap())).err());
    }
    assert!(cases >= 45, "{cases} cases are too few");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
