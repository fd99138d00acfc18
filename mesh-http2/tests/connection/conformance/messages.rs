//! Section 8: requests and responses that are malformed, and those that are not.

use super::{CLIENT, Case, Expect, SERVER, State, Told, case, check_all};
use crate::wire::{END_STREAM, block, data, headers};
use mesh_http2::ErrorCode;

type Fields<'a> = &'a [(&'a str, &'a str)];

const METHOD: (&str, &str) = (":method", "CONNECT");
const AUTHORITY: (&str, &str) = (":authority", "10.0.0.1:80");
const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
const MALFORMED: ErrorCode = ErrorCode::PROTOCOL_ERROR;

fn request(section: &'static str, what: &'static str, fields: Fields<'_>, sound: bool) -> Case {
    let input = headers(0, 1, &block(fields));
    let expect = match sound {
        true => Expect::Told(vec![Told::Head(1, false)]),
        false => Expect::Refused(1, MALFORMED),
    };
    case(section, what, SERVER, State::Ready, input, expect)
}

fn response(section: &'static str, what: &'static str, fields: Fields<'_>, sound: bool) -> Case {
    let input = headers(0, 1, &block(fields));
    let expect = match sound {
        true => Expect::Told(vec![Told::Head(1, false)]),
        false => Expect::Stream(1, MALFORMED),
    };
    case(section, what, CLIENT, State::Asked, input, expect)
}

#[test]
fn section_8_1_messages() {
    use State::{Asked, Open};
    let malformed = || Expect::Stream(1, MALFORMED);
    let with = |flags, fields: Fields<'_>| headers(flags, 1, &block(fields));
    let early = with(0, &[(":status", "103")]);
    #[rustfmt::skip]
    check_all(&[
        case("8.1", "a response", CLIENT, Asked, with(0, &[(":status", "200")]), Expect::Told(vec![Told::Head(1, false)])),
        case("8.1", "a response that ends the stream", CLIENT, Asked, with(END_STREAM, &[(":status", "403")]), Expect::Told(vec![Told::Head(1, true)])),
        case("8.1", "an interim response", CLIENT, Asked, early.clone(), Expect::Nothing),
        case("8.1", "an interim response, then the final one", CLIENT, Asked, [early, with(0, &[(":status", "200")])].concat(),
            Expect::Told(vec![Told::Head(1, false)])),
        case("8.1", "an interim response that ends the stream", CLIENT, Asked, with(END_STREAM, &[(":status", "103")]), malformed()),
        case("8.1", "DATA before the response", CLIENT, Asked, data(0, 1, b"x"), malformed()),
        case("8.1", "a second response", CLIENT, Open, with(0, &[(":status", "200")]), malformed()),
        case("8.5", "trailers on a tunnel", SERVER, Open, with(END_STREAM, &[("a", "b")]), malformed()),
        case("8.5", "trailers on a tunnel", CLIENT, Open, with(END_STREAM, &[("a", "b")]), malformed()),
        case("8.5", "HEADERS in the middle of a tunnel", SERVER, Open, with(0, &[METHOD, AUTHORITY]), malformed()),
        case("8.6", "101", CLIENT, Asked, with(0, &[(":status", "101")]), malformed()),
    ]);
}

