//! Where and when a benchmark ran.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use time::OffsetDateTime;
use time::macros::format_description;

/// Facts that a figure means little without.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Machine {
    /// The release of the kernel.
    pub kernel: String,
    /// The model of the processor.
    pub cpu: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// The day, in UTC.
    pub date: String,
    /// The programs that were measured and that measured, by name.
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    /// This machine, today, with these versions of programs.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn read(versions: BTreeMap<String, String>) -> Result<Self> {
        let read = |path| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let day = format_description!("[year]-[month]-[day]");
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: model(&read("/proc/cpuinfo")?),
            cores: std::thread::available_parallelism()?.get(),
            date: OffsetDateTime::now_utc().format(day)?,
            versions,
        })
    }

    /// All facts but the versions, on one line.
    pub(super) fn line(&self) -> String {
        let plural = if self.cores == 1 { "" } else { "s" };
        format!(
            "{}, {} core{plural}, Linux {}, {}",
            self.cpu, self.cores, self.kernel, self.date
        )
    }

    /// The versions, on one line; empty when there are none.
    pub(super) fn programs(&self) -> String {
        let each = self.versions.iter().map(|(k, v)| format!("{k} {v}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// The processor's model as the kernel tells it; not every architecture has one.
fn model(cpuinfo: &str) -> String {
    let named = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    named.unwrap_or_else(|| format!("unnamed {} processor", std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_when_there_is_one() {
        let intel =
            "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Xeon(R)  9\nmodel name\t: Other\n";
        assert_eq!(model(intel), "Xeon(R)  9");
        assert!(model("processor\t: 0\nBogoMIPS\t: 50\n").starts_with("unnamed "));
    }

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::read(BTreeMap::new()).unwrap();
        let uname = std::process::Command::new("uname")
            .arg("-r")
            .output()
            .unwrap();
        let release = String::from_utf8(uname.stdout).unwrap();
        assert_eq!(machine.kernel, release.trim());
        assert!(machine.cores > 0 && !machine.cpu.is_empty());
        assert_eq!(machine.date.len(), "2000-01-01".len());
    }
}
