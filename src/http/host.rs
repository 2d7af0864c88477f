//! Authorities: what stands in `Host` and in absolute targets (RFC 3986 section 3.2, without user
//! information).

use crate::base::ascii::decimal;

/// Whether the text is a host with an optional port.
pub fn is_authority(text: &[u8]) -> bool {
    let (host, rest) = match text {
        [b'[', ..] => match text.iter().position(|&byte| byte == b']') {
            Some(end) => (&text[..=end], &text[end + 1..]),
            None => return false,
        },
        _ => match text.iter().position(|&byte| byte == b':') {
            Some(colon) => text.split_at(colon),
            None => (text, &[][..]),
        },
    };
    let is_host = match host {
        [] => false,
        [b'[', inner @ .., b']'] => core::str::from_utf8(inner)
            .is_ok_and(|inner| inner.parse::<core::net::Ipv6Addr>().is_ok()),
        name => is_name(name),
    };
    is_host && is_port(rest)
}

/// A registered name or an IPv4 address, of unreserved characters only. RFC 3986 allows more, but
/// an encoded character or a list's comma in a host means different things to different readers.
fn is_name(name: &[u8]) -> bool {
    name.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

/// Nothing, or a colon with a number of 16 bits; the number may be left out (RFC 3986).
fn is_port(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5 && decimal(digits).is_some_and(|port| u16::try_from(port).is_ok())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad() {
        for good in
            ["a", "a.example:80", "127.0.0.1", "[::1]", "[2001:db8::1]:443", "x:", "a_b:65535"]
        {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:b", "a:123456", "[::1", "[zz]", "[::1]x", "u@h", "a/b", "a b", "a%2",
            "a\"", "[]", "a:65536", "a%20b", "a,b", "a;b", "h\u{e9}", "[::1%1]", "[v1.a]", "a:8 0",
            "a:+80", "a:80:80", "::1", "a\\b", "a\0",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
