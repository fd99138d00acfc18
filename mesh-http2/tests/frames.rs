//! Frames: every error that RFC 9113 names for one frame by itself, and round trips.

use mesh_http2::frame::{
    self, ConnectionError, DataLayout, ErrorCode, FrameError, FrameHeader, GoAway, HEADER_LEN,
    Headers, MAX_WINDOW, Ping, Priority, RstStream, Settings, StreamError, WindowUpdate, flag,
    kind,
};

/// How far an error reaches, and its code.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Connection(ErrorCode),
    Stream(u32, ErrorCode),
}

impl From<ConnectionError> for Fault {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error.code)
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Connection(error) => error.into(),
            FrameError::Stream(StreamError { stream, code, .. }) => Self::Stream(stream, code),
        }
    }
}

const PROTOCOL: Fault = Fault::Connection(ErrorCode::PROTOCOL_ERROR);
const SIZE: Fault = Fault::Connection(ErrorCode::FRAME_SIZE_ERROR);

/// The header of a frame with this payload; the kind matters to no parser.
fn header(flags: u8, stream: u32, payload: &[u8]) -> FrameHeader {
    FrameHeader {
        length: payload.len() as u32,
        kind: 0,
        flags,
        stream,
    }
}

/// All frames in a buffer.
fn frames(mut bytes: &[u8]) -> Vec<(FrameHeader, &[u8])> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEADER_LEN>() {
        let header = FrameHeader::parse(head);
        let (payload, rest) = rest.split_at(header.length as usize);
        frames.push((header, payload));
        bytes = rest;
    }
    assert_eq!(bytes, b"");
    frames
}

fn one(bytes: &[u8]) -> (FrameHeader, &[u8]) {
    let [frame] = frames(bytes)[..] else {
        panic!("not one frame: {bytes:x?}")
    };
    frame
}

#[test]
fn a_header_survives_and_the_reserved_bit_is_ignored() {
    let bytes = [0x12, 0x34, 0x56, 0x07, 0x2d, 0x81, 0x02, 0x03, 0x04];
    let header = FrameHeader::parse(&bytes);
    assert_eq!(
        header,
        FrameHeader {
            length: 0x12_3456,
            kind: 7,
            flags: 0x2d,
            stream: 0x0102_0304,
        }
    );
    assert_eq!(FrameHeader::parse(&header.encode()), header);
    assert_eq!(header.encode()[5], 0x01);
    assert!(header.has(flag::END_HEADERS) && !header.has(0x10));
}

#[test]
fn a_frame_above_the_announced_size_ends_the_connection() {
    let header = header(0, 1, &[0; 16_385]);
    assert_eq!(header.check_size(16_385), Ok(()));
    assert_eq!(header.check_size(16_384).map_err(Fault::from), Err(SIZE));
}

#[test]
fn data() {
    let layout = |flags, stream, payload: &[u8]| {
        let first = payload.first().copied().unwrap_or_default();
        DataLayout::parse(&header(flags, stream, payload), first)
            .map(|layout| (layout.skip, layout.data, layout.padding))
            .map_err(Fault::from)
    };
    assert_eq!(layout(0, 1, &[9, 9, 9]), Ok((0, 3, 0)));
    assert_eq!(layout(0, 1, &[]), Ok((0, 0, 0)));
    assert_eq!(layout(flag::PADDED, 1, &[2, 9, 0, 0]), Ok((1, 1, 2)));
    assert_eq!(layout(flag::PADDED, 1, &[3, 0, 0, 0]), Ok((1, 0, 3)));
    assert_eq!(layout(flag::PADDED, 1, &[4, 0, 0, 0]), Err(PROTOCOL));
    assert_eq!(layout(flag::PADDED, 1, &[1]), Err(PROTOCOL));
    assert_eq!(
        layout(flag::PADDED, 7, &[]),
        Err(Fault::Stream(7, ErrorCode::FRAME_SIZE_ERROR))
    );
    assert_eq!(layout(0, 0, &[9]), Err(PROTOCOL));
}

