//! Builds programs of Kubernetes once and keeps each with its checksum. All that the build leaves beside is removed.

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

/// The API server, which tests start by itself.
pub(crate) const APISERVER: &[&str] = &["kube-apiserver"];
/// All that a cluster runs.
pub(crate) const CLUSTER: &[&str] = &[
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];

/// Whether these programs are there, of the pinned version and with the checksums that they were stored with.
pub(crate) fn are_cached(programs: &[&str]) -> bool {
    missing(programs).is_empty()
}

/// Builds those of the programs that are not there.
pub(crate) fn ensure(programs: &[&str]) -> Result<()> {
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(());
    }
    step(
        &format!(
            "build {} of Kubernetes {RELEASE} (once, some minutes)",
            missing.join(", ")
        ),
        || build(&missing),
    )
}

fn missing<'a>(programs: &[&'a str]) -> Vec<&'a str> {
    let is_missing = |name: &&str| {
        let stamp = fs::read_to_string(stamp_file(name)).unwrap_or_default();
        checksum(&stored(name)).is_none_or(|sum| stamp != stamp_of(&sum))
    };
    programs.iter().copied().filter(is_missing).collect()
}

fn stored(program: &str) -> PathBuf {
    super::dir().join(program)
}

fn stamp_file(program: &str) -> PathBuf {
    super::dir().join(format!("{program}.stamp"))
}

fn stamp_of(checksum: &str) -> String {
    format!("{VERSION}\n{checksum}\n")
}

fn checksum(file: &Path) -> Option<String> {
    let text = output(command("sha256sum", &["--", &file.to_string_lossy()]))?;
    text.split_whitespace().next().map(str::to_owned)
}

fn build(programs: &[&str]) -> Result<()> {
    let work = super::dir().join("build");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let tree = step("fetch the Kubernetes source package", || prepare(&work))?;
    if programs.contains(&APISERVER[0]) {
        step("generate the API's definitions", || {
            openapi::generate(&tree)
        })?;
    }
    for program in programs {
        step(&format!("compile {program}"), || store(&tree, program))?;
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}

fn store(tree: &Tree, program: &str) -> Result<()> {
    let built = tree.work.join(program);
    compile(tree, program, &built)?;
    let Some(sum) = checksum(&built) else {
        bail!("sha256sum cannot read {}", built.display());
    };
    // The stamp comes last: a build that was cut short is not taken for one that is done.
    fs::rename(&built, stored(program)).with_context(|| format!("cannot store {program}"))?;
    fs::write(stamp_file(program), stamp_of(&sum)).context("cannot store the checksum")
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

fn compile(tree: &Tree, program: &str, to: &Path) -> Result<()> {
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
        .arg(format!("k8s.io/kubernetes/cmd/{program}"));
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
