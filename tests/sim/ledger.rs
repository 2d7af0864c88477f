//! What really happened, as known to nobody inside the simulation: what each request was, where
//! it arrived, what was answered. The oracle judges by it.

use super::cover::Cover;
use super::request::Request;
use super::setting::Setting;
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
    /// When the worker of the command pool came (true) and went.
    pub(crate) work: Vec<(Instant, bool)>,
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
            work: vec![(Instant(0), false)],
            sick: Vec::new(),
        }
    }

    /// Whether a connection to a pool failed at or after a moment.
    pub(crate) fn was_refused(&self, pool: usize, since: Instant) -> bool {
        self.refusals.iter().any(|(at, refused)| *refused == pool && *at >= since)
    }

    /// Whether the worker was not there at some time from a moment on.
    pub(crate) fn was_idle(&self, since: Instant) -> bool {
        let before = self.work.iter().rev().find(|(at, _)| *at <= since);
        before.is_some_and(|(_, is_there)| !is_there)
            || self.work.iter().any(|(at, is_there)| *at >= since && !is_there)
    }
}
