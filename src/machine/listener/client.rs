//! What is known about one client connection and the exchange on it. Facts only.
//!
//! ```text
//!           head incomplete        head complete             answer handed over
//!   Idle ──────────────────▶ Head ──────────────▶ Busy ─────────────────────────▶ Idle
//!     │ idle too long, FIN    │ malformed, slow    │ last answer of the connection
//!     ▼                       ▼                    ▼
//!   Closing ◀───────────── Lingering ◀─────────────┘   (Closing at once if all was read)
//!             FIN or limit
//! ```

use crate::base::address::Peer;
use crate::base::id::{DoorId, ServerIndex, SocketId};
use crate::base::time::Instant;
use crate::http::h1::body::Body;
use crate::http::h1::emit::Coding;
use crate::http::{Framing, Method, Version};
use crate::machine::cause::Cause;
use crate::machine::record::Notes;
use crate::machine::upstream::Slot;
use alloc::boxed::Box;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests.
    Idle,
    /// Part of a head is here, in `held`.
    Head,
    /// An exchange runs.
    Busy,
    /// The last answer is on its way and our side is shut down; what the client still sends is
    /// thrown away, for closing on unread bytes would reset the answer away.
    Lingering,
    /// Ended; only `Closed` is awaited.
    Closing,
}

/// One client connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: SocketId,
    pub(super) door: DoorId,
    pub(super) peer: Peer,
    pub(super) phase: Phase,
    /// When the present wait began: every timeout counts from here.
    pub(super) since: Instant,
    /// A partial head, or what was sent ahead of its turn. Empty and without memory when idle.
    pub(super) held: Vec<u8>,
    /// How much of `held` was searched for the end of the head.
    pub(super) scanned: usize,
    /// Bytes the kernel would not take yet.
    pub(super) backlog: usize,
    /// When the backlog last changed.
    pub(super) backlog_since: Instant,
    /// When the backlog began, and what the kernel has taken of it since.
    pub(super) blocked_since: Instant,
    pub(super) drained: u64,
    pub(super) is_reading: bool,
    /// The client ended its direction.
    pub(super) is_ended: bool,
    /// Boxed, and the boxes reused: an idle connection does not pay for an exchange.
    pub(super) exchange: Option<Box<Exchange>>,
}

impl Client {
    /// The engine said how much waits to be written.
    pub(super) fn note_backlog(&mut self, now: Instant, bytes: usize) {
        if self.backlog == 0 {
            self.blocked_since = now;
            self.drained = 0;
        }
        self.drained += self.backlog.saturating_sub(bytes) as u64;
        self.backlog = bytes;
        self.backlog_since = now;
        if bytes == 0 {
            // Whoever was waiting for this client begins to wait for somebody else now.
            self.since = now;
        }
    }
}

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No server is concerned yet.
    Fresh,
    /// It waits for a slot of a worker, a ticket of it in the gate's queue; the request waits in
    /// `replay`.
    Waiting,
    /// A connection to the server is being made; the request waits in `replay`.
    Connecting,
    /// The head went to the server; no final response head came back.
    Sent,
    /// The response head went to the client.
    Answering,
    /// Upgraded: bytes both ways, framing no more.
    Tunnel,
}

/// One request and its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) stage: Stage,
    pub(super) method: Method,
    pub(super) version: Version,
    /// The connection may serve another request afterwards.
    pub(super) is_persistent: bool,
    /// The client said that it sends no other request.
    pub(super) is_farewell: bool,
    pub(super) is_upgrade: bool,
    /// Nothing more of the request goes to the server; what still comes is thrown away.
    pub(super) is_upload_dead: bool,
    /// The request went out on a connection that had served before.
    pub(super) is_reused: bool,
    /// The server's connection may serve another request afterwards.
    pub(super) is_server_persistent: bool,
    pub(super) is_retry: bool,
    /// The worker that lost it first, and whether it has lost it once more.
    pub(super) lost_by: Option<ServerIndex>,
    pub(super) is_lost_again: bool,
    /// A slot of `server`, a place of a gate, is taken for it and to be given back.
    pub(super) is_holding: bool,
    /// The answer is to pin the client to the slot that gives it, if it is not yet.
    pub(super) sets_cookie: bool,
    /// Connections for it that could not be made.
    pub(super) refusals: u8,
    pub(super) has_server_ended: bool,
    pub(super) interim_count: u32,
    pub(super) upload: Body,
    pub(super) download: Body,
    pub(super) coding: Coding,
    pub(super) slot: Option<Slot>,
    pub(super) server: Option<ServerIndex>,
    /// Place of the connection to the server.
    pub(super) link: Option<u32>,
    /// The request as it was sent, as long as it may be sent again.
    pub(super) replay: Vec<u8>,
    pub(super) notes: Notes,
    pub(super) status: u16,
    pub(super) cause: Option<Cause>,
    pub(super) started: Instant,
    /// The slot of the garden that it belongs to.
    pub(super) pin: Option<u16>,
    /// Its last ticket, and when it was left.
    pub(super) serial: u32,
    pub(super) waiting_since: Instant,
    /// The request went to the server.
    pub(super) sent: Instant,
    /// The final response head came.
    pub(super) answered: Instant,
    /// Bytes of the response, head included, given to the connection.
    pub(super) bytes_out: u64,
}

impl Exchange {
    /// An exchange of which nothing is known yet, not even that its head can be read.
    pub(super) fn new(now: Instant, notes: Notes) -> Self {
        Self {
            stage: Stage::Fresh,
            method: Method::Get,
            version: Version::Http11,
            is_persistent: false,
            is_farewell: false,
            is_upgrade: false,
            is_upload_dead: false,
            is_reused: false,
            is_server_persistent: false,
            is_retry: false,
            lost_by: None,
            is_lost_again: false,
            is_holding: false,
            sets_cookie: false,
            refusals: 0,
            has_server_ended: false,
            interim_count: 0,
            upload: Body::new(Framing::Length(0)),
            download: Body::new(Framing::Length(0)),
            coding: Coding::AsIs,
            slot: None,
            server: None,
            link: None,
            replay: Vec::new(),
            notes,
            status: 0,
            cause: None,
            started: now,
            pin: None,
            serial: 0,
            waiting_since: now,
            sent: now,
            answered: now,
            bytes_out: 0,
        }
    }

    /// The client's body is read to its end or not wanted any more.
    pub(super) fn is_upload_over(&self) -> bool {
        self.is_upload_dead || self.upload.is_done()
    }

    /// Lost once more, it is not sent again.
    pub(super) fn is_last_try(&self) -> bool {
        self.is_retry && (self.is_lost_again || self.lost_by != self.server)
    }

    pub(super) fn is_answering(&self) -> bool {
        matches!(self.stage, Stage::Answering | Stage::Tunnel)
    }
}

/// What a connection to a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    Connecting {
        client: u32,
    },
    Busy {
        client: u32,
    },
    Idle,
    /// Finding out whether the server is well.
    Checking,
    /// Ended; only `Closed` is awaited.
    Closing,
}

/// One connection to a server.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) socket: SocketId,
    pub(super) slot: Slot,
    pub(super) server: ServerIndex,
    pub(super) duty: Duty,
    pub(super) since: Instant,
    /// A partial response head.
    pub(super) held: Vec<u8>,
    pub(super) scanned: usize,
    pub(super) backlog: usize,
    pub(super) is_reading: bool,
}
