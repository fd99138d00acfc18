//! A connection under fuzzing: a peer that sends whatever it likes, an owner that does whatever the API
//! allows, and a watch over what must hold at all times.

pub mod peer;
pub mod watch;
