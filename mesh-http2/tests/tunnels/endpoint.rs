//! One end that is ours, and the application on it: it does what the plans say, in an order and in
//! pieces that its random numbers decide.

use crate::plan::{ACCEPTED, Answer, CANCEL, INSTEAD, Plan, REFUSED, Way};
use mesh_http2::{Config, Connection, ErrorCode, Event, Head, StreamId};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bytes that may wait for the peer before no more DATA is made.
const WAITING: usize = 100_000;

/// How a tunnel ended on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both ways ended, and everything came.
    Complete,
    /// We reset it.
    ResetHere(u32),
    /// The peer did.
    ResetThere(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

pub(crate) struct Endpoint {
    pub(crate) connection: Connection,
    role: Role,
    rng: StdRng,
    /// The client's tunnels that are not open yet; on a server all there will be.
    pub(crate) planned: VecDeque<Plan>,
    open: BTreeMap<StreamId, Tunnel>,
    /// What was received on streams that are gone, and is not given back yet.
    owed: Vec<(StreamId, usize)>,
    /// Sends no DATA before the peer's SETTINGS have come.
    pub(crate) patient: bool,
    /// On its way to the peer.
    pub(crate) out: Vec<u8>,
    pub(crate) endings: BTreeMap<u32, Ending>,
    /// Tunnels that were opened before the peer had said how many it allows.
    pub(crate) early: BTreeSet<u32>,
    pub(crate) goaways: Vec<ErrorCode>,
    pub(crate) pongs: Vec<[u8; 8]>,
}

struct Tunnel {
    plan: Plan,
    /// The client has its answer, or the server has given it.
    answered: bool,
    sent: usize,
    sending: bool,
    received: usize,
    receiving: bool,
    held: usize,
}

impl Tunnel {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            answered: false,
            sent: 0,
            sending: true,
            received: 0,
            receiving: true,
            held: 0,
        }
    }
}

impl Endpoint {
    pub(crate) fn new(role: Role, config: Config, seed: u64, plans: &[Plan]) -> Self {
        Self {
            connection: match role {
                Role::Client => Connection::client(config),
                Role::Server => Connection::server(config),
            },
            role,
            rng: StdRng::seed_from_u64(seed),
            planned: plans.to_vec().into(),
            open: BTreeMap::new(),
            owed: Vec::new(),
            patient: false,
            out: Vec::new(),
            endings: BTreeMap::new(),
            early: BTreeSet::new(),
            goaways: Vec::new(),
            pongs: Vec::new(),
        }
    }

    /// Whether nothing is open, owed or planned here.
    pub(crate) fn is_done(&self) -> bool {
        let planned = self.role == Role::Client && !self.planned.is_empty();
        !planned && self.open.is_empty() && self.owed.is_empty()
    }

