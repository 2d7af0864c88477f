//! Bodies, good and bad, whole and in pieces.

use super::*;
use crate::base::ascii::push_decimal;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// Feeds pieces of the given sizes, the last one over and over; returns payload and consumed size.
fn decode(
    framing: Framing,
    wire: &[u8],
    pieces: &[usize],
) -> Result<(Vec<u8>, usize, Body), Malformed> {
    let mut body = Body::new(framing);
    let mut payload = Vec::new();
    let mut at = 0;
    let mut pieces =
        pieces.iter().copied().chain(core::iter::repeat(pieces.last().copied().unwrap_or(1)));
    while at < wire.len() && !body.is_done() {
        let end = wire.len().min(at + pieces.next().unwrap_or(1).max(1));
        while at < end && !body.is_done() {
            let scan = body.scan(&wire[at..end])?;
            assert!(scan.consumed > 0, "no progress at {at}");
            assert!(scan.data.end <= scan.consumed);
            payload.extend_from_slice(&wire[at..end][scan.data]);
            at += scan.consumed;
        }
    }
    assert_eq!(body.received(), payload.len() as u64);
    Ok((payload, at, body))
}

fn chunked(wire: &[u8]) -> Result<(Vec<u8>, usize, Body), Malformed> {
    let whole = decode(Framing::Chunked, wire, &[wire.len()]);
    let single = decode(Framing::Chunked, wire, &[1]);
    assert_eq!(whole, single, "{:?}", wire.escape_ascii());
    whole
}

#[test]
fn lengths() {
    let (payload, consumed, body) = decode(Framing::Length(3), b"abcdef", &[2]).unwrap();
    assert_eq!((payload.as_slice(), consumed, body.is_done()), (&b"abc"[..], 3, true));
    assert!(Body::new(Framing::Length(0)).is_done());
    let (_, _, mut body) = decode(Framing::Length(3), b"ab", &[2]).unwrap();
    assert!(!body.is_done());
    assert_eq!(body.end(), Err(Malformed::BadRequest));
    let (_, _, mut body) = decode(Framing::Length(u64::MAX), b"ab", &[2]).unwrap();
    assert_eq!(body.end(), Err(Malformed::BadRequest));
}

#[test]
fn until_close() {
    let (payload, consumed, mut body) = decode(Framing::UntilClose, b"abc", &[2, 1]).unwrap();
    assert_eq!((payload.as_slice(), consumed, body.is_done()), (&b"abc"[..], 3, false));
    assert_eq!(body.end(), Ok(()));
    assert!(body.is_done());
}

#[test]
fn chunks() {
    for (wire, expected) in [
        (&b"0\r\n\r\n"[..], &b""[..]),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
        (b"003\r\nabc\r\n000\r\n\r\n", b"abc"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"A\r\n0\r\n\r\n67890\r\n0\r\n\r\n", b"0\r\n\r\n67890"),
        (b"3;a\r\nabc\r\n0;b\r\n\r\n", b"abc"),
        (b"3;a=b;c=\"d;\\\"e\"\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3; a = b ; c\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nEmpty:\r\nHosts: h\r\n\r\n", b"abc"),
    ] {
        let (payload, consumed, mut body) = chunked(wire).unwrap();
        assert_eq!(payload, expected, "{:?}", wire.escape_ascii());
        assert_eq!(consumed, wire.len());
        assert!(body.is_done());
        assert_eq!(body.end(), Ok(()));
        for cut in 0..wire.len() {
            let (.., mut body) = chunked(&wire[..cut]).unwrap();
            assert!(body.end().is_err(), "cut at {cut} of {:?}", wire.escape_ascii());
        }
        let mut more = wire.to_vec();
        more.extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(chunked(&more).unwrap().1, wire.len(), "the next request is not ours");
    }
}

