//! Why a certificate authority cannot be used: one line, naming the file and the remedy.

use super::RotationError;

/// The files of the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read.
    #[error("{file}: cannot read it: {source}; check that it exists and who may read it")]
    Read {
        /// Which file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{file}: cannot write it: {source}; check that --ca-dir can be written")]
    Write {
        /// Which file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The API server does not give or take the Secret.
    #[error(
        "{place}: {operation} failed: {source}; check that the API server answers and that RBAC allows get, list, watch, create and update"
    )]
    Api {
        /// Which Secret.
        place: String,
        /// What was tried.
        operation: &'static str,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// The API server does not tell what changes.
    #[error("{place}: cannot be watched: {reason}")]
    Watch {
        /// Which Secret.
        place: String,
        /// What the API server said.
        reason: String,
    },
    /// Another process changed the Secret at the same time.
    #[error("{place}: was changed by somebody else at the same time; run the command again")]
    Raced {
        /// Which Secret.
        place: String,
    },
    /// It was there and is not any more.
    #[error(
        "{place}: is gone; put it back from a copy, or restart with none to have a new CA made"
    )]
    Gone {
        /// Which directory or Secret.
        place: String,
    },
    /// Some of the files are there, and this one is not.
    #[error(
        "{file}: is missing beside the other CA files; add it, or remove them all to have a new CA made"
    )]
    Missing {
        /// Which file.
        file: String,
    },
    /// The key is not usable.
    #[error(
        "{file}: is not a private key that can sign: {reason}; it must be an unencrypted PEM key (ECDSA P-256 or P-384, or RSA)"
    )]
    Key {
        /// Which file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate is not usable.
    #[error("{file}: {reason}; it must hold PEM certificates")]
    Certificate {
        /// Which file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Key and certificate are not a pair.
    #[error("{key}: is not the key of {certificate}; put the matching pair in place")]
    Mismatch {
        /// The key file.
        key: String,
        /// The certificate file.
        certificate: String,
    },
    /// The certificate may not sign others.
    #[error(
        "{file}: is not a CA certificate (basicConstraints CA:TRUE); use one that may sign others"
    )]
    NotACa {
        /// Which file.
        file: String,
    },
    /// It is past its time.
    #[error("{file}: expired on {at}; replace it")]
    Expired {
        /// Which file.
        file: String,
        /// When.
        at: String,
    },
    /// What it signs would not be trusted.
    #[error(
        "{file}: what it signs does not verify against {root}: {reason}; check ca-cert.pem, cert-chain.pem and root-cert.pem"
    )]
    Chain {
        /// The signing certificate.
        file: String,
        /// The roots.
        root: String,
        /// What the verifier said.
        reason: String,
    },
    /// What a rotation left behind is not readable.
    #[error("{0}")]
    Rotation(#[from] RotationError),
}
