//! What a single word of the file means: addresses, hosts, paths, names. Each reading gives the
//! value, or what is wrong and what to write instead.

use crate::base::address::Address;
use crate::base::limits;
use crate::plan::{Host, units};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What is wrong, and what to write instead.
pub(super) type Refusal = (String, String);

/// Longest name of a site or a pool: it ends up in log lines and in paths of sockets.
const NAME_SIZE_MAX: usize = 64;
/// RFC 1035 section 2.3.4, as text.
const HOST_SIZE_MAX: usize = 253;
const LABEL_SIZE_MAX: usize = 63;
/// A path of a route or of a probe.
const PATH_SIZE_MAX: usize = 4096;

/// Where to listen, or a server: an IP address with a port, or a UNIX socket.
pub(super) fn address(text: &str) -> Result<Address, Refusal> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            return refuse(quoted(text) + " has port 0", "write a port from 1 to 65535");
        }
        return Ok(Address::Tcp(address));
    }
    refuse(format!("{} is not an address", quoted(text)), address_hint(text))
}

/// Kept as [`Host`] says; `text` in any case of letters.
pub(super) fn host(text: &str) -> Result<Host, Refusal> {
    let lower = text.to_ascii_lowercase();
    if lower == "*" {
        return Ok(Host::Any);
    }
    if let Some(address) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return Ok(Host::Exact(format!("[{address}]")));
    }
    let (name, is_suffix) = match lower.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (lower.as_str(), false),
    };
    if name.len() <= HOST_SIZE_MAX && name.split('.').all(is_label) {
        return Ok(if is_suffix {
            Host::Suffix(format!(".{name}"))
        } else {
            Host::Exact(name.to_string())
        });
    }
    refuse(format!("{} is not a host name", quoted(text)), host_hint(&lower))
}

/// The path of a route: in the form in which requests are compared with it.
pub(super) fn route(text: &str) -> Result<String, Refusal> {
    let Some(normal) = normal_path(text) else {
        return refuse(
            format!("{} is not a path", quoted(text)),
            "write a path that begins with / and holds neither query nor fragment, such as \"/shop\"",
        );
    };
    if normal != text {
        return refuse(
            format!("{} is not in normal form", quoted(text)),
            format!("write {}", quoted(&normal)),
        );
    }
    if text.len() > PATH_SIZE_MAX {
        return refuse("is too long", format!("write at most {PATH_SIZE_MAX} bytes"));
    }
    Ok(normal)
}

/// What a probe asks for: a path, perhaps with a query (RFC 9112 section 3.2.1, origin form).
pub(super) fn probe(text: &str) -> Result<String, Refusal> {
    if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return refuse(
            format!("{} cannot be requested", quoted(text)),
            "write a path that begins with /, percent-encoded, such as \"/healthz\"",
        );
    }
    if text.len() > PATH_SIZE_MAX {
        return refuse("is too long", format!("write at most {PATH_SIZE_MAX} bytes"));
    }
    Ok(text.to_string())
}

/// An absolute path of a file.
pub(super) fn file(text: &str) -> Result<String, Refusal> {
    if text.starts_with('/') && !text.ends_with('/') {
        return Ok(text.to_string());
    }
    refuse(
        format!("{} is not the absolute path of a file", quoted(text)),
        "write a path that begins with /, such as \"/var/log/lychgate/access.log\"",
    )
}

/// Where the control socket is to be.
pub(super) fn control(text: &str) -> Result<String, Refusal> {
    let is_below = text.rfind('/').is_some_and(|at| at > 0) && !text.ends_with('/');
    if !text.starts_with('/') || !is_below || text.len() > limits::UNIX_PATH_MAX {
        return refuse(
            format!("{} is not where a control socket can be", quoted(text)),
            format!(
                "write an absolute path of at most {} bytes, in a folder that is lychgate's alone, \
                 such as \"/run/lychgate/control.sock\"",
                limits::UNIX_PATH_MAX
            ),
        );
    }
    Ok(text.to_string())
}

/// The name of a cookie or a field (RFC 9110 section 5.6.2).
pub(super) fn token(text: &str) -> Result<String, Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.len() <= NAME_SIZE_MAX && text.bytes().all(allowed) {
        return Ok(text.to_string());
    }
    refuse(
        format!("{} is not the name of a cookie or a field", quoted(text)),
        format!("write 1 to {NAME_SIZE_MAX} letters, digits and dashes, such as \"x-session\""),
    )
}

/// A time of the day, in minutes.
pub(super) fn time(text: &str) -> Result<u16, Refusal> {
    units::time_of_day(text).map_or_else(
        || {
            refuse(
                format!("{} is not a time of the day", quoted(text)),
                "write hours and minutes, two digits each, such as \"03:00\"",
            )
        },
        Ok,
    )
}

