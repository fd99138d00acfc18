//! Debian packages: installs those that are missing, and starts none of their services.

use crate::exec::{command, is_root, output, run};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const POLICY: &str = "/usr/sbin/policy-rc.d";
const SAVED: &str = "/usr/sbin/policy-rc.d.before-weft";
const DENY_ALL: &str =
    "#!/bin/sh\n# Written by `cargo xtask setup` while it installs packages.\nexit 101\n";

/// The packages of `wanted` that are not installed.
pub(crate) fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let query = command("dpkg-query", &["-W", "-f=${db:Status-Abbrev}${Package}\n"]);
    let Some(list) = output(query) else {
        bail!(
            "dpkg-query does not run: `setup` knows Debian and its descendants only; install the \
             equivalents of these packages by hand: {}",
            wanted.join(" ")
        );
    };
    let installed: Vec<&str> = list.lines().filter_map(|l| l.strip_prefix("ii ")).collect();
    Ok(wanted
        .iter()
        .copied()
        .filter(|name| !installed.contains(name))
        .collect())
}

/// Installs the packages without starting any service that they bring.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !is_root() {
        bail!(
            "Debian packages are missing and only root may install them; run `sudo apt-get install {}`",
            packages.join(" ")
        );
    }
    let _quiet = NoServices::begin()?;
    let mut update = command("apt-get", &["-q", "-q", "update"]);
    update.env("DEBIAN_FRONTEND", "noninteractive");
    run(update, "check the package sources in /etc/apt")?;
    let mut args = vec!["-q", "-q", "-y", "--no-install-recommends", "install"];
    args.extend(packages);
    let mut install = command("apt-get", &args);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    run(
        install,
        "read apt's message above; llvm-22 is in bookworm-security and in later releases",
    )
}

/// While it lives, invoke-rc.d starts nothing; the machine's own policy file comes back afterwards.
struct NoServices;

impl NoServices {
    fn begin() -> Result<Self> {
        // A file that says so itself needs no replacing; neither does one left by a killed run.
        if fs::read_to_string(POLICY).is_ok_and(|text| text != DENY_ALL) {
            fs::rename(POLICY, SAVED).with_context(|| format!("cannot set aside {POLICY}"))?;
        }
        fs::write(POLICY, DENY_ALL).with_context(|| format!("cannot write {POLICY}"))?;
        let guard = Self;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {POLICY} executable"))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let restored = if Path::new(SAVED).exists() {
            fs::rename(SAVED, POLICY)
        } else {
            fs::remove_file(POLICY)
        };
        if let Err(error) = restored {
            eprintln!("xtask: warning: cannot restore {POLICY}: {error}");
        }
    }
}
