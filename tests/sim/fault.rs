//! Requests that no strict intermediary passes on, and what may be said to them.

/// A malformed request.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// `{host}` and `{mark}` are put in; `{big}` becomes more than any limit allows.
    text: &'static str,
    pub(crate) statuses: &'static [u16],
}

impl Fault {
    pub(crate) fn bytes(&self, host: &str, mark: u32) -> Vec<u8> {
        self.text
            .replace("{host}", host)
            .replace("{mark}", &mark.to_string())
            .replace("{big}", &"b".repeat(40_000))
            .replace("{long}", &"l".repeat(2_100))
            .replace("{many}", &"X-Many: 1\r\n".repeat(60))
            .into_bytes()
    }
}

macro_rules! faults {
    ($($name:literal, $statuses:expr, $text:literal;)*) => {
        pub(crate) const FAULTS: &[Fault] =
            &[$(Fault { name: $name, text: $text, statuses: &$statuses }),*];
    };
}

faults! {
    "both framings", [400], "POST /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    "two lengths", [400], "POST /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx";
    "list of lengths", [400], "POST /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\nContent-Length: 1, 1\r\n\r\nx";
    "signed length", [400], "POST /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\nContent-Length: +1\r\n\r\nx";
    "unknown coding", [400, 501], "POST /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\nTransfer-Encoding: gzip\r\n\r\n";
    "coding twice", [400, 501], "POST /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n";
    "coding in 1.0", [400], "POST /app/ HTTP/1.0\r\nHost: {host}\r\nX-Mark: {mark}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    "bare line feed", [400], "GET /app/ HTTP/1.1\nHost: {host}\nX-Mark: {mark}\n\n";
    "one bare line feed", [400], "GET /app/ HTTP/1.1\r\nHost: {host}\nX-Mark: {mark}\r\n\r\n";
    "bare carriage return", [400], "GET /app/ HTTP/1.1\r\nHost: {host}\r\nX-Bad: a\rb\r\nX-Mark: {mark}\r\n\r\n";
    "folded field", [400], "GET /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\n folded: 1\r\n\r\n";
    "space before colon", [400], "GET /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark : {mark}\r\n\r\n";
    "empty field name", [400], "GET /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\n: x\r\n\r\n";
    "control byte", [400], "GET /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\x01\r\n\r\n";
    "no host", [400], "GET /app/ HTTP/1.1\r\nX-Mark: {mark}\r\n\r\n";
    "two hosts", [400], "GET /app/ HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\nX-Mark: {mark}\r\n\r\n";
    "impossible host", [400], "GET /app/ HTTP/1.1\r\nHost: a b\r\nX-Mark: {mark}\r\n\r\n";
    "host with user", [400], "GET /app/ HTTP/1.1\r\nHost: u@{host}\r\nX-Mark: {mark}\r\n\r\n";
    "fragment", [400], "GET /app/#x HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\n\r\n";
    "bad escape", [400], "GET /app/%zz HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\n\r\n";
    "two spaces", [400], "GET  /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\n\r\n";
    "asterisk for GET", [400], "GET * HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\n\r\n";
    "tunnel wanted", [400, 405, 501], "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nX-Mark: {mark}\r\n\r\n";
    "HTTP/2 preface", [400, 501, 505], "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    "version 3", [400, 501, 505], "GET /app/ HTTP/3.0\r\nHost: {host}\r\nX-Mark: {mark}\r\n\r\n";
    "not HTTP", [400], "\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}\r\n\r\n";
    "head too large", [431], "GET /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\nX-Big: {big}\r\n\r\n";
    "too many fields", [431], "GET /app/ HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\n{many}\r\n";
    "target too long", [414], "GET /app/{long} HTTP/1.1\r\nHost: {host}\r\nX-Mark: {mark}\r\n\r\n";
}