#[test]
fn doubtful_chunks_are_refused() {
    for wire in [
        &b"\r\n"[..],
        b";a\r\n",
        b" 3\r\n",
        b"3 \r\n",
        b"3 ;a\r\n",
        b"+3\r\n",
        b"-3\r\n",
        b"0x3\r\n",
        b"3_0\r\n",
        b"g\r\n",
        b"\xb3\r\n",
        b"3\n",
        b"3\r\r\n",
        b"3\rabc",
        b"0000000000000003\r\n",
        b"ffffffffffffffff1\r\n",
        b"3\r\nabc0\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n",
        b"3\r\nabc\r0\r\n",
        b"3\r\nabc\rX0\r\n\r\n",
        b"3\r\nabcX\n0\r\n\r\n",
        b"3\r\nabc\r\n\r\n",
        b"3;\r\n",
        b"3;;a\r\n",
        b"3;a;\r\n",
        b"3;a=\r\n",
        b"3;=b\r\n",
        b"3;a=b=c\r\n",
        b"3;a b\r\n",
        b"3;a=b c\r\n",
        b"3;a \r\n",
        b"3;a=\"b\" \r\n",
        b"3;a=\"b\r\n\"",
        b"3;a=\"b\\\r\n",
        b"3;a=\"b\"c\r\n",
        b"3;\"a\"\r\n",
        b"3;a\n",
        b"3;a\0\r\n",
        b"3;a=\"\x7f\"\r\n",
        b"3;\xe9\r\n",
        b"0\r\n\n",
        b"0\n\r\n",
        b"0\r\n\rX",
        b"0\r\n a: b\r\n",
        b"0\r\na: b\r\n c\r\n",
        b"0\r\na : b\r\n",
        b"0\r\n: b\r\n",
        b"0\r\na\r\n",
        b"0\r\na: b\n",
        b"0\r\na: b\rc\r\n",
        b"0\r\na: \0\r\n",
        b"0\r\na: \x7f\r\n",
        b"0\r\nContent-Length: 3\r\n",
        b"0\r\ncontent_length:3\r\n",
        b"0\r\nTRANSFER-ENCODING: chunked\r\n",
        b"0\r\nA: b\r\nHost: h\r\n",
        b"0\r\nX-Forwarded-For: 1.2.3.4\r\n",
        b"0\r\nConnection: close\r\n",
        b"0\r\nAuthorization: x\r\n",
    ] {
        assert_eq!(chunked(wire), Err(Malformed::BadRequest), "{:?}", wire.escape_ascii());
    }
}

#[test]
fn framing_is_bounded() {
    let extension = |size| [&b"3;"[..], &vec![b'a'; size], b"\r\nabc\r\n0\r\n\r\n"].concat();
    assert!(chunked(&extension(CHUNK_HEADER_SIZE_MAX as usize)).is_ok());
    assert!(chunked(&extension(CHUNK_HEADER_SIZE_MAX as usize + 1)).is_err());
    let trailer = |size| [&b"0\r\na:"[..], &vec![b'a'; size - 6], b"\r\n\r\n"].concat();
    assert!(chunked(&trailer(TRAILER_SIZE_MAX as usize)).is_ok());
    assert!(chunked(&trailer(TRAILER_SIZE_MAX as usize + 1)).is_err());
    let (.., body) = chunked(b"fffffffffffffff\r\nabc").unwrap();
    assert!(!body.is_done());
}

#[test]
fn a_scanner_is_small() {
    assert!(size_of::<Body>() <= 56, "{}", size_of::<Body>());
}

fn wire_of(chunks: &[(Vec<u8>, u8)], trailers: bool) -> Vec<u8> {
    let mut wire = Vec::new();
    for (chunk, style) in chunks {
        let mut size = Vec::new();
        super::super::emit::chunk_size(&mut size, chunk.len());
        size.truncate(size.len() - 2);
        if style & 1 != 0 {
            size.make_ascii_uppercase();
        }
        if style & 2 != 0 {
            wire.extend_from_slice(b"00");
        }
        wire.extend_from_slice(&size);
        if style & 4 != 0 {
            wire.extend_from_slice(b";n=\"\\\"; ");
            push_decimal(&mut wire, u64::from(*style));
            wire.push(b'"');
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(if trailers { b"0\r\nX: y\r\n\r\n" } else { b"0\r\n\r\n" });
    wire
}

proptest! {
    #[test]
    fn payload_survives_any_split(
        chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), 0u8..8), 0..12),
        trailers: bool,
        pieces in prop::collection::vec(1usize..50, 1..20),
        ahead in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut wire = wire_of(&chunks, trailers);
        let size = wire.len();
        wire.extend_from_slice(&ahead);
        let (payload, consumed, body) = decode(Framing::Chunked, &wire, &pieces).unwrap();
        let expected: Vec<u8> = chunks.into_iter().flat_map(|(chunk, _)| chunk).collect();
        prop_assert_eq!(payload, expected);
        prop_assert_eq!(consumed, size);
        prop_assert!(body.is_done());
    }

    #[test]
    fn any_bytes_read_alike_in_any_split(
        wire in prop::collection::vec(prop::sample::select(&b"0013a;=\"\\ \t\r\n\r\n:xX\0"[..]), 0..60),
        pieces in prop::collection::vec(1usize..9, 1..20),
    ) {
        prop_assert_eq!(
            decode(Framing::Chunked, &wire, &[wire.len()]),
            decode(Framing::Chunked, &wire, &pieces)
        );
    }
}
