//! Authorities: what stands in `Host` and in absolute targets (RFC 3986 section 3.2, without user
//! information).

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

/// `reg-name` of RFC 3986, which holds IPv4 addresses too.
fn is_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        let is_allowed = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(u8::is_ascii_hexdigit)),
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
            | b',' | b';' | b'=' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !is_allowed {
            return false;
        }
    }
    true
}

fn is_port(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad() {
        for good in ["a", "a.example:80", "127.0.0.1", "[::1]", "[2001:db8::1]:443", "x:", "a%20b"]
        {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:b", "a:123456", "[::1", "[zz]", "[::1]x", "u@h", "a/b", "a b", "a%2",
            "a\"", "[]",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
