//! The files of a certificate authority, wherever they are kept.
//!
//! `ca-cert.pem` and `ca-key.pem` sign, `cert-chain.pem` (optional) leads from the signing certificate towards
//! `root-cert.pem`, which peers trust. While a root is rotated, the signer that follows is there under
//! the same names after `next-`, and `rotation.json` says which of the two signs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The signing certificate.
pub const CERTIFICATE: &str = "ca-cert.pem";
/// Its key.
pub const KEY: &str = "ca-key.pem";
/// What leads from it to the roots.
pub const CHAIN: &str = "cert-chain.pem";
/// What peers trust.
pub const ROOT: &str = "root-cert.pem";
/// How far a rotation is.
pub(super) const ROTATION: &str = "rotation.json";
/// Before the names of the signer that follows.
pub(super) const NEXT: &str = "next-";

/// The four conventional names.
pub(super) const CONVENTIONAL: [&str; 4] = [CERTIFICATE, KEY, CHAIN, ROOT];

/// Every name that belongs to an authority.
pub(super) fn names() -> impl Iterator<Item = String> {
    let next = CONVENTIONAL.iter().map(|name| format!("{NEXT}{name}"));
    let own = CONVENTIONAL.iter().map(|name| (*name).to_owned());
    own.chain(next).chain([ROTATION.to_owned()])
}

/// Contents by file name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Material(BTreeMap<String, Vec<u8>>);

impl fmt::Debug for Material {
    /// Names only: one of the contents is a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Material {
    /// True when there is no file at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A file's content.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Puts a file in place of what was there.
    pub fn insert(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        self.0.insert(name.to_owned(), content.into());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    /// The signer that follows, under the conventional names; empty when there is none.
    pub(super) fn next(&self) -> Self {
        let next = self
            .iter()
            .filter_map(|(name, content)| Some((name.strip_prefix(NEXT)?, content)));
        next.collect()
    }

    /// The four conventional files alone.
    pub(super) fn conventional(&self) -> Self {
        self.iter()
            .filter(|(name, _)| CONVENTIONAL.contains(name))
            .collect()
    }

    /// Without the signer that follows.
    pub(super) fn without_next(&self) -> Self {
        self.iter()
            .filter(|(name, _)| !name.starts_with(NEXT))
            .collect()
    }

    /// With `next` as the signer that follows.
    pub(super) fn with_next(&self, next: &Self) -> Self {
        let mut with = self.without_next();
        for (name, content) in next.iter() {
            with.insert(&format!("{NEXT}{name}"), content);
        }
        with
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for Material {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a [u8])>>(files: T) -> Self {
        let owned = |(name, content): (&str, &[u8])| (name.to_owned(), content.to_vec());
        Self(files.into_iter().map(owned).collect())
    }
}

/// A Kubernetes Secret, `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl FromStr for SecretName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self {
                    namespace: namespace.into(),
                    name: name.into(),
                })
            }
            _ => Err(format!("{text:?} is not NAMESPACE/NAME")),
        }
    }
}

/// Where an authority is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of files.
    Directory(PathBuf),
    /// A Secret, whose keys are the file names.
    Secret(SecretName),
}

impl Place {
    /// How one of its files is called in messages.
    pub(super) fn file(&self, name: &str) -> String {
        match self {
            Self::Directory(directory) => Path::new(directory).join(name).display().to_string(),
            Self::Secret(_) => format!("{self}, {name}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(f, "{}", directory.display()),
            Self::Secret(secret) => write!(f, "Secret {}/{}", secret.namespace, secret.name),
        }
    }
}
