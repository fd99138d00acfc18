//! Arbitrary headers and payloads into every parser. What a parser accepts lies within the payload, and
//! is the same after it was encoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_http2::frame::{
    self, DataLayout, FrameHeader, GoAway, HEADER_LEN, Headers, MAX_STREAM_ID, MAX_WINDOW, Ping,
    Priority, RstStream, Settings, WindowUpdate,
};

/// The header and the payload of one encoded frame.
fn decoded(bytes: &[u8]) -> (FrameHeader, &[u8]) {
    let (header, payload) = bytes.split_first_chunk::<HEADER_LEN>().expect("a header");
    let header = FrameHeader::parse(header);
    assert_eq!(header.length as usize, payload.len());
    (header, payload)
}

fuzz_target!(|input: ([u8; HEADER_LEN], Vec<u8>)| {
    let (bytes, payload) = input;
    let parsed = FrameHeader::parse(&bytes);
    assert!(parsed.stream <= MAX_STREAM_ID);
    assert_eq!(FrameHeader::parse(&parsed.encode()), parsed);
    // The parsers get exactly the payload that the header announces.
    let header = FrameHeader {
        length: payload.len() as u32,
        ..parsed
    };
    let mut out = Vec::new();

    let first = payload.first().copied().unwrap_or_default();
    if let Ok(layout) = DataLayout::parse(&header, first) {
        assert_eq!(layout.skip + layout.data + layout.padding, header.length);
        assert_ne!(header.stream, 0);
    }
    if let Ok(headers) = Headers::parse(&header, &payload) {
        assert!(headers.fragment.len() <= payload.len());
        assert_ne!(header.stream, 0);
    }
    if Priority::parse(&header, &payload).is_ok() {
        assert_eq!(payload.len(), 5);
    }
    if let Ok(reset) = RstStream::parse(&header, &payload) {
        frame::rst_stream(&mut out, header.stream, reset.code);
        let (header, payload) = decoded(&out);
        assert_eq!(RstStream::parse(&header, payload), Ok(reset));
    }
    out.clear();
    if let Ok(Some(settings)) = Settings::parse(&header, &payload) {
        frame::settings(&mut out, &settings);
        let (header, payload) = decoded(&out);
        assert_eq!(Settings::parse(&header, payload), Ok(Some(settings)));
    }
    out.clear();
    if let Ok(ping) = Ping::parse(&header, &payload) {
        frame::ping(&mut out, ping.opaque, ping.ack);
        let (header, payload) = decoded(&out);
        assert_eq!(Ping::parse(&header, payload), Ok(ping));
    }
    out.clear();
    if let Ok(goaway) = GoAway::parse(&header, &payload)
        && goaway.debug.len() <= 16_376
    {
        frame::goaway(&mut out, goaway.last_stream, goaway.code, goaway.debug);
        let (header, payload) = decoded(&out);
        assert_eq!(GoAway::parse(&header, payload), Ok(goaway));
    }
    out.clear();
    if let Ok(update) = WindowUpdate::parse(&header, &payload) {
        assert!((1..=MAX_WINDOW).contains(&update.increment));
        frame::window_update(&mut out, header.stream, update.increment);
        let (header, payload) = decoded(&out);
        assert_eq!(WindowUpdate::parse(&header, payload), Ok(update));
    }
});
