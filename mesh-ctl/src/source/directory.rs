//! Reads a directory of Kubernetes YAML as one consistent whole, or not at all.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::scan::{self, Scan};
use super::{Problem, Problems, document, kinds};
use crate::model::{ObjectName, Objects};

/// A directory that changes under every attempt is read as it was last.
const ATTEMPTS: usize = 5;

/// Reads every file below `root`. A file that changes meanwhile makes the read start again, so that
/// the result is a state which the directory really had.
pub fn read(root: &Path) -> Result<Objects, Problems> {
    read_stable(root).1
}

/// As [`read`], with the scan that the result belongs to (empty when there is none).
pub(super) fn read_stable(root: &Path) -> (Scan, Result<Objects, Problems>) {
    let mut attempt = 1;
    loop {
        let before = match scan::scan(root) {
            Ok(scan) => scan,
            Err(problem) => return (Scan::new(), Err(Problems(vec![problem]))),
        };
        let result = read_files(&before);
        if attempt == ATTEMPTS || scan::scan(root).is_ok_and(|after| after == before) {
            return (before, result);
        }
        attempt += 1;
    }
}

fn read_files(scan: &Scan) -> Result<Objects, Problems> {
    let mut objects = Objects::default();
    let mut problems = Vec::new();
    let mut origins: HashMap<(&'static str, ObjectName), PathBuf> = HashMap::new();
    for file in scan.keys() {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) => {
                let message = format!(
                    "cannot read the file: {e}; correct that, or move it out of the directory"
                );
                problems.push(Problem {
                    file: file.clone(),
                    document: None,
                    object: None,
                    message,
                });
                continue;
            }
        };
        let (documents, bad) = document::parse(file, &text);
        problems.extend(bad);
        for document in documents {
            let (number, described) = (document.number, kinds::describe(&document));
            let problem = |message: String| Problem {
                file: file.clone(),
                document: Some(number),
                object: Some(described.clone()),
                message,
            };
            match kinds::object(document) {
                Ok(Some(object)) => {
                    let (kind, name) = object.identity();
                    match origins.insert((kind, name.clone()), file.clone()) {
                        None => {
                            let origin = format!("{}: document {number}", file.display());
                            objects.origins.insert((kind, name.clone()), origin);
                            objects.insert(object);
                        }
                        Some(first) => problems.push(problem(format!(
                            "is defined twice, first in {}; remove or rename one",
                            first.display()
                        ))),
                    }
                }
                Ok(None) => tracing::debug!(file = %file.display(), object = %described, "ignored"),
                Err(message) => problems.push(problem(message)),
            }
        }
    }
    if problems.is_empty() {
        Ok(objects)
    } else {
        Err(Problems(problems))
    }
}
