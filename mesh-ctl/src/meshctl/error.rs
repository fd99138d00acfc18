//! Why a command could not be done.

use super::exit::Exit;
use super::install::InstallError;
use super::reach::ReachError;
use mesh_common::suggest;

/// A command could not be done. The text names the object and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Options contradict each other, or one has no meaning here.
    #[error("{0}")]
    Usage(String),
    /// There is nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// There is no way to the mesh.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// Installing or uninstalling did not succeed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// It was not done, for another reason.
    #[error("{0}")]
    Failed(String),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// There is no `what`; the nearest of the names that there are is suggested.
    pub fn not_found<'a>(what: &str, name: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let hint = suggest::suggestion(name, names);
        Self::NotFound(format!("there is no {what} {name:?}{hint}"))
    }

    /// The exit code that goes with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NotFound(_) => Exit::NotFound,
            Self::Reach(error) => error.exit(),
            Self::Install(_) | Self::Failed(_) | Self::Output(_) => Exit::Failure,
        }
    }
}
