//! The session against rustls.
