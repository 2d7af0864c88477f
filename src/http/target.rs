//! Request targets (RFC 9112 section 3.2) and the normal form in which paths are routed.

use super::host::is_authority;
use super::{Malformed, Method};
use alloc::vec::Vec;

/// What a request asks for, as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// Path and query.
    Origin(&'b [u8]),
    /// `path` is path and query: empty for `http://host`, beginning with `?` for `http://host?q`.
    Absolute { text: &'b [u8], authority: &'b [u8], path: &'b [u8] },
    /// `*`, of OPTIONS only.
    Asterisk,
}

impl<'b> Target<'b> {
    pub(super) fn parse(text: &'b [u8], method: Method) -> Result<Self, Malformed> {
        if !text.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'#') {
            return Err(Malformed::BadRequest);
        }
        match text {
            [b'/', ..] => Ok(Self::Origin(text)),
            b"*" if method == Method::Options => Ok(Self::Asterisk),
            _ => Self::parse_absolute(text),
        }
    }

    fn parse_absolute(text: &'b [u8]) -> Result<Self, Malformed> {
        let colon = text.iter().position(|&byte| byte == b':').ok_or(Malformed::BadRequest)?;
        let (scheme, rest) = text.split_at(colon);
        let is_ours = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
        let rest = rest.strip_prefix(b"://").filter(|_| is_ours).ok_or(Malformed::BadRequest)?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !is_authority(authority) {
            return Err(Malformed::BadRequest);
        }
        Ok(Self::Absolute { text, authority, path })
    }

    /// The path without query.
    pub fn path(&self) -> &'b [u8] {
        let path = match self {
            Self::Origin(path) | Self::Absolute { path, .. } => path,
            Self::Asterisk => return b"*",
        };
        let path = path.split(|&byte| byte == b'?').next().unwrap_or(path);
        if path.is_empty() { b"/" } else { path }
    }

    /// As sent.
    pub fn text(&self) -> &'b [u8] {
        match self {
            Self::Origin(text) | Self::Absolute { text, .. } => text,
            Self::Asterisk => b"*",
        }
    }

    /// Appends what a server is asked for: origin form, or `*`.
    pub fn push_origin(&self, method: Method, out: &mut Vec<u8>) {
        match self {
            Self::Origin(text) => out.extend_from_slice(text),
            Self::Asterisk => out.push(b'*'),
            // RFC 9112 section 3.2.4: OPTIONS for a whole server, by way of a proxy.
            Self::Absolute { path: [], .. } if method == Method::Options => out.push(b'*'),
            Self::Absolute { path, .. } => {
                if !path.starts_with(b"/") {
                    out.push(b'/');
                }
                out.extend_from_slice(path);
            }
        }
    }
}

/// A path as routes see it: unreserved characters not percent-encoded, no dot segments (RFC 3986
/// sections 5.2.4 and 6.2.2). Nearly every path is in that form and returned as it is.
pub fn normal_path<'a>(path: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    let has_dots = path.windows(2).any(|pair| pair == b"/.");
    if !has_dots && !path.contains(&b'%') {
        return Ok(path);
    }
    scratch.clear();
    let mut rest = path;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            scratch.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(Malformed::BadRequest) };
        let byte = hex(*high)? << 4 | hex(*low)?;
        rest = after;
        match byte {
            0 => return Err(Malformed::BadRequest),
            b'-' | b'.' | b'_' | b'~' => scratch.push(byte),
            _ if byte.is_ascii_alphanumeric() => scratch.push(byte),
            _ => scratch.extend_from_slice(&[b'%', *high, *low]),
        }
    }
    remove_dots(scratch);
    Ok(scratch)
}

fn hex(digit: u8) -> Result<u8, Malformed> {
    let value = (digit as char).to_digit(16).ok_or(Malformed::BadRequest)?;
    u8::try_from(value).map_err(|_| Malformed::BadRequest)
}

/// Removes `.` and `..` segments in place; what climbs above the root stays at the root.
fn remove_dots(path: &mut Vec<u8>) {
    let mut written = 0;
    let mut read = 0;
    while read < path.len() {
        let end = path[read + 1..].iter().position(|&byte| byte == b'/');
        let end = end.map_or(path.len(), |at| read + 1 + at);
        let is_last = end == path.len();
        match &path[read..end] {
            b"/." => {}
            b"/.." => {
                written = path[..written].iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            }
            _ => {
                path.copy_within(read..end, written);
                written += end - read;
                read = end;
                continue;
            }
        }
        if is_last {
            path[written] = b'/';
            written += 1;
        }
        read = end;
    }
    path.truncate(written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn normal(path: &str) -> Result<String, Malformed> {
        let mut scratch = Vec::new();
        let bytes = normal_path(path.as_bytes(), &mut scratch)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    #[test]
    fn paths_have_one_form() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/%61dmin", "/admin"),
            ("/%2e%2E/x", "/x"),
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/../../a", "/a"),
            ("/a//b", "/a//b"),
            ("/a%2fb", "/a%2fb"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("*", "*"),
        ] {
            assert_eq!(normal(path).as_deref(), Ok(expected), "{path}");
        }
        for bad in ["/%", "/%4", "/%zz", "/%00"] {
            assert_eq!(normal(bad), Err(Malformed::BadRequest), "{bad}");
        }
    }

    #[test]
    fn targets_by_form() {
        let parse = |text: &'static str| Target::parse(text.as_bytes(), Method::Get);
        assert_eq!(parse("/a?b").map(|target| target.path()), Ok(&b"/a"[..]));
        for (text, origin) in [
            ("http://h", "/"),
            ("HTTP://h/", "/"),
            ("https://h:1/a?b", "/a?b"),
            ("http://h?q", "/?q"),
        ] {
            let mut out = Vec::new();
            let target = parse(text).unwrap();
            target.push_origin(Method::Get, &mut out);
            assert_eq!(out, origin.as_bytes(), "{text}");
        }
        for bad in
            ["*", "a", "h:80", "ftp://h/", "http://", "http://u@h/", "/a#b", "/\u{e9}", "http:/h"]
        {
            assert_eq!(parse(bad), Err(Malformed::BadRequest), "{bad}");
        }
        assert_eq!(Target::parse(b"*", Method::Options), Ok(Target::Asterisk));
    }

    proptest! {
        /// Else a route could be gone around by writing its path in another way.
        #[test]
        fn the_normal_form_is_final(path in "/(%2e|%2E|%41|%2f|%25|\\.|/|a|%c3){0,12}") {
            let once = normal(&path).unwrap();
            prop_assert!(once.starts_with('/'));
            prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."), "{once}");
            prop_assert!(!once.to_ascii_lowercase().contains("%2e"), "{once}");
            prop_assert_eq!(normal(&once).unwrap(), once);
        }
    }
}
