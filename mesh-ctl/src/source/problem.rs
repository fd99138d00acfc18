//! What is wrong with the configuration: one line each, naming file, object, field and remedy.

use std::fmt;
use std::path::PathBuf;

/// One thing that must be corrected before the directory can be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct Problem {
    /// The file, as the operator named the directory.
    pub file: PathBuf,
    /// Which document of the file, from 1.
    pub document: Option<usize>,
    /// `Kind namespace/name`, as far as it is known.
    pub object: Option<String>,
    /// What is wrong and what to do, with the field.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(document) = self.document {
            write!(f, "document {document}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        // One problem is one line, whatever a library put into its message.
        f.write_str(&self.message.replace('\n', " "))
    }
}

/// Every problem of one read, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
