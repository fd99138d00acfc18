//! The demo holds on a mesh that works, and says which rows do not on one that is broken.

use anyhow::{Context as _, Result};
use lab::serial::serial;
use serde_json::Value;
use std::process::Command;

/// Runs the demo; its exit code and its rows.
fn demo(arguments: &[&str]) -> Result<(i32, Vec<Value>)> {
    let output = Command::new(env!("CARGO_BIN_EXE_weft-demo"))
        .arg("--json")
        .args(arguments)
        .output()?;
    let code = output.status.code().context("the demo was killed")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("exit code {code}: {stderr}"))?;
    let rows = report["rows"].as_array().context("no rows")?.clone();
    Ok((code, rows))
}

fn failed(rows: &[Value]) -> Vec<&str> {
    rows.iter()
        .filter(|row| row["ok"] != true)
        .filter_map(|row| row["name"].as_str())
        .collect()
}

#[test]
fn every_row_holds_and_says_what_it_saw() -> Result<()> {
    let _one = serial();
    let (code, rows) = demo(&[])?;
    assert_eq!((code, failed(&rows)), (0, Vec::new()));
    assert!(rows.len() >= 11, "only {} rows", rows.len());
    for row in &rows {
        for key in ["name", "from", "to", "expected", "got", "evidence"] {
            let said = row[key].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "{key} is empty in {row}");
        }
        for key in [
            "ok",
            "policy",
            "source_identity",
            "destination_identity",
            "bytes",
        ] {
            assert!(row.get(key).is_some(), "{key} is missing in {row}");
        }
    }
    Ok(())
}

#[test]
fn a_tunnel_in_clear_is_caught() -> Result<()> {
    let _one = serial();
    let (code, rows) = demo(&["--sabotage", "plaintext"])?;
    let failed = failed(&rows);
    assert_eq!(code, 1, "{failed:?}");
    for row in [
        "allowed, cross node",
        "allowed, same node",
        "PostgreSQL",
        "Redis",
    ] {
        assert!(failed.contains(&row), "{row:?} did not notice: {failed:?}");
    }
    assert!(
        !failed.contains(&"outside the mesh, untouched"),
        "{failed:?}"
    );
    Ok(())
}

#[test]
fn a_policy_that_permits_all_is_caught() -> Result<()> {
    let _one = serial();
    let (code, rows) = demo(&["--sabotage", "allow-all"])?;
    let failed = failed(&rows);
    assert_eq!(code, 1, "{failed:?}");
    for row in [
        "denied by a DENY policy",
        "denied, no ALLOW policy matches",
        "plaintext under STRICT",
        "a policy edit, a live connection",
    ] {
        assert!(failed.contains(&row), "{row:?} did not notice: {failed:?}");
    }
    assert!(!failed.contains(&"allowed, cross node"), "{failed:?}");
    Ok(())
}