#[test]
fn headers() {
    const BOTH: u8 = flag::PADDED | flag::PRIORITY;
    let fragment = |flags, stream, payload: &'static [u8]| {
        Headers::parse(&header(flags, stream, payload), payload)
            .map(|headers| headers.fragment)
            .map_err(Fault::from)
    };
    assert_eq!(fragment(0, 1, b"block"), Ok(&b"block"[..]));
    assert_eq!(fragment(0, 1, b""), Ok(&b""[..]));
    assert_eq!(
        fragment(flag::PADDED, 1, b"\x02block\0\0"),
        Ok(&b"block"[..])
    );
    assert_eq!(
        fragment(flag::PRIORITY, 1, b"\0\0\0\0\0block"),
        Ok(&b"block"[..])
    );
    assert_eq!(
        fragment(BOTH, 1, b"\x01\0\0\0\0\0block\0"),
        Ok(&b"block"[..])
    );
    assert_eq!(fragment(BOTH, 1, b"\x00\0\0\0\0\0"), Ok(&b""[..]));
    assert_eq!(fragment(flag::PADDED, 1, b"\x06block"), Err(PROTOCOL));
    assert_eq!(fragment(BOTH, 1, b"\x01\0\0\0\0\0"), Err(PROTOCOL));
    assert_eq!(fragment(flag::PADDED, 1, b""), Err(SIZE));
    assert_eq!(fragment(flag::PRIORITY, 1, b"\0\0\0\0"), Err(SIZE));
    assert_eq!(fragment(BOTH, 1, b"\x00\0\0\0\0"), Err(SIZE));
    assert_eq!(fragment(0, 0, b"block"), Err(PROTOCOL));
}

#[test]
fn priority() {
    let parse = |stream, payload: &[u8]| {
        Priority::parse(&header(0, stream, payload), payload).map_err(Fault::from)
    };
    assert_eq!(parse(3, &[0; 5]), Ok(Priority));
    assert_eq!(parse(0, &[0; 5]), Err(PROTOCOL));
    for length in [0, 4, 6] {
        let fault = Fault::Stream(3, ErrorCode::FRAME_SIZE_ERROR);
        assert_eq!(parse(3, &[0; 6][..length]), Err(fault));
    }
}

#[test]
fn rst_stream() {
    let parse = |stream, payload: &[u8]| {
        RstStream::parse(&header(0, stream, payload), payload)
            .map(|reset| reset.code)
            .map_err(Fault::from)
    };
    assert_eq!(parse(3, &[0, 0, 0, 8]), Ok(ErrorCode::CANCEL));
    assert_eq!(parse(0, &[0, 0, 0, 8]), Err(PROTOCOL));
    for length in [0, 3, 5] {
        assert_eq!(parse(3, &[0; 5][..length]), Err(SIZE));
    }
    let mut out = Vec::new();
    frame::rst_stream(&mut out, 5, 0xdead_beef.into());
    let (header, payload) = one(&out);
    assert_eq!((header.kind, header.stream), (kind::RST_STREAM, 5));
    assert_eq!(parse(5, payload), Ok(0xdead_beef.into()));
}

#[test]
fn settings() {
    let parse = |flags, stream, payload: &[u8]| {
        Settings::parse(&header(flags, stream, payload), payload).map_err(Fault::from)
    };
    assert_eq!(parse(0, 0, &[]), Ok(Some(Settings::default())));
    assert_eq!(parse(flag::ACK, 0, &[]), Ok(None));
    assert_eq!(parse(0, 1, &[]), Err(PROTOCOL));
    assert_eq!(parse(flag::ACK, 0, &[0, 4, 0, 0, 0, 0]), Err(SIZE));
    for length in [1, 5, 7, 11] {
        assert_eq!(parse(0, 0, &[0; 11][..length]), Err(SIZE));
    }
}

