//! The name of a lab, from which the name of everything that it makes follows.

use std::fmt;
use std::path::PathBuf;

const PREFIX: &str = "weft-lab-";
const DIGITS: usize = 8;

/// Eight hexadecimal digits: names of any other shape belong to somebody else and are left alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabId(String);

impl LabId {
    /// A name that no other lab has.
    pub(crate) fn random() -> Self {
        Self(format!("{:08x}", rand::random::<u32>()))
    }

    /// The lab to which an object of this name belongs.
    pub(crate) fn of_object(name: &str) -> Option<Self> {
        let digits = name.strip_prefix(PREFIX)?.split('-').next()?;
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        (digits.len() == DIGITS && digits.bytes().all(hex)).then(|| Self(digits.to_owned()))
    }

    /// The lab whose directory or cgroup has exactly this name.
    pub(crate) fn of_container(name: &str) -> Option<Self> {
        Self::of_object(name).filter(|id| id.to_string() == name)
    }

    /// The lab's directory, with its files and its bpffs.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from("/tmp").join(self.to_string())
    }
}

impl fmt::Display for LabId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::LabId;

    #[test]
    fn only_own_names_are_recognised() {
        let id = LabId::random();
        assert_eq!(LabId::of_container(&id.to_string()), Some(id.clone()));
        assert_eq!(LabId::of_object(&format!("{id}-node1")), Some(id));
        for foreign in [
            "weft-lab-a1",
            "weft-lab-0123456g",
            "weft-lab-",
            "weft-lab-0123456789",
            "x",
        ] {
            assert_eq!(LabId::of_object(foreign), None, "{foreign}");
        }
        assert_eq!(LabId::of_container("weft-lab-01234567-node1"), None);
    }
}
