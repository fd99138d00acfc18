//! The buffer against a session that opens what comes out of it.

use super::*;
use crate::tls::Opened;
use crate::tls::testing::{Buffers, Noise, authenticated_pair, on_worker};

/// A buffer, what it should say, and who hears it.
struct Tunnel {
    out: Outgoing,
    session: Session,
    peer: Session,
    /// Frames that were taken.
    said: Vec<u8>,
    /// Records that were written.
    wire: Vec<u8>,
}

impl Tunnel {
    fn new() -> Self {
        let (client, server) = on_worker(authenticated_pair(Buffers::Usual));
        Self {
            out: Outgoing::default(),
            session: client.session,
            peer: server.session,
            said: Vec::new(),
            wire: Vec::new(),
        }
    }

    fn push(&mut self, frames: &[u8]) -> bool {
        let pushed = self.out.push(frames, &mut self.session).unwrap();
        if pushed {
            self.said.extend_from_slice(frames);
        }
        pushed
    }

    /// Reads as a stream does, filling `fill` bytes of what it is offered. Returns what was offered.
    fn read(&mut self, limit: usize, records: usize, fill: usize, noise: &mut Noise) -> usize {
        let mut places = self.out.places(limit, records, &mut self.session).unwrap();
        let offered = places.bytes;
        assert!(offered <= limit && places.slots().len() <= records);
        let lengths = places.slots().iter().map(|slot| slot.len());
        assert_eq!(lengths.sum::<usize>(), offered);
        let read = fill.min(offered);
        let content: Vec<u8> = (0..read).map(|_| noise.byte()).collect();
        let mut rest = &content[..];
        for slot in places.slots() {
            let (now, later) = rest.split_at(rest.len().min(slot.len()));
            slot[..now.len()].copy_from_slice(now);
            rest = later;
        }
        let (mut rest, mut frames) = (&content[..], Vec::new());
        let header = |length: usize| {
            let header = header(length);
            let (now, later) = rest.split_at(length);
            frames.extend_from_slice(&header);
            frames.extend_from_slice(now);
            rest = later;
            Some(header)
        };
        self.out.commit(read, &mut self.session, header).unwrap();
        assert!(rest.is_empty());
        self.said.extend_from_slice(&frames);
        if read == 0 {
            self.out.settle();
        }
        offered
    }

    fn close(&mut self) {
        self.out.close(&mut self.session).unwrap();
    }

    fn update_key(&mut self) {
        self.close();
        if self.out.has_room() {
            let record = self.session.update_key().unwrap();
            assert!(self.out.push_sealed(&record));
        }
    }

    fn write(&mut self, most: usize) {
        let unsent = self.out.unsent();
        let written = most.min(unsent.len());
        self.wire.extend_from_slice(&unsent[..written]);
        self.out.wrote(written);
    }

    /// Writes everything, and returns the sizes of the records when all of it was understood.
    fn understood(mut self) -> Vec<usize> {
        self.close();
        self.write(usize::MAX);
        assert!(self.out.is_empty() && self.out.buffer.is_empty());
        let (mut at, mut sizes, mut heard) = (0, Vec::new(), Vec::new());
        while at < self.wire.len() {
            match self.peer.open(&mut self.wire[at..]).unwrap() {
                Opened::Data { content, length } => {
                    assert!(!content.is_empty() && content.len() <= CONTENT);
                    sizes.push(content.len());
                    heard.extend_from_slice(&self.wire[at..][content]);
                    at += length;
                }
                Opened::Internal { length } => at += length,
                other => panic!("{other:?}"),
            }
        }
        assert!(heard == self.said, "the frames came out changed");
        sizes
    }
}

fn header(length: usize) -> [u8; FRAME] {
    let [a, b, c, d] = u32::try_from(length).unwrap().to_be_bytes();
    [0xda, a, b, c, d, 0, 0, 0, 0]
}

