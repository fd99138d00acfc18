//! `cargo xtask image`: minimal container images as tar files, without a container engine.
//!
//! An image holds static programs, the licence and the bill of materials, and nothing else: no shell, no libraries. The
//! same sources give the same digest.

mod blob;
mod layer;
pub(crate) mod oci;
mod programs;
mod sbom;
mod tree;

use crate::exec::{command, output, root, step, target_dir};
use crate::setup::{self, STATIC_TARGET};
use anyhow::{Context as _, Result};
use oci::{File, Image};
pub(crate) use programs::ARCHITECTURE;
use programs::Profile;
use sbom::{Bill, Lock};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tree::Tree;

/// What the images' names begin with, unless something else is asked for.
pub(crate) const REPOSITORY: &str = "localhost/weft";
/// Nobody: a number that no node gives to anybody else.
const NOBODY: &str = "65532:65532";
/// Entering network namespaces and loading eBPF take capabilities that only root is given in a container.
const ROOT: &str = "0:0";
/// The eBPF programs are in the agent, and are crates too.
const EBPF: (&str, &str) = ("mesh-ebpf", "bpfel-unknown-none");

/// An image that is made.
struct Recipe {
    name: &'static str,
    title: &'static str,
    /// The cargo packages that its programs come from.
    package: &'static str,
    /// The first is what runs.
    programs: &'static [&'static str],
    arguments: &'static [&'static str],
    user: &'static str,
    has_ebpf: bool,
}

const RECIPES: [Recipe; 3] = [
    Recipe {
        name: "mesh-node",
        title: "Weft: the node agent",
        package: "mesh-node",
        programs: &["mesh-node", "mesh-cni"],
        arguments: &["run"],
        user: ROOT,
        has_ebpf: true,
    },
    Recipe {
        name: "mesh-controller",
        title: "Weft: the controller",
        package: "mesh-ctl",
        programs: &["mesh-controller"],
        arguments: &[],
        user: NOBODY,
        has_ebpf: false,
    },
    Recipe {
        name: "meshctl",
        title: "Weft: the command line",
        package: "mesh-ctl",
        programs: &["meshctl"],
        arguments: &[],
        user: NOBODY,
        has_ebpf: false,
    },
];

/// Which images, and where to.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How the programs are built.
    #[arg(long, value_enum, default_value = "dist")]
    profile: Profile,
    /// What the images' names begin with.
    #[arg(long, value_name = "NAME", default_value = REPOSITORY)]
    repository: String,
    /// The images' tag; without it, Weft's version.
    #[arg(long)]
    tag: Option<String>,
    /// Directory for the tar files and bills of materials.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Take the programs from this directory instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// An image that was made.
struct Made {
    /// The tar file.
    archive: PathBuf,
    /// Repository and tag.
    reference: String,
    digest: String,
    size: usize,
}

/// Makes every image and prints one line for each: name, digest, bytes, tar file.
pub(crate) fn run(args: &Args) -> Result<()> {
    for image in make(args)? {
        println!(
            "{} {} {} {}",
            image.reference,
            image.digest,
            image.size,
            image.archive.display()
        );
    }
    Ok(())
}

/// Makes every image for this machine's own cluster.
pub(crate) fn ensure() -> Result<()> {
    let args = Args {
        profile: Profile::Release,
        repository: REPOSITORY.to_owned(),
        tag: None,
        output: None,
        programs: None,
    };
    make(&args).map(drop)
}

/// The tar files that were made before, of those images that there are.
pub(crate) fn made() -> Vec<PathBuf> {
    let archives = RECIPES.iter().map(|recipe| archive(&output_dir(), recipe));
    archives.filter(|archive| archive.exists()).collect()
}

fn make(args: &Args) -> Result<Vec<Made>> {
    let programs = match &args.programs {
        Some(directory) => directory.clone(),
        None => {
            setup::run(&setup::Needs::image())?;
            programs::build(args.profile)?
        }
    };
    let output = match &args.output {
        Some(directory) => directory.clone(),
        None => output_dir(),
    };
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let kitchen = Kitchen::new(programs)?;
    let tag = args.tag.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    RECIPES
        .iter()
        .map(|recipe| {
            step(&format!("make the image {}", recipe.name), || {
                let reference = format!("{}/{}:{tag}", args.repository, recipe.name);
                kitchen.make(recipe, reference, &output)
            })
        })
        .collect()
}

/// What all images share.
struct Kitchen {
    programs: PathBuf,
    linked: Tree,
    linked_ebpf: Tree,
    lock: Lock,
    rustc: String,
    revision: String,
    time: (u64, String),
}