/// The name of a site or a pool.
pub(super) fn name(text: &str) -> Result<String, Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins_well && text.len() <= NAME_SIZE_MAX && text.bytes().all(allowed) {
        return Ok(text.to_string());
    }
    refuse(
        format!("{} is not a name", quoted(text)),
        format!(
            "write 1 to {NAME_SIZE_MAX} letters, digits, dots, underscores and dashes, a letter \
             or digit first"
        ),
    )
}

/// A user of the system, by name or by number.
pub(super) fn user(text: &str) -> Result<String, Refusal> {
    let (begin, end) = (text.as_bytes().first(), text.strip_suffix('$').unwrap_or(text));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins_well = begin.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    if begins_well && text.len() <= NAME_SIZE_MAX && end.bytes().all(allowed) {
        return Ok(text.to_string());
    }
    refuse(
        format!("{} is not the name of a user", quoted(text)),
        "write a user of this system, such as \"lychgate\"",
    )
}

/// A path as requests are compared with it: unreserved characters plain, percent-encodings in
/// capitals, neither empty segments nor dots for segments, no slash at the end (RFC 3986 section
/// 6.2.2). `None` when it is not a path at all.
fn normal_path(text: &str) -> Option<String> {
    if !text.starts_with('/') || text.contains(['?', '#']) {
        return None;
    }
    let mut plain = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let (octet, encoded) = if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            (u8::try_from(digit()? * 16 + digit()?).ok()?, true)
        } else {
            (byte, false)
        };
        let unreserved = octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
        if unreserved || !encoded && b"/!$&'()*+,;=:@".contains(&octet) {
            plain.push(char::from(octet));
        } else if octet == 0 {
            return None;
        } else {
            write!(plain, "%{octet:02X}").ok()?;
        }
    }
    let mut normal = String::with_capacity(plain.len());
    let mut starts = Vec::new();
    for segment in plain.split('/') {
        match segment {
            "" | "." => {}
            ".." => normal.truncate(starts.pop().unwrap_or(0)),
            segment => {
                starts.push(normal.len());
                normal.push('/');
                normal.push_str(segment);
            }
        }
    }
    if normal.is_empty() {
        normal.push('/');
    }
    Some(normal)
}

fn unix(path: &str) -> Result<Address, Refusal> {
    if !path.starts_with('/') || path.ends_with('/') {
        return refuse(
            format!("{} is not the absolute path of a socket", quoted(path)),
            "write unix: and a path that begins with /, such as \"unix:/run/app.sock\"",
        );
    }
    if path.len() > limits::UNIX_PATH_MAX {
        return refuse(
            format!("the path of the socket has {} bytes", path.len()),
            format!("use a path of at most {} bytes (unix(7))", limits::UNIX_PATH_MAX),
        );
    }
    Ok(Address::Unix(path.to_string()))
}

fn address_hint(text: &str) -> String {
    let example =
        || "write it as \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/run/app.sock\"".into();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let rest = rest.split('/').next().unwrap_or(rest);
    let port = match scheme {
        "http" => "80",
        _ => "8080",
    };
    let candidate = match rest.rsplit_once(':') {
        _ if text.starts_with('/') => format!("unix:{text}"),
        Some(("" | "*", port)) => format!("0.0.0.0:{port}"),
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ if rest == "localhost" => format!("127.0.0.1:{port}"),
        _ if rest.parse::<u16>().is_ok() => format!("127.0.0.1:{rest}"),
        _ => match rest.parse() {
            Ok(IpAddr::V4(ip)) => format!("{ip}:{port}"),
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
            Err(_) => rest.to_string(),
        },
    };
    if candidate != text && address(&candidate).is_ok() {
        return format!("write \"{candidate}\"");
    }
    match rest.rsplit_once(':') {
        Some((name, port)) if host(name).is_ok() && port.parse::<u16>().is_ok() => {
            "names are not looked up: write the IP address instead".into()
        }
        _ => example(),
    }
}

fn host_hint(lower: &str) -> String {
    if !lower.is_ascii() {
        return "write the name as it is sent, in its xn-- form (RFC 5891)".into();
    }
    let bare = lower.split_once("://").map_or(lower, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or(bare);
    let bare = match bare.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => bare,
    };
    let bare = bare.trim_end_matches('.');
    let bare = if bare.starts_with('.') { format!("*{bare}") } else { bare.to_string() };
    if bare != lower && bare != "*" && host(&bare).is_ok() {
        return format!("write \"{bare}\"");
    }
    "write a name such as \"shop.example\", \"*.shop.example\" for all below it, or \"*\" for every \
     host"
        .into()
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=LABEL_SIZE_MAX).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// For a message: control characters made visible, and no longer than a line.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let mut shown: String = text.escape_debug().take(SHOWN_MAX).collect();
    if text.escape_debug().nth(SHOWN_MAX).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

