//! Serving: TLS with a certificate from the controller's own authority, and the admin endpoints.

pub mod admin;
pub mod connection;
pub mod tls;
