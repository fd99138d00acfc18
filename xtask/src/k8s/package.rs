//! The Debian source package of Kubernetes, at one pinned version.

use crate::exec::{command, output, run};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The version of the source package, as Debian numbers it.
pub(crate) const VERSION: &str = "1.20.5+really1.20.2-1.1+deb12u1";
/// The Kubernetes release that this is, and the commit that it was made from.
pub(crate) const RELEASE: &str = "1.20.2";
pub(crate) const COMMIT: &str = "faecb196815e248d3ecfb03c680a4507229c2a56";
const SUITE: &str = "bookworm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Downloads and unpacks the source into `dir`, checked against Debian's signatures by apt. The
/// machine's own package lists stay as they are.
pub(crate) fn unpack(dir: &Path) -> Result<PathBuf> {
    let lists = dir.join("lists");
    fs::create_dir_all(lists.join("partial")).context("cannot make a directory for apt")?;
    let list = dir.join("sources.list");
    let entry = format!("deb-src [signed-by={KEYRING}] {} {SUITE} main\n", mirror());
    fs::write(&list, entry).with_context(|| format!("cannot write {}", list.display()))?;
    let advice = "the source package comes from Debian's mirror; is it reachable?";
    run(apt(&list, &lists, &["update"]), advice)?;
    let mut source = apt(&list, &lists, &["source", &format!("kubernetes={VERSION}")]);
    source.current_dir(dir);
    run(source, advice)?;
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name.starts_with("kubernetes-") {
            return Ok(path);
        }
    }
    bail!(
        "apt unpacked no kubernetes-* directory in {}",
        dir.display()
    )
}

fn apt(list: &Path, lists: &Path, args: &[&str]) -> std::process::Command {
    let mut apt = command("apt-get", &["-q", "-q"]);
    for (option, value) in [
        ("Dir::Etc::SourceList", list.to_string_lossy().as_ref()),
        ("Dir::Etc::SourceParts", "/dev/null"),
        ("Dir::State::Lists", lists.to_string_lossy().as_ref()),
        ("Dir::Cache::pkgcache", ""),
        ("Dir::Cache::srcpkgcache", ""),
        ("Acquire::Languages", "none"),
        ("APT::Sandbox::User", "root"),
    ] {
        apt.args(["-o", &format!("{option}={value}")]);
    }
    apt.args(args);
    apt
}

/// The mirror from which the machine gets its own packages; Debian's when it has none for this suite.
fn mirror() -> String {
    let format = "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)";
    let targets = command(
        "apt-get",
        &["indextargets", "--format", format, "Created-By: Packages"],
    );
    let wanted = format!("Debian|{SUITE}|main|");
    output(targets)
        .and_then(|text| {
            let uri = text.lines().find_map(|line| line.strip_prefix(&wanted));
            uri.map(str::to_owned)
        })
        .unwrap_or_else(|| "http://deb.debian.org/debian/".to_owned())
}
