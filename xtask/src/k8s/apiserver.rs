//! Builds kube-apiserver once and keeps it with its checksum. All that the build leaves beside is removed.

use super::openapi;
use super::package::{self, COMMIT, RELEASE, VERSION};
use crate::exec::{command, output, run, step};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const GO: &str = "/usr/lib/go-1.19";
/// The vendored copy is older than what this Go needs; Debian packages one that is not.
const REFLECT2: &str = "/usr/share/gocode/src/github.com/modern-go/reflect2";

/// Where the source is, and what is made from it.
pub(crate) struct Tree {
    /// Everything below is removed in the end.
    pub(crate) work: PathBuf,
    /// The source, as Go wants it to be found: below a GOPATH.
    pub(crate) source: PathBuf,
}

impl Tree {
    /// A program run in the source, with Go's settings: no network, nothing of the user's.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = command(program, &[]);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir(&self.source)
            .env("PATH", format!("{GO}/bin:{path}"))
            .env("PWD", &self.source)
            .env("GOROOT", GO)
            .env("GOPATH", self.work.join("gopath"))
            .env("GOCACHE", self.work.join("cache"));
        for (name, value) in [
            ("GO111MODULE", "off"),
            ("GOFLAGS", ""),
            ("GOPROXY", "off"),
            ("GOSUMDB", "off"),
            ("CGO_ENABLED", "0"),
        ] {
            command.env(name, value);
        }
        command
    }

    /// The Go tool.
    pub(crate) fn go(&self, args: &[&str]) -> Command {
        let mut go = self.command(&format!("{GO}/bin/go"));
        go.args(args);
        go
    }
}

/// Whether the API server is there, of the pinned version and with the checksum that it was stored with.
pub(crate) fn is_cached() -> bool {
    let stamp = fs::read_to_string(stamp_file()).unwrap_or_default();
    checksum(&binary()).is_some_and(|sum| stamp == stamp_of(&sum))
}

/// Builds the API server unless it is there.
pub(crate) fn ensure() -> Result<()> {
    if is_cached() {
        return Ok(());
    }
    step(
        &format!("build kube-apiserver {RELEASE} (once, about four minutes)"),
        build,
    )
}

fn binary() -> PathBuf {
    super::dir().join("kube-apiserver")
}

fn stamp_file() -> PathBuf {
    super::dir().join("kube-apiserver.stamp")
}

fn stamp_of(checksum: &str) -> String {
    format!("{VERSION}\n{checksum}\n")
}

fn checksum(file: &Path) -> Option<String> {
    let text = output(command("sha256sum", &["--", &file.to_string_lossy()]))?;
    text.split_whitespace().next().map(str::to_owned)
}

fn build() -> Result<()> {
    let work = super::dir().join("build");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let tree = step("fetch the Kubernetes source package", || prepare(&work))?;
    step("generate the API's definitions", || {
        openapi::generate(&tree)
    })?;
    let built = work.join("kube-apiserver");
    step("compile kube-apiserver", || compile(&tree, &built))?;
    let Some(sum) = checksum(&built) else {
        bail!("sha256sum cannot read {}", built.display());
    };
    // The stamp comes last: a build that was cut short is not taken for one that is done.
    fs::rename(&built, binary()).context("cannot store kube-apiserver")?;
    fs::write(stamp_file(), stamp_of(&sum)).context("cannot store the checksum")?;
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}

fn prepare(work: &Path) -> Result<Tree> {
    let unpacked = package::unpack(work)?;
    let home = work.join("gopath/src/k8s.io");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let source = home.join("kubernetes");
    fs::rename(&unpacked, &source).context("cannot move the source below a GOPATH")?;
    let vendored = source.join("vendor/github.com/modern-go/reflect2");
    fs::remove_dir_all(&vendored).context("the source has no vendored reflect2")?;
    copy(Path::new(REFLECT2), &vendored)
        .with_context(|| format!("cannot copy {REFLECT2}; is its package installed?"))?;
    Ok(Tree {
        work: work.to_owned(),
        source,
    })
}

fn compile(tree: &Tree, to: &Path) -> Result<()> {
    let mut flags = "-s -w".to_owned();
    for package in [
        "k8s.io/kubernetes/vendor/k8s.io/client-go/pkg/version",
        "k8s.io/kubernetes/vendor/k8s.io/component-base/version",
    ] {
        for (name, value) in [
            ("gitVersion", format!("v{RELEASE}").as_str()),
            ("gitCommit", COMMIT),
            ("gitTreeState", "archive"),
            ("gitMajor", "1"),
            ("gitMinor", "20"),
        ] {
            flags += &format!(" -X {package}.{name}={value}");
        }
    }
    let mut build = tree.go(&["build", "-tags", "providerless,dockerless"]);
    build
        .args(["-ldflags", &flags, "-o"])
        .arg(to)
        .arg("k8s.io/kubernetes/cmd/kube-apiserver");
    run(
        build,
        "read go's message above; it takes about 2 GB of memory",
    )
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
