//! Why a request did not simply get its server's answer. Status, log word and counter of each
//! cause are derived here and nowhere else.

use crate::http::Malformed;

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
    Us,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Malformed(Malformed),
    NoRoute,
    Misdirected,
    BodyTooLarge,
    HeaderTimeout,
    BodyTimeout,
    IdleTimeout,
    /// The client read slower than `min_send_rate`, or not at all.
    SendRate,
    ClientGone,
    /// The worker of a `command` pool is not there (yet).
    StartFailed,
    /// Every server of the pool failed its checks.
    UpstreamDown,
    UpstreamConnect,
    /// The server closed or reset before its answer was whole.
    WorkerLost,
    /// What the server sent is not HTTP.
    UpstreamInvalid,
    UpstreamTimeout,
    /// As many requests wait for the pool as may.
    QueueFull,
    /// No slot became free within `queue.timeout`.
    QueueTimeout,
    PoolStopped,
    /// Rapid-fail.
    PoolTripped,
    /// The pool's part of the configuration is refused.
    PoolInvalid,
}

/// The words in the order of the counters.
pub const WORDS: [&str; 20] = [
    "bad-request",
    "no-route",
    "misdirected",
    "body-too-large",
    "header-timeout",
    "body-timeout",
    "idle-timeout",
    "send-rate",
    "client-gone",
    "start-failed",
    "upstream-down",
    "upstream-connect",
    "worker-lost",
    "upstream-invalid",
    "upstream-timeout",
    "queue-full",
    "queue-timeout",
    "pool-stopped",
    "pool-tripped",
    "pool-invalid",
];

impl Cause {
    /// The status answered, or only logged where the client cannot be answered any more (499).
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(malformed) => malformed.status(),
            Self::NoRoute => 404,
            Self::Misdirected => 421,
            Self::BodyTooLarge => 413,
            Self::HeaderTimeout | Self::BodyTimeout | Self::IdleTimeout => 408,
            Self::SendRate | Self::ClientGone => 499,
            Self::StartFailed
            | Self::UpstreamDown
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::PoolStopped
            | Self::PoolTripped
            | Self::PoolInvalid => 503,
            Self::UpstreamConnect | Self::WorkerLost | Self::UpstreamInvalid => 502,
            Self::UpstreamTimeout => 504,
        }
    }

    /// The word in logs, answers and counters.
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.reason(),
            other => WORDS[other.index()],
        }
    }

    /// Place in [`WORDS`]; all malformed requests count as one.
    pub fn index(self) -> usize {
        match self {
            Self::Malformed(_) => 0,
            Self::NoRoute => 1,
            Self::Misdirected => 2,
            Self::BodyTooLarge => 3,
            Self::HeaderTimeout => 4,
            Self::BodyTimeout => 5,
            Self::IdleTimeout => 6,
            Self::SendRate => 7,
            Self::ClientGone => 8,
            Self::StartFailed => 9,
            Self::UpstreamDown => 10,
            Self::UpstreamConnect => 11,
            Self::WorkerLost => 12,
            Self::UpstreamInvalid => 13,
            Self::UpstreamTimeout => 14,
            Self::QueueFull => 15,
            Self::QueueTimeout => 16,
            Self::PoolStopped => 17,
            Self::PoolTripped => 18,
            Self::PoolInvalid => 19,
        }
    }

    pub fn side(self) -> Side {
        match self {
            Self::Malformed(_)
            | Self::Misdirected
            | Self::BodyTooLarge
            | Self::HeaderTimeout
            | Self::BodyTimeout
            | Self::IdleTimeout
            | Self::SendRate
            | Self::ClientGone => Side::Client,
            Self::NoRoute
            | Self::StartFailed
            | Self::UpstreamDown
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::PoolStopped
            | Self::PoolTripped
            | Self::PoolInvalid => Side::Us,
            Self::UpstreamConnect
            | Self::WorkerLost
            | Self::UpstreamInvalid
            | Self::UpstreamTimeout => Side::Server,
        }
    }

    /// Whether the connection may serve another request after this answer: the request was
    /// understood and read whole.
    pub fn keeps_connection(self) -> bool {
        self.side() != Side::Client
    }
}
