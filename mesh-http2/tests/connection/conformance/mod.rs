//! Cases of RFC 9113, section by section: what comes in, and what must come of it.

mod frames;
mod messages;
mod streams;

use crate::under_test::{Outcome, Role, State, Told, UnderTest};
use crate::wire::{self, Frame};
use mesh_http2::ErrorCode;

/// One case.
struct Case {
    /// The section that demands it.
    section: &'static str,
    what: &'static str,
    roles: &'static [Role],
    state: State,
    input: Vec<u8>,
    expect: Expect,
}

const SERVER: &[Role] = &[Role::Server];
const CLIENT: &[Role] = &[Role::Client];
const BOTH: &[Role] = &[Role::Client, Role::Server];

enum Expect {
    /// A connection error: GOAWAY with this code, and nothing after it is read.
    Connection(ErrorCode),
    /// The owner is told this, and then comes a connection error.
    ToldThenConnection(Vec<Told>, ErrorCode),
    /// A stream error of which the owner is told: RST_STREAM with this code.
    Stream(u32, ErrorCode),
    /// A stream error that the owner need not know of.
    Refused(u32, ErrorCode),
    /// Nothing is said and nothing is told.
    Nothing,
    /// The owner is told this.
    Told(Vec<Told>),
    /// The peer is sent this.
    Sent(Vec<u8>),
    /// Both.
    ToldAndSent(Vec<Told>, Vec<u8>),
}

impl Expect {
    fn outcome(&self) -> Outcome {
        let empty = Outcome::default;
        match self {
            Self::Connection(code) => Outcome {
                error: Some(*code),
                ..empty()
            },
            Self::ToldThenConnection(told, code) => Outcome {
                told: told.clone(),
                error: Some(*code),
                ..empty()
            },
            Self::Stream(id, code) => Outcome {
                told: vec![Told::Reset(*id, *code)],
                sent: wire::frames(&wire::reset(*id, u32::from(*code))),
                ..empty()
            },
            Self::Refused(id, code) => Outcome {
                sent: wire::frames(&wire::reset(*id, u32::from(*code))),
                ..empty()
            },
            Self::Nothing => empty(),
            Self::Told(told) => Outcome {
                told: told.clone(),
                ..empty()
            },
            Self::Sent(bytes) => Outcome {
                sent: wire::frames(bytes),
                ..empty()
            },
            Self::ToldAndSent(told, bytes) => Outcome {
                told: told.clone(),
                sent: wire::frames(bytes),
                ..empty()
            },
        }
    }
}

fn case(
    section: &'static str,
    what: &'static str,
    roles: &'static [Role],
    state: State,
    input: Vec<u8>,
    expect: Expect,
) -> Case {
    Case {
        section,
        what,
        roles,
        state,
        input,
        expect,
    }
}

/// A connection error closes with GOAWAY; everything else leaves the connection alive.
fn check(case: &Case, role: Role, piece: usize) {
    let Case {
        section,
        what,
        state,
        ..
    } = case;
    let name = format!("{section}: {what} ({role:?}, {state:?}, pieces of {piece})");
    let mut test = UnderTest::new(role, *state);
    let mut outcome = test.outcome(&case.input, piece);
    let after = test.outcome(&wire::ping(b"alive???"), usize::MAX);
    if let Some(code) = outcome.error {
        let goaway = outcome.sent.pop();
        let goaway = goaway.unwrap_or_else(|| panic!("{name}: no GOAWAY"));
        assert_eq!((goaway.kind, goaway.stream), (wire::GOAWAY, 0), "{name}");
        assert_eq!(
            goaway.payload[4..8],
            u32::from(code).to_be_bytes(),
            "{name}"
        );
        assert!(test.connection.is_over(), "{name}");
        assert_eq!(after, Outcome::default(), "{name}: after the error");
    } else {
        let answer = Frame {
            kind: wire::PING,
            flags: wire::ACK,
            stream: 0,
            payload: b"alive???".to_vec(),
        };
        assert_eq!(after.sent, [answer], "{name}: no longer alive");
    }
    assert_eq!(outcome, case.expect.outcome(), "{name}");
}

fn check_all(cases: &[Case]) {
    for case in cases {
        for &role in case.roles {
            for piece in [usize::MAX, 1, 5] {
                check(case, role, piece);
            }
        }
    }
}
