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
    /// The age at which a worker is recycled, with and without jitter.
    pub(crate) every: Span,
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
        let mut every = Span::of(garden.recycle.every);
        every.least = every.least * (100 - u32::from(garden.recycle.jitter)) / 100;
        Self {
            startup: Span::of(Some(garden.lifecycle.startup_limit)),
            shutdown: Span::of(Some(garden.lifecycle.shutdown_limit)),
            idle: Span::of(garden.lifecycle.idle_timeout),
            ping: Span::of(garden.health.ping_interval),
            silence: Span::of(Some(garden.health.ping_timeout)),
            deadlock: Span::of(garden.health.deadlock_interval),
            pause: Span::of(Some(garden.health.deadlock_pause)),
            every,
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
        self.every.widen(other.every);
    }
}
