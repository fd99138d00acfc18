//! Encoders: each appends whole frames to a buffer.

use super::{
    DEFAULT_MAX_FRAME_SIZE, ErrorCode, FrameHeader, MAX_MAX_FRAME_SIZE, MAX_STREAM_ID, MAX_WINDOW,
    Settings, flag, kind,
};

/// Appends a SETTINGS frame (RFC 9113 section 6.5).
pub fn settings(out: &mut Vec<u8>, settings: &Settings) {
    // At most one of each setting: 36 bytes.
    let length = 6 * settings.entries().count() as u32;
    header(out, length, kind::SETTINGS, 0, 0);
    for (id, value) in settings.entries() {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends the acknowledgement of a SETTINGS frame (RFC 9113 section 6.5.3).
pub fn settings_ack(out: &mut Vec<u8>) {
    header(out, 0, kind::SETTINGS, flag::ACK, 0);
}

/// Appends a PING frame, or with `ack` the reply to one (RFC 9113 section 6.7).
pub fn ping(out: &mut Vec<u8>, opaque: [u8; 8], ack: bool) {
    header(out, 8, kind::PING, if ack { flag::ACK } else { 0 }, 0);
    out.extend_from_slice(&opaque);
}

/// Appends a GOAWAY frame (RFC 9113 section 6.8). `debug` is cut to what every peer accepts.
pub fn goaway(out: &mut Vec<u8>, last_stream: u32, code: ErrorCode, debug: &[u8]) {
    let debug = &debug[..debug.len().min(DEFAULT_MAX_FRAME_SIZE as usize - 8)];
    header(out, 8 + debug.len() as u32, kind::GOAWAY, 0, 0);
    out.extend_from_slice(&(last_stream & MAX_STREAM_ID).to_be_bytes());
    out.extend_from_slice(&u32::from(code).to_be_bytes());
    out.extend_from_slice(debug);
}

/// Appends an RST_STREAM frame (RFC 9113 section 6.4).
pub fn rst_stream(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    header(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&u32::from(code).to_be_bytes());
}

/// Appends a WINDOW_UPDATE frame (RFC 9113 section 6.9) for a stream, or for the connection as stream 0.
/// `increment` is 1 to [`MAX_WINDOW`] bytes.
pub fn window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    debug_assert!((1..=MAX_WINDOW).contains(&increment));
    header(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&(increment & MAX_WINDOW).to_be_bytes());
}

/// Appends a HEADERS frame with the field block, and CONTINUATION frames with what exceeds
/// `max_frame_size`, the peer's SETTINGS_MAX_FRAME_SIZE (RFC 9113 sections 6.2 and 6.10).
pub fn headers(
    out: &mut Vec<u8>,
    stream: u32,
    block: &[u8],
    end_stream: bool,
    max_frame_size: u32,
) {
    let max = max_frame_size.clamp(DEFAULT_MAX_FRAME_SIZE, MAX_MAX_FRAME_SIZE) as usize;
    let mut rest = block;
    let mut kind = kind::HEADERS;
    let mut flags = if end_stream { flag::END_STREAM } else { 0 };
    loop {
        let (fragment, after) = rest.split_at(rest.len().min(max));
        if after.is_empty() {
            flags |= flag::END_HEADERS;
        }
        header(out, fragment.len() as u32, kind, flags, stream);
        out.extend_from_slice(fragment);
        if after.is_empty() {
            return;
        }
        (rest, kind, flags) = (after, kind::CONTINUATION, 0);
    }
}

/// Appends the header of a DATA frame (RFC 9113 section 6.1); `length` bytes of data must follow.
pub fn data_header(out: &mut Vec<u8>, stream: u32, length: u32, end_stream: bool) {
    let flags = if end_stream { flag::END_STREAM } else { 0 };
    header(out, length, kind::DATA, flags, stream);
}

fn header(out: &mut Vec<u8>, length: u32, kind: u8, flags: u8, stream: u32) {
    let header = FrameHeader {
        length,
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&header.encode());
}