    /// What this side sends on a tunnel, and what it receives.
    fn ways<'a>(&self, plan: &'a Plan) -> (&'a Way, &'a Way) {
        match self.role {
            Role::Client => (&plan.up, &plan.down),
            Role::Server => (&plan.down, &plan.up),
        }
    }

    /// Bytes that came from the peer.
    pub(crate) fn receive(&mut self, mut input: &[u8]) {
        while let Some(event) = self.connection.receive(&mut input).expect("a sound peer") {
            match event {
                Event::Head { stream, head, end } => self.head(stream, &head, end),
                Event::Data {
                    stream,
                    payload,
                    end,
                } => self.data(stream, payload, end),
                Event::Reset { stream, code } => self.reset_there(stream, code),
                Event::Window(_) => {}
                Event::Pong(payload) => self.pongs.push(payload),
                Event::GoAway(code) => self.goaways.push(code),
            }
        }
        assert_eq!(input, b"");
    }

    fn head(&mut self, id: StreamId, head: &Head, end: bool) {
        match self.role {
            Role::Server => {
                assert_eq!((head.method(), end), (&b"CONNECT"[..], false));
                let number = head.get("plan").map(String::from_utf8_lossy);
                let number: Option<u32> = number.and_then(|n| n.parse().ok());
                let plan = self.planned.iter().find(|p| Some(p.number) == number);
                let plan = plan.expect("a tunnel that was planned").clone();
                let filler = head.get("filler").unwrap_or_default();
                assert!(filler == plan.filler().as_bytes());
                assert!(self.open.insert(id, Tunnel::new(plan)).is_none());
            }
            Role::Client => {
                let tunnel = self.open.get_mut(&id).expect("an open stream");
                assert!(!tunnel.answered, "a second answer");
                tunnel.answered = true;
                let refused = tunnel.plan.answer == Answer::Refuse;
                let expected = if refused { REFUSED } else { ACCEPTED };
                assert_eq!((head.status(), end), (Some(expected), refused));
                if refused {
                    self.reset(id, CANCEL);
                }
            }
        }
    }

    fn data(&mut self, id: StreamId, payload: &[u8], end: bool) {
        let role = self.role;
        let tunnel = self.open.get_mut(&id).expect("an open stream");
        assert!(tunnel.receiving, "DATA after the end");
        let way = match role {
            Role::Client => &tunnel.plan.down,
            Role::Server => &tunnel.plan.up,
        };
        way.check(tunnel.received, payload);
        tunnel.received += payload.len();
        tunnel.held += payload.len();
        if end {
            assert_eq!((tunnel.received, way.reset), (way.bytes, None));
            tunnel.receiving = false;
            self.close_if_complete(id);
        }
    }

    fn reset_there(&mut self, id: StreamId, code: ErrorCode) {
        if code == ErrorCode::REFUSED_STREAM
            && let Some(tunnel) = self.open.remove(&id)
        {
            // Nothing was done for it: it may be tried again.
            assert_eq!((self.role, tunnel.received), (Role::Client, 0));
            return self.planned.push_front(tunnel.plan);
        }
        self.close(id, Ending::ResetThere(code.into()));
    }

    fn close_if_complete(&mut self, id: StreamId) {
        let tunnel = self.open.get(&id);
        if tunnel.is_some_and(|t| !t.sending && !t.receiving) {
            self.close(id, Ending::Complete);
        }
    }

    fn close(&mut self, id: StreamId, ending: Ending) {
        let tunnel = self.open.remove(&id).expect("an open stream");
        if tunnel.held > 0 {
            self.owed.push((id, tunnel.held));
        }
        let before = self.endings.insert(tunnel.plan.number, ending);
        assert_eq!(before, None, "a tunnel that ends twice");
    }

    fn reset(&mut self, id: StreamId, code: u32) {
        self.connection.reset(id, code.into());
        self.close(id, Ending::ResetHere(code));
    }

    /// A few things that the application may do now. True when it did any.
    pub(crate) fn act(&mut self) -> bool {
        let mut acted = false;
        if self.role == Role::Client && self.rng.random_ratio(1, 3) {
            acted |= self.open_one();
        }
        let ids: Vec<StreamId> = self.open.keys().copied().collect();
        for id in ids {
            if self.rng.random_ratio(1, 2) {
                acted |= self.send(id);
            }
            if self.rng.random_ratio(1, 2) {
                acted |= self.give_back(id);
            }
        }
        if self.rng.random_ratio(1, 4)
            && let Some((id, held)) = self.owed.pop()
        {
            self.connection.release(id, held);
            acted = true;
        }
        acted | self.flush()
    }

    /// Control frames, ahead of DATA that is made later.
    fn flush(&mut self) -> bool {
        let before = self.out.len();
        self.out.append(self.connection.control());
        self.out.len() > before
    }

    fn open_one(&mut self) -> bool {
        if !self.connection.can_open() {
            return false;
        }
        let Some(plan) = self.planned.pop_front() else {
            return false;
        };
        let (number, filler) = (plan.number.to_string(), plan.filler());
        let mut fields = vec![
            (":method", "CONNECT"),
            (":authority", "10.0.0.1:80"),
            ("plan", &number),
        ];
        if plan.filler > 0 {
            fields.push(("filler", &filler));
        }
        let fields = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
        let id = self.connection.request(fields).expect("can_open said so");
        if !self.connection.is_established() {
            self.early.insert(plan.number);
        }
        self.open.insert(id, Tunnel::new(plan));
        true
    }

    fn answer(&mut self, id: StreamId, answer: Answer) {
        let status = |status: &'static [u8]| [(&b":status"[..], status)];
        match answer {
            Answer::Accept => assert!(self.connection.respond(id, status(b"200"), false)),
            Answer::Refuse => {
                assert!(self.connection.respond(id, status(b"503"), true));
                if let Some(tunnel) = self.open.get_mut(&id) {
                    tunnel.sending = false;
                }
            }
            Answer::Reset => self.reset(id, INSTEAD),
        }
    }

    /// A piece of content, the end, a reset, or the answer that has to come first.
    fn send(&mut self, id: StreamId) -> bool {
        if self.patient && !self.connection.is_established() {
            return false;
        }
        let Some(tunnel) = self.open.get_mut(&id).filter(|t| t.sending) else {
            return false;
        };
        if self.role == Role::Client && !tunnel.answered && tunnel.plan.answer != Answer::Accept {
            return false;
        }
        if self.role == Role::Server && !tunnel.answered {
            tunnel.answered = true;
            let answer = tunnel.plan.answer;
            self.answer(id, answer);
            return true;
        }
        let plan = tunnel.plan.clone();
        let sent = tunnel.sent;
        let (way, _) = self.ways(&plan);
        let rest = way.bytes - sent;
        if rest == 0
            && let Some(code) = way.reset
        {
            self.reset(id, code);
            return true;
        }
        let room = self.connection.capacity(id).min(16_384).min(rest);
        if (room == 0 && rest > 0) || self.out.len() > WAITING {
            return false;
        }
        // Small frames now and then, not whenever a small window allows no more.
        if room < rest.min(100) && self.rng.random_ratio(3, 4) {
            return false;
        }
        let length = match self.rng.random_ratio(1, 3) {
            true => room,
            false => self.rng.random_range(room.min(1)..=room),
        };
        let end = length == rest && way.reset.is_none() && self.rng.random();
        if length == 0 && !end {
            return false;
        }
        self.flush();
        let header = self.connection.data(id, length, end).expect("room for it");
        self.out.extend(header);
        self.out.extend(way.content(sent, length));
        if let Some(tunnel) = self.open.get_mut(&id) {
            tunnel.sent += length;
            tunnel.sending = !end;
        }
        self.close_if_complete(id);
        true
    }

    /// Gives back some of what was received.
    fn give_back(&mut self, id: StreamId) -> bool {
        let role = self.role;
        let Some(tunnel) = self.open.get_mut(&id).filter(|t| t.held > 0) else {
            return false;
        };
        let slow = match role {
            Role::Client => tunnel.plan.down.slow,
            Role::Server => tunnel.plan.up.slow,
        };
        if slow && self.rng.random_ratio(19, 20) {
            return false;
        }
        let bytes = self.rng.random_range(1..=tunnel.held);
        tunnel.held -= bytes;
        self.connection.release(id, bytes);
        true
    }

    /// What is going on, for a failure.
    pub(crate) fn describe(&self) -> String {
        let open = self.open.iter().map(|(id, t)| {
            let capacity = self.connection.capacity(*id);
            format!(
                "\n  {id}: {:?} sent {} received {} held {} capacity {capacity} {:?}",
                self.role, t.sent, t.received, t.held, t.plan
            )
        });
        let open: String = open.collect();
        format!("{} planned, open: {open}", self.planned.len())
    }
}
