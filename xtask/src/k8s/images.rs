//! The images that the cluster's own pods run: Debian's static busybox, and nothing else.

use super::dir;
use crate::image::ARCHITECTURE;
use crate::image::oci::{File, Image};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const BUSYBOX: &str = "/bin/busybox";
/// The container that holds a pod's namespaces, and an application. Their names are in the tests' manifests.
const IMAGES: [(&str, &[&str]); 2] = [
    ("pause", &["/bin/busybox", "sleep", "2147483647"]),
    ("app", &["/bin/busybox", "sh"]),
];

/// Makes them, and tells where their tar files are.
pub(crate) fn make() -> Result<Vec<PathBuf>> {
    let directory = dir().join("images");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let busybox = fs::read(BUSYBOX).with_context(|| {
        format!("cannot read {BUSYBOX}; is the package busybox-static installed?")
    })?;
    let mut made = Vec::new();
    for (name, entrypoint) in IMAGES {
        let image = Image {
            reference: format!("localhost/weft-test/{name}:1"),
            architecture: ARCHITECTURE,
            entrypoint: entrypoint.iter().map(ToString::to_string).collect(),
            user: "0:0",
            labels: BTreeMap::new(),
            files: vec![File {
                path: "bin/busybox".into(),
                mode: 0o755,
                bytes: busybox.clone(),
            }],
            sbom: None,
            time: (0, "1970-01-01T00:00:00Z".into()),
        };
        let archive = directory.join(format!("{name}.tar"));
        fs::write(&archive, image.pack()?.archive)
            .with_context(|| format!("cannot write {}", archive.display()))?;
        made.push(archive);
    }
    Ok(made)
}