impl Kitchen {
    fn new(programs: PathBuf) -> Result<Self> {
        let lock = root().join("Cargo.lock");
        let lock =
            fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
        let rustc = output(command("rustc", &["--version"]));
        let rustc = rustc.as_deref().and_then(|text| text.split(' ').nth(1));
        let seconds = time_of_sources()?;
        let written = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds)?)?;
        Ok(Self {
            programs,
            linked: Tree::of(programs::packages(), STATIC_TARGET)?,
            linked_ebpf: Tree::of(&[EBPF.0], EBPF.1)?,
            lock: Lock::parse(&lock)?,
            rustc: rustc.context("`rustc --version` does not run")?.to_owned(),
            revision: revision(),
            time: (seconds, written.format(&Rfc3339)?),
        })
    }

    fn make(&self, recipe: &Recipe, reference: String, output: &Path) -> Result<Made> {
        let sbom = self.bill(recipe)?;
        let bill = output.join(format!("{}.cdx.json", recipe.name));
        fs::write(&bill, &sbom).with_context(|| format!("cannot write {}", bill.display()))?;
        let program = recipe
            .programs
            .first()
            .context("an image without a program")?;
        let entrypoint = std::iter::once(format!("/{}", program_path(program)))
            .chain(recipe.arguments.iter().map(|&argument| argument.to_owned()));
        let image = Image {
            entrypoint: entrypoint.collect(),
            architecture: ARCHITECTURE,
            user: recipe.user,
            labels: self.labels(recipe),
            files: self.files(recipe, &sbom)?,
            sbom: Some(sbom),
            time: self.time.clone(),
            reference,
        };
        let packed = image.pack()?;
        let archive = archive(output, recipe);
        fs::write(&archive, &packed.archive)
            .with_context(|| format!("cannot write {}", archive.display()))?;
        Ok(Made {
            archive,
            reference: image.reference,
            digest: packed.digest,
            size: packed.archive.len(),
        })
    }

    fn files(&self, recipe: &Recipe, sbom: &[u8]) -> Result<Vec<File>> {
        let mut files = Vec::new();
        for program in recipe.programs {
            files.push(File {
                path: program_path(program),
                mode: 0o555,
                bytes: programs::read(&self.programs, program)?,
            });
        }
        let licence = fs::read(root().join("LICENSE")).context("cannot read LICENSE")?;
        let about = format!("usr/share/doc/{}", recipe.name);
        for (name, bytes) in [("LICENSE", licence), ("sbom.cdx.json", sbom.to_vec())] {
            files.push(File {
                path: format!("{about}/{name}"),
                mode: 0o444,
                bytes,
            });
        }
        Ok(files)
    }

    fn bill(&self, recipe: &Recipe) -> Result<Vec<u8>> {
        let mut parts = vec![(&self.linked, self.linked.linked_into(recipe.package)?)];
        if recipe.has_ebpf {
            parts.push((&self.linked_ebpf, self.linked_ebpf.linked_into(EBPF.0)?));
        }
        let bill = Bill {
            name: recipe.name,
            version: env!("CARGO_PKG_VERSION"),
            time: &self.time.1,
            rustc: &self.rustc,
            parts,
        };
        Ok(bill.write(&self.lock))
    }

    fn labels(&self, recipe: &Recipe) -> BTreeMap<String, String> {
        let labels = [
            ("title", recipe.title),
            ("version", env!("CARGO_PKG_VERSION")),
            ("revision", &self.revision),
            ("created", &self.time.1),
            ("licenses", env!("CARGO_PKG_LICENSE")),
        ];
        labels
            .map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned()))
            .into()
    }
}

fn output_dir() -> PathBuf {
    target_dir().join("images")
}

fn archive(directory: &Path, recipe: &Recipe) -> PathBuf {
    directory.join(format!("{}.tar", recipe.name))
}

fn program_path(program: &str) -> String {
    format!("usr/local/bin/{program}")
}

/// `SOURCE_DATE_EPOCH`, else when the last commit was made, else the epoch.
fn time_of_sources() -> Result<u64> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is not a number of seconds: {given:?}"));
    }
    let commit = output(command("git", &["log", "-1", "--format=%ct"]));
    Ok(commit
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0))
}

/// The commit, and whether the sources differ from it.
fn revision() -> String {
    let Some(commit) = output(command("git", &["rev-parse", "HEAD"])) else {
        return "unknown".to_owned();
    };
    let changed = output(command("git", &["status", "--porcelain"]));
    let is_clean = changed.is_some_and(|text| text.trim().is_empty());
    let suffix = if is_clean { "" } else { "-modified" };
    format!("{}{suffix}", commit.trim())
}
