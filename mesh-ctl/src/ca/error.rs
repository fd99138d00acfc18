//! Why a certificate authority cannot be used: one line, naming the file and the remedy.

use std::path::PathBuf;

/// The CA directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read.
    #[error("{file}: cannot read it: {source}; check that it exists and who may read it")]
    Read {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{file}: cannot create it: {source}; check that --ca-dir can be written")]
    Write {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Some of the files are there, and this one is not.
    #[error(
        "{file}: is missing beside the other CA files; add it, or empty the directory to have a new CA made"
    )]
    Missing {
        /// Which file.
        file: PathBuf,
    },
    /// The key is not usable.
    #[error(
        "{file}: is not a private key that can sign: {reason}; it must be an unencrypted PEM key (ECDSA P-256 or P-384, or RSA)"
    )]
    Key {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate is not usable.
    #[error("{file}: {reason}; it must hold PEM certificates")]
    Certificate {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Key and certificate are not a pair.
    #[error("{key}: is not the key of {certificate}; put the matching pair in place")]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// The certificate may not sign others.
    #[error(
        "{file}: is not a CA certificate (basicConstraints CA:TRUE); use one that may sign others"
    )]
    NotACa {
        /// Which file.
        file: PathBuf,
    },
    /// It is past its time.
    #[error("{file}: expired on {at}; replace it")]
    Expired {
        /// Which file.
        file: PathBuf,
        /// When.
        at: String,
    },
    /// What it signs would not be trusted.
    #[error(
        "{file}: what it signs does not verify against {root}: {reason}; check ca-cert.pem, cert-chain.pem and root-cert.pem"
    )]
    Chain {
        /// The signing certificate.
        file: PathBuf,
        /// The roots.
        root: PathBuf,
        /// What the verifier said.
        reason: String,
    },
}
