//! The binary: what it says and how it exits when it cannot start, and on SIGTERM.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn command(directory: &Path) -> Command {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-controller"));
    command
        .args([
            "--config-dir",
            &at("config"),
            "--ca-dir",
            &at("ca"),
            "--jwks-file",
            &at("jwks.json"),
        ])
        .args(["--listen", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"])
        .args([
            "--node-account",
            "weft-system/weft-node",
            "--server-name",
            "localhost",
        ]);
    command
}

fn run(directory: &Path) -> Output {
    command(directory).output().unwrap()
}

fn prepared() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("config")).unwrap();
    let jwk = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","alg":"ES256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    std::fs::write(directory.path().join("jwks.json"), jwk).unwrap();
    directory
}

fn errors(output: &Output) -> Vec<String> {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("error: "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn an_invalid_directory_is_refused_with_every_problem() {
    let directory = prepared();
    let config = directory.path().join("config");
    std::fs::write(config.join("a.yaml"), "kind: [").unwrap();
    std::fs::write(
        config.join("b.yaml"),
        "apiVersion: v1\nkind: Pd\nmetadata: {name: x}",
    )
    .unwrap();
    let errors = errors(&run(directory.path()));
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].contains("a.yaml: document 1: is not valid YAML"),
        "{errors:?}"
    );
    assert!(
        errors[1].contains("b.yaml: document 1: Pd default/x: kind \"Pd\" is unknown"),
        "{errors:?}"
    );
}

#[test]
fn unusable_keys_are_refused_in_one_line() {
    let directory = prepared();
    std::fs::write(directory.path().join("jwks.json"), "[]").unwrap();
    let lines = errors(&run(directory.path()));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("jwks.json: is not a JWKS document"),
        "{lines:?}"
    );

    let directory = prepared();
    let ca = directory.path().join("ca");
    std::fs::create_dir(&ca).unwrap();
    std::fs::write(ca.join("ca-key.pem"), "secret").unwrap();
    let lines = errors(&run(directory.path()));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("ca-cert.pem: is missing"), "{lines:?}");
}

#[test]
fn a_source_must_be_named() {
    let directory = prepared();
    let mut without = Command::new(env!("CARGO_BIN_EXE_mesh-controller"));
    let given = command(directory.path());
    // The first two name the directory.
    without.args(given.get_args().skip(2));
    without.env_remove("KUBERNETES_SERVICE_HOST");
    let lines = errors(&without.output().unwrap());
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("give --config-dir DIR, or --kube"),
        "{lines:?}"
    );
}

#[test]
fn sigterm_ends_it_in_good_order() {
    let directory = prepared();
    let mut child = command(directory.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(
        log.any(|line| line.unwrap().contains("serving")),
        "it never served"
    );
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    let directory = prepared();
    let kept_twice = command(directory.path())
        .args(["--ca-secret", "a/b"])
        .output()
        .unwrap();
    let verified_twice = command(directory.path())
        .arg("--token-review")
        .output()
        .unwrap();
    for (output, option) in [
        (kept_twice, "--ca-secret"),
        (verified_twice, "--token-review"),
    ] {
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains("cannot be used with") && text.contains(option),
            "{text}"
        );
    }
}

#[test]
fn the_new_authority_is_checked_where_it_is() {
    let directory = prepared();
    let ca = directory.path().join("ca").display().to_string();
    let new = directory.path().join("new").display().to_string();
    let step = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-controller"));
        command.arg("ca").args(arguments).args(["--ca-dir", &ca]);
        command.output().unwrap()
    };
    let lines = errors(&step(&["status"]));
    assert!(lines[0].contains("start the controller first"), "{lines:?}");
    let mut child = command(directory.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("serving")));
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = errors(&step(&["prepare", "--from", &new]));
    assert!(
        lines[0].contains("new/ca-cert.pem: is missing"),
        "{lines:?}"
    );
    let output = step(&["status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("no rotation is under way"), "{text}");
    assert!(text.contains(", signs"), "{text}");
}
