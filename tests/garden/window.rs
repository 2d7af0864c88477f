//! Rapid-fail as the operator understands it: so many failures within so long.

use lychgate::base::time::Instant;
use lychgate::plan::garden::RapidFail;

#[derive(Debug)]
pub(crate) struct Window {
    failures_max: usize,
    span: core::time::Duration,
    times: Vec<Instant>,
    /// Failures up to then may be forgiven or not: a start that was asked for while running.
    vague_until: Option<Instant>,
}

/// Whether the pool is to trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Must,
    May,
    MustNot,
}

impl Window {
    pub(crate) fn new(settings: &RapidFail) -> Self {
        Self {
            failures_max: settings.failures as usize,
            span: settings.window,
            times: Vec::new(),
            vague_until: None,
        }
    }

    pub(crate) fn failed(&mut self, now: Instant) {
        self.times.push(now);
    }

    pub(crate) fn clear(&mut self, is_vague: bool) {
        if is_vague {
            self.vague_until = self.times.last().copied().or(self.vague_until);
        } else {
            self.times.clear();
        }
    }

    pub(crate) fn count(&self, now: Instant) -> Count {
        // A failure exactly as old as the window may be seen either way.
        let within = |time: &&Instant| now.since(**time) <= self.span;
        let surely = |time: &&Instant| {
            now.since(**time) < self.span && self.vague_until.is_none_or(|vague| **time > vague)
        };
        let most = self.times.iter().filter(within).count();
        let least = self.times.iter().filter(surely).count();
        match self.failures_max {
            0 => Count::MustNot,
            max if least >= max => Count::Must,
            max if most >= max => Count::May,
            _ => Count::MustNot,
        }
    }
}
