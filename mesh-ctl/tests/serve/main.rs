//! The controller as nodes meet it: over TLS, with tokens, in a real process' runtime.

mod certificates;
mod discovery;
mod fixture;
