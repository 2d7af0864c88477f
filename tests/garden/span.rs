//! The times that were in force since the pool exists: a machine may hold on to the one that was
//! in force when a wait began, or go over to the new one.

use core::time::Duration;
use lychgate::plan::Garden;

/// `None` in the plan is longer than every run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans {
    pub(crate) startup: Span,
    pub(crate) shutdown: Span,
    pub(crate) idle: Span,
    pub(crate) ping: Span,
    pub(crate) silence: Span,
    pub(crate) deadlock: Span,
    pub(crate) pause: Span,
    /// A worker is recycled at this age or after so many requests, less its jitter, which may have
    /// been drawn under an earlier plan.
    every: Duration,
    requests: u64,
    jitter: u8,
}

impl Span {
    fn of(time: Option<Duration>) -> Self {
        let time = time.unwrap_or(Duration::from_secs(1_000_000));
        Self { least: time, most: time }
    }

    fn widen(&mut self, other: Self) {
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }
}

impl Spans {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self {
            startup: Span::of(Some(garden.lifecycle.startup_limit)),
            shutdown: Span::of(Some(garden.lifecycle.shutdown_limit)),
            idle: Span::of(garden.lifecycle.idle_timeout),
            ping: Span::of(garden.health.ping_interval),
            silence: Span::of(Some(garden.health.ping_timeout)),
            deadlock: Span::of(garden.health.deadlock_interval),
            pause: Span::of(Some(garden.health.deadlock_pause)),
            every: Span::of(garden.recycle.every).least,
            requests: if garden.recycle.requests == 0 { u64::MAX } else { garden.recycle.requests },
            jitter: garden.recycle.jitter,
        }
    }

    pub(crate) fn widen(&mut self, other: &Self) {
        self.startup.widen(other.startup);
        self.shutdown.widen(other.shutdown);
        self.idle.widen(other.idle);
        self.ping.widen(other.ping);
        self.silence.widen(other.silence);
        self.deadlock.widen(other.deadlock);
        self.pause.widen(other.pause);
        self.every = self.every.min(other.every);
        self.requests = self.requests.min(other.requests);
        self.jitter = self.jitter.max(other.jitter);
    }

    /// The age at which a worker may be recycled.
    pub(crate) fn every_least(&self) -> Duration {
        // Whoever reckons in other fractions may be off by a little.
        let least = self.every * u32::from(100 - self.jitter) / 100;
        least.saturating_sub(Duration::from_millis(1))
    }

    /// After how many requests it may be.
    pub(crate) fn requests_least(&self, requests: u64) -> u64 {
        (requests.saturating_mul(u64::from(100 - self.jitter)) / 100).saturating_sub(1)
    }

    pub(crate) fn is_spent(&self, delivered: u64) -> bool {
        delivered > self.requests_least(self.requests)
    }
}