fn refuse<T>(what: impl Into<String>, hint: impl Into<String>) -> Result<T, Refusal> {
    Err((what.into(), hint.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint<T: core::fmt::Debug>(reading: Result<T, Refusal>) -> String {
        reading.unwrap_err().1
    }

    #[test]
    fn addresses() {
        for good in ["127.0.0.1:80", "[::1]:80", "0.0.0.0:65535", "unix:/run/a b.sock"] {
            assert_eq!(address(good).unwrap().to_string(), good);
        }
        for (bad, repaired) in [
            (":8080", "\"0.0.0.0:8080\""),
            ("*:80", "\"0.0.0.0:80\""),
            ("8080", "\"127.0.0.1:8080\""),
            ("localhost:3000", "\"127.0.0.1:3000\""),
            ("http://127.0.0.1/", "\"127.0.0.1:80\""),
            ("http://10.0.0.1:81/x", "\"10.0.0.1:81\""),
            ("::1", "\"[::1]:8080\""),
            ("/run/app.sock", "\"unix:/run/app.sock\""),
            ("app.example:80", "IP address"),
            ("127.0.0.1:0", "from 1 to 65535"),
            ("unix:run/app.sock", "begins with /"),
            ("unix:/run/", "begins with /"),
            ("", "127.0.0.1:8080"),
            ("127.0.0.1:65536", "127.0.0.1:8080"),
        ] {
            let hint = hint(address(bad));
            assert!(hint.contains(repaired), "{bad}: {hint}");
        }
        let longest = format!("unix:/{}", "x".repeat(limits::UNIX_PATH_MAX - 1));
        assert!(address(&longest).is_ok());
        assert!(hint(address(&(longest + "x"))).contains("107"));
    }

    #[test]
    fn hosts() {
        for (text, kept) in [
            ("*", Host::Any),
            ("Shop.Example", Host::Exact("shop.example".into())),
            ("localhost", Host::Exact("localhost".into())),
            ("10.0.0.1", Host::Exact("10.0.0.1".into())),
            ("[::0001]", Host::Exact("[::1]".into())),
            ("*.Shop.example", Host::Suffix(".shop.example".into())),
        ] {
            assert_eq!(host(text), Ok(kept), "{text}");
        }
        for (bad, repaired) in [
            ("shop.example:80", "\"shop.example\""),
            ("http://shop.example/", "\"shop.example\""),
            ("shop.example.", "\"shop.example\""),
            (".shop.example", "\"*.shop.example\""),
            ("größe.example", "xn--"),
            ("a..b", "such as"),
            ("a b", "such as"),
            ("-a", "such as"),
            ("", "such as"),
            ("a.*.b", "such as"),
            ("*.", "such as"),
            ("[::1", "such as"),
        ] {
            let hint = hint(host(bad));
            assert!(hint.contains(repaired), "{bad}: {hint}");
        }
        assert!(host(&"a".repeat(64)).is_err());
        assert!(host(&["abcdefg"; 32].join(".")).is_err());
    }

    #[test]
    fn routes() {
        for good in ["/", "/shop", "/a/b.c/~d", "/%20x", "/a:b@c"] {
            assert_eq!(route(good), Ok(good.to_string()), "{good}");
        }
        for (bad, repaired) in [
            ("/shop/", "\"/shop\""),
            ("//shop", "\"/shop\""),
            ("/a/./b/../c", "\"/a/c\""),
            ("/../..", "\"/\""),
            ("/%41%2f%c3", "\"/A%2F%C3\""),
            ("/a b", "\"/a%20b\""),
            ("/größe", "\"/gr%C3%B6%C3%9Fe\""),
            ("/%2e%2E/x", "\"/x\""),
            ("shop", "begins with /"),
            ("", "begins with /"),
            ("/a?b", "query"),
            ("/%4", "query"),
            ("/%zz", "query"),
            ("/%00", "query"),
        ] {
            let hint = hint(route(bad));
            assert!(hint.contains(repaired), "{bad}: {hint}");
        }
        assert!(hint(route(&format!("/{}", "x".repeat(PATH_SIZE_MAX)))).contains("4096"));
    }

    #[test]
    fn names_probes_files_and_users() {
        assert!(name("shop-2.a_b").is_ok());
        for bad in ["", ".shop", "a/b", "a b", "größe", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert!(probe("/healthz?deep=1").is_ok());
        for bad in ["", "healthz", "/a b", "/a\r\nHost: b", "/a#b", "http://a/"] {
            assert!(probe(bad).is_err(), "{bad}");
        }
        assert!(file("/var/log/a.log").is_ok());
        for bad in ["", "a.log", "/var/log/"] {
            assert!(file(bad).is_err(), "{bad}");
        }
        assert!(user("www-data").is_ok() && user("_x$").is_ok() && user("1000").is_ok());
        for bad in ["", "-x", "a b", "a:b", "root\n", "$"] {
            assert!(user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn quotations_are_short_and_visible() {
        assert_eq!(quoted("a\n\"b"), "\"a\\n\\\"b\"");
        assert!(quoted(&"x".repeat(1000)).len() < 90);
    }
}
