//! Generates the one file that Debian's build of Kubernetes generates too: the OpenAPI definitions
//! of every type that says it has one.

use super::binaries::Tree;
use crate::exec::run;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const TAG: &str = "+k8s:openapi-gen=";
/// The repository's own code with types of the API.
const OWN: [&str; 3] = ["pkg", "cmd", "plugin"];
/// What is there to make code or to show how, and has no type of the API.
const NOT_SERVED: [&str; 3] = ["code-generator", "kube-openapi", "gengo"];

/// Writes `pkg/generated/openapi/zz_generated.openapi.go`.
pub(crate) fn generate(tree: &Tree) -> Result<()> {
    let generator = tree.work.join("openapi-gen");
    let package = "k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen";
    let mut build = tree.go(&["build", "-o"]);
    build.arg(&generator).arg(package);
    run(build, "read go's message above")?;

    let violations = tree.work.join("violations");
    let mut generate = tree.command(&generator.to_string_lossy());
    let inputs: Vec<String> = packages(&tree.source)?
        .iter()
        .map(|dir| format!("k8s.io/kubernetes/{}", dir.display()))
        .collect();
    generate
        .args(["--logtostderr", "-i", &inputs.join(",")])
        .args(["-p", "k8s.io/kubernetes/pkg/generated/openapi"])
        .args(["-O", "zz_generated.openapi"])
        .args(["-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"])
        .arg("-r")
        .arg(&violations);
    run(generate, "read the generator's message above")?;

    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let known = tree.source.join("api/api-rules/violation_exceptions.list");
    if read(&violations)? != read(&known)? {
        bail!(
            "the generated definitions are not those of this release ({} differs from {}); remove {} and try again",
            violations.display(),
            known.display(),
            tree.work.display()
        );
    }
    Ok(())
}

/// The directories, relative to the source, with a Go file that carries the tag.
fn packages(source: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for dir in OWN {
        search(source, Path::new(dir), &mut found)?;
    }
    let staging = Path::new("vendor/k8s.io");
    for entry in fs::read_dir(source.join(staging)).context("the source has no vendor/k8s.io")? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !NOT_SERVED.contains(&text.as_ref()) && !text.starts_with("sample-") {
            search(source, &staging.join(&name), &mut found)?;
        }
    }
    Ok(found)
}

fn search(source: &Path, dir: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    // Links are followed: vendor/k8s.io leads to staging.
    if !source.join(dir).is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(source.join(dir))? {
        let entry = entry?;
        let path = dir.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if name != "_examples" {
                search(source, &path, found)?;
            }
        } else if name.ends_with(".go")
            && !name.ends_with("_test.go")
            && !name.contains("zz_generated")
            && fs::read_to_string(source.join(&path)).is_ok_and(|text| text.contains(TAG))
        {
            found.insert(dir.to_owned());
        }
    }
    Ok(())
}
