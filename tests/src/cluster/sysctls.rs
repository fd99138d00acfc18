//! Settings that kubelet rewrites for the whole machine: kept, and put back.

use super::layout::Layout;
use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

const REWRITTEN: [&str; 6] = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

fn file(layout: &Layout) -> PathBuf {
    layout.state().join("sysctls.json")
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

pub(super) fn save(layout: &Layout) -> Result<()> {
    let mut saved = Map::new();
    for name in REWRITTEN {
        let value =
            fs::read_to_string(path(name)).with_context(|| format!("cannot read {name}"))?;
        saved.insert(name.to_owned(), value.trim().into());
    }
    fs::write(file(layout), Value::Object(saved).to_string()).context("cannot note the sysctls")
}

pub(super) fn restore(layout: &Layout) -> Result<()> {
    let Ok(text) = fs::read_to_string(file(layout)) else {
        return Ok(());
    };
    let saved: Map<String, Value> = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged", file(layout).display()))?;
    for (name, value) in saved {
        let value = value.as_str().unwrap_or_default();
        fs::write(path(&name), value).with_context(|| format!("cannot set {name} to {value}"))?;
    }
    Ok(())
}
