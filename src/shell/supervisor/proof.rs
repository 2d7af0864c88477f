//! Whether a worker that was started is ready: it listens where it was told, it and no stranger;
//! `ready.path` answers; it said so, if it says anything of itself; and it was warmed up.

use super::probe::{Probe, Question};
use crate::base::address::Address;
use crate::base::time::Instant;
use crate::plan::Garden;
use crate::sys::poll::Interest;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

/// Who listens at an address that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// The worker; or nobody can tell.
    Itself,
    /// Somebody else.
    Stranger,
}

/// The proving of one worker.
#[derive(Debug)]
pub(super) struct Proof {
    address: Address,
    probe: Probe,
    /// What is asked after the probe's question.
    warm_up: VecDeque<Question>,
    is_proven: bool,
    /// It uses its NOTIFY_SOCKET, so it is ready when it says so and not before.
    has_spoken: bool,
    has_said_ready: bool,
}

impl Proof {
    pub(super) fn new(address: Address, garden: &Garden, now: Instant) -> Self {
        let first = match &garden.command.ready {
            Some(ready) => Question::IsReady { path: ready.path.clone(), timeout: ready.timeout },
            None => Question::Listens,
        };
        let timeout = garden.lifecycle.startup_limit;
        let warm_up =
            garden.warm_up.iter().map(|path| Question::Get { path: path.clone(), timeout });
        Self {
            probe: Probe::new(address.clone(), first, now),
            address,
            warm_up: warm_up.collect(),
            is_proven: false,
            has_spoken: false,
            has_said_ready: false,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        if self.waits_for_word() { Instant::NEVER } else { self.probe.deadline() }
    }

    pub(super) fn watched(&self) -> Option<(BorrowedFd<'_>, Interest)> {
        if self.waits_for_word() { None } else { self.probe.watched() }
    }

    fn waits_for_word(&self) -> bool {
        self.is_proven && self.has_spoken && !self.has_said_ready
    }

    /// The worker said something of itself.
    pub(super) fn heard(&mut self, is_ready: bool) {
        self.has_spoken = true;
        self.has_said_ready |= is_ready;
    }

    /// Goes on as far as it can; `who` tells who listens where the worker was told to. True when
    /// all is proven.
    pub(super) fn step(
        &mut self,
        now: Instant,
        is_told: bool,
        who: impl FnOnce() -> Listening,
    ) -> bool {
        if !self.is_proven {
            if !self.probe.step(now, is_told) {
                return false;
            }
            if who() == Listening::Stranger {
                self.probe.fail(now, "another process answers there".to_owned());
                return false;
            }
            self.is_proven = true;
            return !self.waits_for_word() && !self.ask_next(now);
        }
        if self.waits_for_word() {
            return false;
        }
        self.probe.step(now, is_told) && !self.ask_next(now)
    }

    /// False when nothing is left to ask.
    fn ask_next(&mut self, now: Instant) -> bool {
        let Some(question) = self.warm_up.pop_front() else { return false };
        self.probe = Probe::new(self.address.clone(), question, now);
        true
    }

    /// What is in the way, for the operator.
    pub(super) fn obstacle(&self) -> String {
        if self.waits_for_word() {
            return "it listens and has not said READY=1 (NOTIFY_SOCKET)".to_owned();
        }
        let obstacle = &self.probe.obstacle;
        if self.is_proven {
            format!("while it was warmed up: {obstacle}")
        } else {
            obstacle.clone()
        }
    }
}