#[test]
fn whatever_is_done_the_frames_come_out_whole_and_in_order() {
    for seed in 0..40 {
        let mut noise = Noise::new(seed);
        let mut tunnel = Tunnel::new();
        // Some peers read slowly, some frames are small.
        let (slow, small) = (noise.once_in(2), noise.once_in(2));
        for _ in 0..300 {
            match noise.below(10) {
                0 | 1 => {
                    let largest = if small { 60 } else { 40_000 };
                    let frames: Vec<u8> = (0..noise.below(largest)).map(|i| i as u8).collect();
                    let idle = tunnel.out.is_empty();
                    assert!(tunnel.push(&frames) || !idle, "no room in an empty buffer");
                }
                2..=5 => {
                    let limit = 1 + noise.below(if small { 3000 } else { LARGEST_READ });
                    let records = 1 + noise.below(MOST_RECORDS.into());
                    let fill = match noise.below(3) {
                        0 => usize::MAX,
                        1 => noise.below(100),
                        _ => noise.below(LARGEST_READ),
                    };
                    if tunnel.out.has_room() {
                        let offered = tunnel.read(limit, records, fill, &mut noise);
                        assert!(offered > 0, "a read into nothing would look like the end");
                    }
                }
                6 => tunnel.close(),
                7 => tunnel.update_key(),
                8 if slow => tunnel.write(noise.below(5000)),
                8 => tunnel.write(noise.below(2 * RECORD * RECORDS)),
                _ => {
                    tunnel.close();
                    tunnel.write(if slow { 20_000 } else { usize::MAX });
                }
            }
        }
        tunnel.understood();
    }
}

#[test]
fn small_frames_of_many_streams_share_a_record() {
    let (mut tunnel, mut noise) = (Tunnel::new(), Noise::new(1));
    for _ in 0..50 {
        tunnel.push(&[7; 13]);
        tunnel.read(64, 1, 64, &mut noise);
    }
    assert_eq!(tunnel.understood(), [50 * (13 + FRAME + 64)]);
}

#[test]
fn a_large_read_fills_its_records() {
    let (mut tunnel, mut noise) = (Tunnel::new(), Noise::new(2));
    let offered = tunnel.read(LARGEST_READ, MOST_RECORDS.into(), usize::MAX, &mut noise);
    assert_eq!(offered, LARGEST_READ);
    assert!(!tunnel.out.has_room());
    assert_eq!(tunnel.understood(), [CONTENT; RECORDS]);
}

#[test]
fn the_most_that_may_wait_as_control_frames_fits_into_an_empty_buffer() {
    let most = vec![1; 256 << 10];
    let mut tunnel = Tunnel::new();
    assert!(tunnel.push(&most));
    assert!(!tunnel.push(&[1]) && !tunnel.out.has_room());
    assert_eq!(tunnel.understood(), [CONTENT; RECORDS]);
    // And not behind anything else, of which nothing is lost.
    let mut tunnel = Tunnel::new();
    assert!(tunnel.push(&[2]));
    assert!(!tunnel.push(&most));
    tunnel.close();
    assert!(!tunnel.push(&most));
    assert_eq!(tunnel.understood(), [1]);
}

#[test]
fn small_records_that_wait_leave_less_room_and_never_too_little() {
    let (mut tunnel, mut noise) = (Tunnel::new(), Noise::new(3));
    let mut records = 0;
    while tunnel.out.has_room() {
        assert!(tunnel.read(1, 1, 1, &mut noise) > 0);
        tunnel.close();
        records += 1;
    }
    let smallest = HEADER + FRAME + 1 + TRAILER;
    assert_eq!(records, RECORD * (RECORDS - 1) / smallest + 1);
    // What was sent already is room only when all of it was.
    tunnel.write(tunnel.out.unsent().len() - 1);
    assert!(!tunnel.out.has_room());
    tunnel.write(1);
    assert!(tunnel.out.has_room());
    assert_eq!(tunnel.understood(), vec![FRAME + 1; records]);
}

#[test]
fn buffers_go_back_to_a_small_stock() {
    let stock = || BUFFERS.with_borrow(Vec::len);
    BUFFERS.take();
    let mut tunnel = Tunnel::new();
    tunnel.push(&[1; 100]);
    assert_eq!(stock(), 0);
    tunnel.understood();
    assert_eq!(stock(), 1);

    // A buffer that was looked at and not used, and one that was dropped in use.
    let (mut tunnel, mut noise) = (Tunnel::new(), Noise::new(4));
    tunnel.read(100, 1, 0, &mut noise);
    assert_eq!(stock(), 1);
    tunnel.push(&[1; 100]);
    assert_eq!(stock(), 0);
    drop(tunnel);
    assert_eq!(stock(), 1);

    let mut tunnels: Vec<_> = (0..STOCK + 3).map(|_| Tunnel::new()).collect();
    for tunnel in &mut tunnels {
        tunnel.push(&[1; 100]);
    }
    drop(tunnels);
    assert_eq!(stock(), STOCK);
}
