//! What the operator asks for.

use super::life::{Life, Mode, tell};
use super::seam::{Order, Trigger, Verb};
use crate::machine::event::Kind;
use alloc::vec::Vec;

impl Life {
    pub(super) fn asked(&mut self, verb: Verb, out: &mut Vec<Order>) {
        match (verb, self.mode) {
            (Verb::Recycle, Mode::Running | Mode::Paused { .. }) => self.recycle_all(out),
            (Verb::Stop, Mode::Running | Mode::Paused { .. } | Mode::Tripped) => {
                self.mode = Mode::Stopped;
                tell(None, Kind::PoolStopped, out);
            }
            (Verb::Start, mode) => {
                self.guard.forgive();
                self.hold_until = None;
                if matches!(mode, Mode::Stopped | Mode::Tripped) {
                    self.mode = Mode::Running;
                    tell(None, Kind::PoolStarted, out);
                }
            }
            (Verb::Pause { limit }, Mode::Running | Mode::Paused { .. }) => {
                if self.mode == Mode::Running {
                    tell(None, Kind::PoolPaused, out);
                }
                self.mode = Mode::Paused { limit };
                self.waiting_since = None;
            }
            (Verb::Resume, Mode::Paused { .. }) => {
                self.mode = Mode::Running;
                tell(None, Kind::PoolResumed, out);
            }
            (Verb::Recycle | Verb::Pause { .. }, Mode::Stopped | Mode::Tripped)
            | (Verb::Stop, Mode::Stopped)
            | (Verb::Resume, _) => {}
        }
    }

    /// A recycle while recycling is one recycle.
    fn recycle_all(&mut self, out: &mut Vec<Order>) {
        let is_at_it = self
            .workers
            .values()
            .any(|it| it.is_staying() && it.recycling == Some(Trigger::Demand));
        if !is_at_it {
            self.mark_all(Trigger::Demand, out);
        }
        self.hold_until = None;
    }
}
