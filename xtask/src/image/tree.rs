//! Which crates are linked into a program: cargo's own answer, for the features of that very build.

use crate::exec::{cargo, output};
use anyhow::{Context as _, Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// A crate, by name and version.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Crate {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
}

/// What cargo says of the crates of one build.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The licence of each, an SPDX expression.
    pub(crate) licences: BTreeMap<Crate, String>,
    /// What each links in turn.
    pub(crate) links: BTreeMap<Crate, BTreeSet<Crate>>,
}

impl Tree {
    /// What a build of these packages for `target` links: no proc macros, nothing of build scripts.
    pub(crate) fn of(packages: &[&str], target: &str) -> Result<Self> {
        let mut tree = vec!["tree", "--locked", "--edges", "normal,no-proc-macro"];
        tree.extend(["--prefix", "depth", "--format", "\t{p}\t{l}\t"]);
        tree.extend(["--target", target]);
        for package in packages {
            tree.extend(["--package", package]);
        }
        let text = output(cargo(&tree)).with_context(|| {
            format!(
                "`cargo tree` fails for {packages:?}; try `cargo {}`",
                tree.join(" ")
            )
        })?;
        Self::parse(&text)
    }

    /// Reads `cargo tree`: depth, package, licence, and `(*)` where what is below was shown before.
    fn parse(text: &str) -> Result<Self> {
        let mut tree = Self::default();
        let mut path: Vec<Crate> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [depth, package, licence, ..] = fields[..] else {
                bail!("`cargo tree` printed a line that is not understood: {line:?}");
            };
            let depth: usize = depth
                .parse()
                .with_context(|| format!("no depth: {line:?}"))?;
            let mut words = package.split(' ');
            let (Some(name), Some(version)) = (words.next(), words.next()) else {
                bail!("`cargo tree` printed a line that is not understood: {line:?}");
            };
            let linked = Crate {
                name: name.to_owned(),
                version: version.trim_start_matches('v').to_owned(),
            };
            path.truncate(depth);
            if let Some(parent) = path.last() {
                let links = tree.links.entry(parent.clone()).or_default();
                links.insert(linked.clone());
            }
            // Crates of before SPDX wrote a slash.
            let licence = licence.replace(" / ", "/").replace('/', " OR ");
            tree.licences.insert(linked.clone(), licence);
            path.push(linked);
        }
        Ok(tree)
    }

    /// The package, and all that is linked into it.
    pub(crate) fn linked_into(&self, package: &str) -> Result<BTreeSet<Crate>> {
        let root = self.licences.keys().find(|found| found.name == package);
        let root = root.with_context(|| format!("`cargo tree` does not know {package}"))?;
        let mut found = BTreeSet::new();
        let mut pending = vec![root];
        while let Some(next) = pending.pop() {
            if found.insert(next.clone()) {
                pending.extend(self.links.get(next).into_iter().flatten());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0\tone v1.0.0 (/src/one)\tApache-2.0\t\n\
                        1\tshared v0.2.0\tMIT/Apache-2.0\t\n\
                        2\tdeep v3.1.4\tISC\t\n\
                        \n\
                        0\ttwo v1.0.0 (/src/two)\tApache-2.0\t\n\
                        1\tother v0.1.0\tMIT\t\n\
                        1\tshared v0.2.0\tMIT/Apache-2.0\t (*)\n";

    fn names(package: &str) -> Vec<String> {
        let tree = Tree::parse(TREE).unwrap();
        let linked = tree.linked_into(package).unwrap();
        linked.into_iter().map(|linked| linked.name).collect()
    }

    #[test]
    fn what_was_shown_once_is_known_everywhere() {
        assert_eq!(names("one"), ["deep", "one", "shared"]);
        assert_eq!(names("two"), ["deep", "other", "shared", "two"]);
    }

    #[test]
    fn licences_are_spdx_expressions() {
        let tree = Tree::parse(TREE).unwrap();
        let licences: Vec<_> = tree.licences.values().collect();
        assert!(licences.contains(&&"MIT OR Apache-2.0".to_owned()));
    }

    #[test]
    fn other_output_is_an_error() {
        assert!(Tree::parse("error: no such package").is_err());
        assert!(Tree::parse(TREE).unwrap().linked_into("three").is_err());
    }
}
