//! A peer that sends arbitrary bytes, and frames that are nearly sound, to either end, while the owner does
//! what it likes. What must hold is in `watch.rs`.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mesh_fuzz::peer::Frame;
use mesh_fuzz::watch::Watched;
use mesh_http2::Config;

#[derive(Arbitrary, Debug)]
enum Op {
    Frame(Frame),
    /// A frame with one byte changed.
    Changed(Frame, u8, u8),
    /// Many times the same.
    Flood(Frame, u16),
    Raw(Vec<u8>),
    Request(u16),
    Respond(u8, bool),
    Data(u8, u16, bool),
    Reset(u8),
    Release(u8, u32),
    Otherwise(u8),
}

#[derive(Arbitrary, Debug)]
struct Input {
    is_client: bool,
    /// Whether the peer begins as it should.
    greets: bool,
    piece: u16,
    stream_window: u32,
    connection_window: u32,
    max_frame_size: u32,
    max_streams: u8,
    max_header_list: u16,
    ops: Vec<Op>,
}

fuzz_target!(|input: Input| {
    let config = Config {
        stream_window: input.stream_window,
        connection_window: input.connection_window & 0x7fff_ffff,
        max_frame_size: input.max_frame_size,
        max_streams: u32::from(input.max_streams),
        max_header_list: u32::from(input.max_header_list),
    };
    let mut watched = Watched::new(input.is_client, config);
    let piece = usize::from(input.piece);
    if input.greets {
        if !input.is_client {
            watched.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", piece);
        }
        watched.feed(&[0, 0, 0, 4, 0, 0, 0, 0, 0], piece);
    }
    let mut bytes = Vec::new();
    for op in &input.ops {
        bytes.clear();
        match op {
            Op::Frame(frame) => frame.encode(&mut bytes),
            Op::Changed(frame, at, to) => {
                frame.encode(&mut bytes);
                if let Some(byte) = bytes.get_mut(usize::from(*at)) {
                    *byte = *to;
                }
            }
            Op::Flood(frame, times) => {
                frame.encode(&mut bytes);
                let times = usize::from(*times).min((1 << 18) / bytes.len());
                bytes = bytes.repeat(times);
            }
            Op::Raw(raw) => bytes.extend(raw),
            Op::Request(large) => watched.request(*large),
            Op::Respond(nth, end) => watched.respond(*nth, *end),
            Op::Data(nth, length, end) => watched.data(*nth, *length, *end),
            Op::Reset(nth) => watched.reset(*nth),
            Op::Release(nth, bytes) => watched.release(*nth, *bytes),
            Op::Otherwise(what) => watched.otherwise(*what),
        }
        watched.check();
        watched.feed(&bytes, piece);
    }
    watched.drain();
});