#[test]
fn settings_keep_their_ranges() {
    let parse = |id: u16, value: u32| {
        let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Settings::parse(&header(0, 0, &payload), &payload)
            .map(Option::unwrap)
            .map_err(Fault::from)
    };
    assert_eq!(
        parse(1, u32::MAX).unwrap().header_table_size,
        Some(u32::MAX)
    );
    assert_eq!(parse(2, 0).unwrap().enable_push, Some(false));
    assert_eq!(parse(2, 1).unwrap().enable_push, Some(true));
    assert_eq!(parse(2, 2), Err(PROTOCOL));
    assert_eq!(parse(3, 0).unwrap().max_concurrent_streams, Some(0));
    assert_eq!(
        parse(4, MAX_WINDOW).unwrap().initial_window_size,
        Some(MAX_WINDOW)
    );
    assert_eq!(
        parse(4, MAX_WINDOW + 1),
        Err(Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR))
    );
    assert_eq!(parse(5, 16_383), Err(PROTOCOL));
    assert_eq!(parse(5, 16_384).unwrap().max_frame_size, Some(16_384));
    assert_eq!(parse(5, 0xff_ffff).unwrap().max_frame_size, Some(0xff_ffff));
    assert_eq!(parse(5, 0x100_0000), Err(PROTOCOL));
    assert_eq!(parse(6, 1).unwrap().max_header_list_size, Some(1));
    for unknown in [0, 7, 8, 0xffff] {
        assert_eq!(parse(unknown, 9), Ok(Settings::default()));
    }
}

#[test]
fn settings_come_back_and_the_last_of_two_counts() {
    let all = Settings {
        header_table_size: Some(1),
        enable_push: Some(false),
        max_concurrent_streams: Some(2),
        initial_window_size: Some(3),
        max_frame_size: Some(20_000),
        max_header_list_size: Some(4),
    };
    for sent in [all, Settings::default()] {
        let mut out = Vec::new();
        frame::settings(&mut out, &sent);
        let (header, payload) = one(&out);
        assert_eq!((header.kind, header.flags), (kind::SETTINGS, 0));
        assert_eq!(Settings::parse(&header, payload), Ok(Some(sent)));
    }
    let twice = [0, 4, 0, 0, 0, 1, 0, 4, 0, 0, 0, 2];
    let parsed = Settings::parse(&header(0, 0, &twice), &twice)
        .unwrap()
        .unwrap();
    assert_eq!(parsed.initial_window_size, Some(2));
    let mut out = Vec::new();
    frame::settings_ack(&mut out);
    let (header, payload) = one(&out);
    assert_eq!(header.kind, kind::SETTINGS);
    assert_eq!(Settings::parse(&header, payload), Ok(None));
}

#[test]
fn ping() {
    let parse = |stream, payload: &[u8]| {
        Ping::parse(&header(0, stream, payload), payload).map_err(Fault::from)
    };
    assert_eq!(parse(1, &[0; 8]), Err(PROTOCOL));
    for length in [0, 7, 9] {
        assert_eq!(parse(0, &[0; 9][..length]), Err(SIZE));
    }
    for ack in [false, true] {
        let opaque = *b"01234567";
        let mut out = Vec::new();
        frame::ping(&mut out, opaque, ack);
        let (header, payload) = one(&out);
        assert_eq!(header.kind, kind::PING);
        assert_eq!(Ping::parse(&header, payload), Ok(Ping { ack, opaque }));
    }
}

#[test]
fn goaway() {
    let parse = |stream, payload: &'static [u8]| {
        GoAway::parse(&header(0, stream, payload), payload).map_err(Fault::from)
    };
    // The reserved bit is ignored.
    let last = parse(0, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).unwrap();
    assert_eq!(last.last_stream, frame::MAX_STREAM_ID);
    assert_eq!(parse(1, &[0; 8]), Err(PROTOCOL));
    for length in [0, 3, 7] {
        assert_eq!(parse(0, &[0; 8][..length]), Err(SIZE));
    }
    let mut out = Vec::new();
    frame::goaway(
        &mut out,
        7,
        ErrorCode::ENHANCE_YOUR_CALM,
        b"too many resets",
    );
    let (header, payload) = one(&out);
    assert_eq!(header.kind, kind::GOAWAY);
    assert_eq!(
        GoAway::parse(&header, payload),
        Ok(GoAway {
            last_stream: 7,
            code: ErrorCode::ENHANCE_YOUR_CALM,
            debug: b"too many resets",
        })
    );
    out.clear();
    frame::goaway(&mut out, 7, ErrorCode::NO_ERROR, &[b'x'; 20_000]);
    assert_eq!(one(&out).0.length, frame::DEFAULT_MAX_FRAME_SIZE);
}

