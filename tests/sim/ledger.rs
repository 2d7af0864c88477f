//! What really happened, as known to nobody inside the simulation: what each request was, where
//! it arrived, what was answered. The oracle judges by it.

use super::cover::Cover;
use super::request::Request;
use super::setting::{QUEUE_TIMEOUT, Setting};
use lychgate::base::time::Instant;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) setting: Setting,
    pub(crate) requests: BTreeMap<u32, Request>,
    pub(crate) cover: Cover,
    /// X-Request-Id as servers saw it, to the request.
    pub(crate) ids: BTreeMap<String, u32>,
    pub(crate) drained_at: Option<Instant>,
    /// When connections to servers failed or were given up.
    pub(crate) refusals: Vec<(Instant, usize)>,
    /// When workers of the garden died.
    pub(crate) deaths: Vec<Instant>,
    /// When the garden's queue was full, and when the pool was stopped.
    pub(crate) full: Vec<Instant>,
    pub(crate) stops: Vec<Instant>,
    pub(crate) is_stopped: bool,
    /// When a health check was failed.
    pub(crate) sick: Vec<Instant>,
}

impl Ledger {
    pub(crate) fn new(setting: Setting) -> Self {
        Self {
            setting,
            requests: BTreeMap::new(),
            cover: Cover::default(),
            ids: BTreeMap::new(),
            drained_at: None,
            refusals: Vec::new(),
            deaths: Vec::new(),
            full: Vec::new(),
            stops: Vec::new(),
            is_stopped: false,
            sick: Vec::new(),
        }
    }

    /// Whether a connection to a pool failed at or after a moment.
    pub(crate) fn was_refused(&self, pool: usize, since: Instant) -> bool {
        self.refusals.iter().any(|(at, refused)| *refused == pool && *at >= since)
    }

    /// Whether a worker of the garden died at or after a moment.
    pub(crate) fn was_death(&self, since: Instant) -> bool {
        self.deaths.iter().any(|at| *at >= since)
    }

    /// Whether the garden may turn a request down that came at one moment, at another.
    pub(crate) fn may_turn_down(&self, since: Instant, at: Instant) -> bool {
        let was = |times: &[Instant]| times.iter().any(|time| *time >= since && *time <= at);
        was(&self.full) || was(&self.stops) || at.since(since) >= QUEUE_TIMEOUT
    }

    /// Whether it may with this word.
    pub(crate) fn may_say(&self, word: &str, since: Instant, at: Instant) -> bool {
        let was = |times: &[Instant]| times.iter().any(|time| *time >= since && *time <= at);
        match word {
            "queue-full" => was(&self.full),
            "queue-timeout" => at.since(since) >= QUEUE_TIMEOUT,
            "pool-stopped" => was(&self.stops),
            _ => false,
        }
    }
}