#[test]
fn section_8_2_fields() {
    let with = |field| [METHOD, AUTHORITY, field];
    #[rustfmt::skip]
    check_all(&[
        request("8.2.1", "a name with a capital letter", &with(("Baggage", "a")), false),
        request("8.2.1", "an empty name", &with(("", "a")), false),
        request("8.2.1", "a name with a space", &with(("a b", "a")), false),
        request("8.2.1", "a name with a control character", &with(("a\x01", "a")), false),
        request("8.2.1", "a name with DEL", &with(("a\x7f", "a")), false),
        request("8.2.1", "a name beyond ASCII", &with(("\u{e9}", "a")), false),
        request("8.2.1", "a name with a colon inside", &with(("a:b", "a")), false),
        request("8.2.1", "a value with NUL", &with(("a", "b\0c")), false),
        request("8.2.1", "a value with CR", &with(("a", "b\rc")), false),
        request("8.2.1", "a value with LF", &with(("a", "b\nc")), false),
        request("8.2.1", "a value that begins with a space", &with(("a", " b")), false),
        request("8.2.1", "a value that ends with a tab", &with(("a", "b\t")), false),
        request("8.2.1", "an empty value", &with(("a", "")), true),
        request("8.2.1", "a value with a space inside", &with(("a", "b c")), true),
        request("8.2.1", "a value beyond ASCII", &with(("a", "\u{e9}")), true),
        request("8.2.2", "connection", &with(("connection", "close")), false),
        request("8.2.2", "keep-alive", &with(("keep-alive", "5")), false),
        request("8.2.2", "proxy-connection", &with(("proxy-connection", "close")), false),
        request("8.2.2", "transfer-encoding", &with(("transfer-encoding", "chunked")), false),
        request("8.2.2", "upgrade", &with(("upgrade", "h2c")), false),
        request("8.2.2", "te: trailers", &with(("te", "trailers")), true),
        request("8.2.2", "te: gzip", &with(("te", "gzip")), false),
        response("8.2.1", "a response with a capital letter", &[(":status", "200"), ("Via", "a")], false),
        response("8.2.2", "a response with connection", &[(":status", "200"), ("connection", "close")], false),
    ]);
}

#[test]
fn section_8_3_pseudo_header_fields() {
    #[rustfmt::skip]
    check_all(&[
        request("8.3", "a pseudo-header field after a field", &[METHOD, ("a", "b"), AUTHORITY], false),
        request("8.3", "an unknown pseudo-header field", &[METHOD, AUTHORITY, (":a", "b")], false),
        request("8.3", "a response's pseudo-header field", &[METHOD, AUTHORITY, (":status", "200")], false),
        request("8.3", "a pseudo-header field twice", &[METHOD, AUTHORITY, AUTHORITY], false),
        request("8.3.1", "GET", &GET, true),
        request("8.3.1", "no :method", &GET[1..], false),
        request("8.3.1", "no :scheme", &[GET[0], GET[2]], false),
        request("8.3.1", "no :path", &GET[..2], false),
        request("8.3.1", "an empty :path", &[GET[0], GET[1], (":path", "")], false),
        request("8.3.1", "an empty block", &[], false),
        response("8.3.2", "no :status", &[("a", "b")], false),
        response("8.3.2", "an empty block", &[], false),
        response("8.3.2", ":status twice", &[(":status", "200"), (":status", "200")], false),
        response("8.3.2", ":status that is no number", &[(":status", "ok!")], false),
        response("8.3.2", ":status of two digits", &[(":status", "20")], false),
        response("8.3.2", ":status below 100", &[(":status", "042")], false),
        response("8.3", "a request's pseudo-header field", &[(":status", "200"), (":path", "/")], false),
    ]);
}

#[test]
fn section_8_5_connect() {
    #[rustfmt::skip]
    check_all(&[
        request("8.5", "CONNECT", &[METHOD, AUTHORITY], true),
        request("8.5", "CONNECT in another order", &[AUTHORITY, METHOD], true),
        request("8.5", "CONNECT without :authority", &[METHOD], false),
        request("8.5", "CONNECT with an empty :authority", &[METHOD, (":authority", "")], false),
        request("8.5", "CONNECT with :scheme", &[METHOD, AUTHORITY, (":scheme", "https")], false),
        request("8.5", "CONNECT with :path", &[METHOD, AUTHORITY, (":path", "/")], false),
        request("8.5", "extended CONNECT, which was not offered", &[METHOD, AUTHORITY, (":protocol", "websocket")], false),
    ]);
}
