//! What is to happen on each tunnel. Both ends work it out from the seed and the tunnel's number, so
//! each can check what the other does.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// One tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) number: u32,
    /// Bytes of a field that makes the request's head large.
    pub(crate) filler: usize,
    pub(crate) answer: Answer,
    pub(crate) up: Way,
    pub(crate) down: Way,
}

/// What the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accept,
    /// 503, and nothing more.
    Refuse,
    /// RST_STREAM instead.
    Reset,
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    salt: u64,
    pub(crate) bytes: usize,
    /// The code with which the sender resets the stream after these bytes; otherwise it ends them.
    pub(crate) reset: Option<u32>,
    /// Whether the receiver gives back what it received late and little by little.
    pub(crate) slow: bool,
}

/// The statuses of the answers.
pub(crate) const ACCEPTED: u16 = 200;
pub(crate) const REFUSED: u16 = 503;
/// What a client does with a stream that was refused.
pub(crate) const CANCEL: u32 = 8;
/// Codes of resets; REFUSED_STREAM has a meaning of its own.
const RESETS: [u32; 6] = [0, 1, 2, CANCEL, 10, 0xfabc];
/// How a server resets instead of answering.
pub(crate) const INSTEAD: u32 = 10;

impl Plan {
    /// The `number`-th tunnel of a run.
    pub(crate) fn new(seed: u64, number: u32, largest: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed << 20 | u64::from(number));
        let filler = match rng.random_range(0..10) {
            0 => rng.random_range(20_000..50_000),
            1..4 => rng.random_range(0..300),
            _ => 0,
        };
        let answer = match rng.random_range(0..16) {
            0 => Answer::Refuse,
            1 => Answer::Reset,
            _ => Answer::Accept,
        };
        Self {
            number,
            filler,
            answer,
            up: Way::new(&mut rng, largest),
            down: Way::new(&mut rng, largest),
        }
    }

    /// Bytes that only end in peace, as many as these in each direction.
    pub(crate) fn peaceful(number: u32, up: usize, down: usize) -> Self {
        let way = |salt, bytes| Way {
            salt,
            bytes,
            reset: None,
            slow: false,
        };
        Self {
            number,
            filler: 0,
            answer: Answer::Accept,
            up: way(1, up),
            down: way(2, down),
        }
    }

    /// The value that the request carries to make it large.
    pub(crate) fn filler(&self) -> String {
        "abcdefghijklmnop"
            .chars()
            .cycle()
            .take(self.filler)
            .collect()
    }
}

impl Way {
    fn new(rng: &mut StdRng, largest: usize) -> Self {
        let bytes = match rng.random_range(0..6) {
            0 => 0,
            1 => rng.random_range(1..100),
            2 => rng.random_range(1..20_000),
            _ => rng.random_range(1..=largest),
        };
        Self {
            salt: rng.random(),
            bytes,
            reset: rng
                .random_ratio(1, 8)
                .then(|| RESETS[rng.random_range(0..RESETS.len())]),
            slow: rng.random_ratio(1, 4),
        }
    }

    /// The byte at this position.
    fn byte(&self, position: usize) -> u8 {
        let mixed = (position as u64 ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as u8
    }

    /// Content from this position on.
    pub(crate) fn content(&self, from: usize, length: usize) -> Vec<u8> {
        (from..from + length).map(|at| self.byte(at)).collect()
    }

    /// Panics unless `content` is what belongs at this position.
    pub(crate) fn check(&self, from: usize, content: &[u8]) {
        assert!(from + content.len() <= self.bytes, "more than was sent");
        let wrong = content
            .iter()
            .zip(from..)
            .find(|&(&byte, at)| byte != self.byte(at));
        assert_eq!(wrong, None, "not what was sent");
    }
}