#[test]
fn window_update() {
    let parse = |stream, payload: &[u8]| {
        WindowUpdate::parse(&header(0, stream, payload), payload)
            .map(|update| update.increment)
            .map_err(Fault::from)
    };
    assert_eq!(parse(0, &[0x80, 0, 0, 1]), Ok(1));
    for zero in [[0, 0, 0, 0], [0x80, 0, 0, 0]] {
        assert_eq!(parse(0, &zero), Err(PROTOCOL));
        assert_eq!(
            parse(3, &zero),
            Err(Fault::Stream(3, ErrorCode::PROTOCOL_ERROR))
        );
    }
    for length in [0, 3, 5] {
        assert_eq!(parse(3, &[1; 5][..length]), Err(SIZE));
    }
    for stream in [0, 9] {
        let mut out = Vec::new();
        frame::window_update(&mut out, stream, MAX_WINDOW);
        let (header, payload) = one(&out);
        assert_eq!((header.kind, header.stream), (kind::WINDOW_UPDATE, stream));
        assert_eq!(parse(stream, payload), Ok(MAX_WINDOW));
    }
}

#[test]
fn a_block_above_the_frame_size_goes_on_in_continuations() {
    const MAX: usize = 16_384;
    let block: Vec<u8> = (0..2 * MAX + 1).map(|i| i as u8).collect();
    for (length, sizes) in [
        (0, &[0][..]),
        (1, &[1]),
        (MAX, &[MAX]),
        (MAX + 1, &[MAX, 1]),
        (2 * MAX, &[MAX, MAX]),
        (2 * MAX + 1, &[MAX, MAX, 1]),
    ] {
        for end_stream in [false, true] {
            let mut out = Vec::new();
            frame::headers(&mut out, 3, &block[..length], end_stream, MAX as u32);
            let frames = frames(&out);
            let lengths: Vec<usize> = frames.iter().map(|(_, payload)| payload.len()).collect();
            assert_eq!(lengths, sizes);
            let whole: Vec<u8> = frames
                .iter()
                .flat_map(|(_, payload)| *payload)
                .copied()
                .collect();
            assert_eq!(whole, block[..length]);
            for (index, (header, _)) in frames.iter().enumerate() {
                let first = index == 0;
                let expected = if first {
                    kind::HEADERS
                } else {
                    kind::CONTINUATION
                };
                assert_eq!((header.kind, header.stream), (expected, 3));
                assert_eq!(header.has(flag::END_HEADERS), index + 1 == frames.len());
                assert_eq!(header.has(flag::END_STREAM), first && end_stream);
            }
        }
    }
}

#[test]
fn a_data_header_announces_what_follows() {
    for end_stream in [false, true] {
        let mut out = Vec::new();
        frame::data_header(&mut out, 5, 3, end_stream);
        out.extend(b"abc");
        let (header, payload) = one(&out);
        assert_eq!(
            (header.kind, header.stream, payload),
            (kind::DATA, 5, &b"abc"[..])
        );
        assert_eq!(header.flags, if end_stream { flag::END_STREAM } else { 0 });
    }
}

#[test]
fn codes_have_the_names_of_the_rfc() {
    assert_eq!(ErrorCode::from(0x7).to_string(), "REFUSED_STREAM");
    assert_eq!(ErrorCode::from(0xd), ErrorCode::HTTP_1_1_REQUIRED);
    assert_eq!(ErrorCode::from(0xe).name(), None);
    assert_eq!(ErrorCode::from(0xabc).to_string(), "error code 0xabc");
    assert_eq!(u32::from(ErrorCode::from(u32::MAX)), u32::MAX);
}
