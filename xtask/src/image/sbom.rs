//! The bill of materials of one image: CycloneDX JSON of every crate that is linked into its programs.

use super::tree::{Crate, Tree};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Where crates that are not ours come from, and under which checksum: from Cargo.lock.
pub(crate) struct Lock(BTreeMap<Crate, String>);

impl Lock {
    /// Reads the text of a Cargo.lock.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut checksums = BTreeMap::new();
        for package in text.split("[[package]]").skip(1) {
            let field = |name: &str| {
                let prefix = format!("{name} = \"");
                let value = package.lines().find_map(|line| line.strip_prefix(&prefix));
                value.map(|value| value.trim_end_matches('"').to_owned())
            };
            let name = field("name").context("Cargo.lock has a package without a name")?;
            let version = field("version").with_context(|| format!("{name} has no version"))?;
            if let Some(checksum) = field("checksum") {
                checksums.insert(Crate { name, version }, checksum);
            }
        }
        Ok(Self(checksums))
    }
}

/// Writes the bill of an image.
pub(crate) struct Bill<'a> {
    /// The image's name.
    pub(crate) name: &'a str,
    /// Its version.
    pub(crate) version: &'a str,
    /// RFC 3339.
    pub(crate) time: &'a str,
    /// The compiler, whose standard library and C library are linked in.
    pub(crate) rustc: &'a str,
    /// What is linked in, of each build that takes part.
    pub(crate) parts: Vec<(&'a Tree, BTreeSet<Crate>)>,
}

impl Bill<'_> {
    /// The document. Equal bills give equal bytes.
    pub(crate) fn write(&self, lock: &Lock) -> Vec<u8> {
        let mut components = BTreeMap::new();
        let mut links: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (tree, crates) in &self.parts {
            for linked in crates {
                components.insert(url(linked), component(linked, tree, lock));
                let below = tree.links.get(linked).into_iter().flatten().map(url);
                links.entry(url(linked)).or_default().extend(below);
            }
        }
        let standard = format!("pkg:generic/rust-std@{}", self.rustc);
        components.insert(
            standard.clone(),
            json!({
                "type": "library",
                "bom-ref": standard,
                "name": "rust-std",
                "version": self.rustc,
                "description": "Rust's standard library, with musl's C library where it is the target's",
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
                "purl": standard,
            }),
        );
        let dependencies: Vec<Value> = links
            .iter()
            .map(|(from, to)| json!({"ref": from, "dependsOn": to}))
            .collect();
        let bill = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "timestamp": self.time,
                "component": {
                    "type": "container",
                    "bom-ref": self.name,
                    "name": self.name,
                    "version": self.version,
                },
            },
            "components": components.values().collect::<Vec<_>>(),
            "dependencies": dependencies,
        });
        format!("{bill:#}\n").into_bytes()
    }
}

fn url(linked: &Crate) -> String {
    format!("pkg:cargo/{}@{}", linked.name, linked.version)
}

fn component(linked: &Crate, tree: &Tree, lock: &Lock) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": url(linked),
        "name": linked.name,
        "version": linked.version,
        "purl": url(linked),
    });
    if let Some(licence) = tree.licences.get(linked).filter(|text| !text.is_empty()) {
        component["licenses"] = json!([{"expression": licence}]);
    }
    if let Some(checksum) = lock.0.get(linked) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::Crate;

    #[test]
    fn a_crate_has_its_licence_its_checksum_and_its_links() {
        let lock = Lock::parse(
            "version = 4\n\n[[package]]\nname = \"dep\"\nversion = \"2.0.0\"\n\
             source = \"registry\"\nchecksum = \"abcd\"\n\n\
             [[package]]\nname = \"ours\"\nversion = \"0.1.0\"\ndependencies = [\n \"dep\",\n]\n",
        );
        let [ours, dep] = [("ours", "0.1.0"), ("dep", "2.0.0")].map(|(name, version)| Crate {
            name: name.into(),
            version: version.into(),
        });
        let tree = Tree {
            licences: BTreeMap::from([
                (ours.clone(), "Apache-2.0".into()),
                (dep.clone(), "MIT".into()),
            ]),
            links: BTreeMap::from([(ours.clone(), BTreeSet::from([dep.clone()]))]),
        };
        let bill = Bill {
            name: "image",
            version: "0.1.0",
            time: "1970-01-01T00:00:00Z",
            rustc: "1.0.0",
            parts: vec![(&tree, BTreeSet::from([ours, dep]))],
        };
        let written: Value = serde_json::from_slice(&bill.write(&lock.unwrap())).unwrap();
        let components = written["components"].as_array().unwrap();
        let find = |name: &str| {
            components
                .iter()
                .find(|component| component["name"] == name)
        };
        assert_eq!(find("dep").unwrap()["hashes"][0]["content"], "abcd");
        assert_eq!(find("dep").unwrap()["licenses"][0]["expression"], "MIT");
        assert!(find("ours").unwrap().get("hashes").is_none());
        assert!(find("rust-std").is_some());
        let links = written["dependencies"].as_array().unwrap();
        let of_ours = links
            .iter()
            .find(|link| link["ref"] == "pkg:cargo/ours@0.1.0");
        assert_eq!(
            of_ours.unwrap()["dependsOn"],
            json!(["pkg:cargo/dep@2.0.0"])
        );
    }
}
