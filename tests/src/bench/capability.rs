//! What the programs are: what options the agent has, and which versions are measured.

use super::peer::PeerPath;
use crate::{programs, shell};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// True when `mesh-node run` takes this option.
pub(super) fn agent_has(option: &str) -> Result<bool> {
    let mut help = Command::new(programs::binary("mesh-node")?);
    let output = shell::capture(help.args(["run", "--help"]), b"", ANSWER_WITHIN)?;
    ensure!(
        output.success(),
        "mesh-node run --help: {}",
        output.summary()
    );
    Ok(mentions(&output.stdout, option))
}

/// The versions of what is measured and of what measures; what tells none is left out.
pub(super) fn versions(peer: Option<&PeerPath>) -> Result<BTreeMap<String, String>> {
    let agent = programs::binary("mesh-node")?;
    let agent = agent.to_string_lossy();
    let mut programs = vec![
        ("weft".to_owned(), vec![&*agent, "--version"]),
        ("nginx".to_owned(), vec!["nginx", "-v"]),
        ("wrk".to_owned(), vec!["wrk", "-v"]),
    ];
    let path = peer.map(|peer| peer.path.to_string_lossy().into_owned());
    if let (Some(peer), Some(path)) = (peer, &path) {
        programs.push((peer.name.clone(), vec![path, "version"]));
    }
    let told = |(name, argv): (String, Vec<&str>)| {
        let mut command = Command::new(argv[0]);
        // Not every program that tells its version then ends with success.
        let output = shell::capture(command.args(&argv[1..]), b"", ANSWER_WITHIN).ok()?;
        let text = format!("{}\n{}", output.stdout, output.stderr);
        Some((name, version(&text)?.to_owned()))
    };
    Ok(programs.into_iter().filter_map(told).collect())
}

/// True when the help text has a line for this option.
fn mentions(help: &str, option: &str) -> bool {
    help.lines().any(|line| {
        let mut words = line.split([' ', ',', '=']).filter(|word| !word.is_empty());
        words.next() == Some(option)
    })
}

/// The first word that is a version, or the first line when none is.
fn version(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| !line.trim().is_empty())?.trim();
    let numeric = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let words = line.split([' ', '/']);
    Some(words.into_iter().find(numeric).unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::{mentions, version};

    #[test]
    fn an_option_is_one_that_has_a_line_of_its_own() {
        let help = "Options:\n      --workers <WORKERS>\n          As --same-node, threads\n  -h, --help\n";
        assert!(mentions(help, "--workers"));
        assert!(!mentions(help, "--same-node"));
        assert!(!mentions(help, "--work"));
    }

    #[test]
    fn a_version_is_found_in_what_programs_say_of_themselves() {
        assert_eq!(version("mesh-node 0.1.0\n"), Some("0.1.0"));
        assert_eq!(version("\nnginx version: nginx/1.22.1\n"), Some("1.22.1"));
        assert_eq!(
            version("wrk debian/4.1.0-3+b2 [epoll] Copyright (C)"),
            Some("4.1.0-3+b2")
        );
        assert_eq!(
            version("version.BuildInfo{Version:\"unknown\"}"),
            Some("version.BuildInfo{Version:\"unknown\"}")
        );
        assert_eq!(version(" \n"), None);
    }
}
