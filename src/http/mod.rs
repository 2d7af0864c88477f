//! Floor 1, pure: bytes to facts about HTTP/1.1 (RFC 9110, RFC 9112) and back. No policy.

pub mod date;
pub mod h1;
pub mod host;
pub mod status;
pub mod target;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// Request methods (RFC 9110 section 9); they are case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
    Connect,
    Other,
}

impl Method {
    pub fn from_text(text: &[u8]) -> Self {
        match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Whether doing it twice is as good as once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }

    /// Whether it only asks (RFC 9110 section 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }
}

/// Where a body ends (RFC 9112 section 6.3). No body is `Length(0)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    /// Responses only.
    UntilClose,
}

/// Why bytes are no message that we pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    BadRequest,
    UriTooLong,
    HeaderTooLarge,
    VersionUnsupported,
    /// CONNECT, or a transfer coding that we do not know.
    NotImplemented,
}

impl Malformed {
    /// The status that answers it.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::UriTooLong => 414,
            Self::HeaderTooLarge => 431,
            Self::VersionUnsupported => 505,
            Self::NotImplemented => 501,
        }
    }

    /// The word in logs and counters.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::UriTooLong => "uri-too-long",
            Self::HeaderTooLarge => "header-too-large",
            Self::VersionUnsupported => "version-unsupported",
            Self::NotImplemented => "not-implemented",
        }
    }
}
