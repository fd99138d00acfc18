//! Layers and archives: tar files whose bytes depend on their content alone.

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use std::collections::BTreeSet;
use std::io::Write as _;
use tar::{Builder, EntryType, Header};

/// A tar file in the making. Everything in it belongs to root and has one time.
pub(crate) struct Archive {
    builder: Builder<Vec<u8>>,
    directories: BTreeSet<String>,
    time: u64,
}

impl Archive {
    /// One whose entries have this time, in seconds since 1970.
    pub(crate) fn new(time: u64) -> Self {
        Self {
            builder: Builder::new(Vec::new()),
            directories: BTreeSet::new(),
            time,
        }
    }

    /// Adds a file, and before it the directories that it is in. `path` is relative.
    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            let directory = &path[..=at];
            if self.directories.insert(directory.to_owned()) {
                self.entry(directory, EntryType::Directory, 0o755, &[])?;
            }
        }
        self.entry(path, EntryType::Regular, mode, bytes)
    }

    /// The bytes of the tar file.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        self.builder
            .into_inner()
            .context("a tar file cannot be completed")
    }

    fn entry(&mut self, path: &str, kind: EntryType, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.time);
        header.set_size(bytes.len() as u64);
        self.builder
            .append_data(&mut header, path, bytes)
            .with_context(|| format!("cannot put {path} into a tar file"))
    }
}

/// The same bytes, compressed, with no name and no time of their own.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish().context("a layer cannot be compressed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut archive = Archive::new(1);
        archive.file("a/b/c", 0o555, b"one").unwrap();
        archive.file("a/b/d", 0o444, b"two").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn directories_come_once_and_before_what_is_in_them() {
        let bytes = archive();
        let mut read = tar::Archive::new(&bytes[..]);
        let entries: Vec<_> = read
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                let owner = header.uid().unwrap() + header.gid().unwrap();
                assert_eq!((owner, header.mtime().unwrap()), (0, 1));
                (path, header.mode().unwrap())
            })
            .collect();
        let expected = [
            ("a/", 0o755),
            ("a/b/", 0o755),
            ("a/b/c", 0o555),
            ("a/b/d", 0o444),
        ];
        assert_eq!(
            entries,
            expected.map(|(path, mode)| (path.to_owned(), mode))
        );
    }

    #[test]
    fn equal_content_gives_equal_bytes() {
        assert_eq!(archive(), archive());
        assert_eq!(gzip(&archive()).unwrap(), gzip(&archive()).unwrap());
    }
}
