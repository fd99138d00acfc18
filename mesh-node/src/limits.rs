//! The agent's own limits: two descriptors for each connection, and a crowd must not exhaust them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this the agent says that it may run out.
const ENOUGH: u64 = 65_536;

/// Allows the agent as many descriptors as it may have (a service manager often grants 1,024 of them
/// until asked).
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(e) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit of open files: {e}");
    }
    if let Some(most) = limit.maximum.filter(|&most| most < ENOUGH) {
        tracing::warn!(
            "at most {most} open files, two for each connection; raise the hard limit (LimitNOFILE) to {ENOUGH} or more"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = getrlimit(Resource::Nofile);
        let lowered = Rlimit {
            current: limit.maximum.map(|most| most - 1),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, lowered).unwrap();
        raise_descriptors();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}
