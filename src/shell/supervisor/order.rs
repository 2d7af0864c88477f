//! Carrying out what the machine orders about the listener and the whole.

use super::Supervisor;
use crate::base::time::Instant;
use crate::machine::supervisor::seam::{Input, KillReason, Order};
use crate::shell::control::ToListener;
use crate::sys::process::Child;

impl Supervisor {
    pub(super) fn obey(&mut self, now: Instant, order: Order) {
        match order {
            Order::SpawnListener => {
                let spawned = self.spawn_listener();
                self.inputs.push_front(match spawned {
                    Ok(()) => Input::ListenerSpawned,
                    Err(why) => {
                        tracing::error!("{why}");
                        Input::ListenerSpawnFailed
                    }
                });
            }
            Order::Drain => {
                self.doors.keep(&[]);
                let limit = self.loaded.plan.server.shutdown_limit;
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                self.tell(&ToListener::Drain { limit_ms }, Vec::new());
            }
            Order::Stop => self.tell(&ToListener::Stop, Vec::new()),
            Order::KillListener { why } => self.kill_listener(why),
            Order::Pool { pool, order } => self.carry(now, pool, &order),
            Order::Forget { pool } => self.forget(pool),
            Order::Finish { outcome } => self.outcome = Some(outcome),
        }
    }

    fn kill_listener(&mut self, why: KillReason) {
        match why {
            KillReason::StartupLimit => {
                tracing::error!("listener: not ready in time: it is silent. It is killed");
            }
            KillReason::ShutdownLimit => {
                tracing::warn!("listener: still there after its shutdown limit. It is killed");
            }
            KillReason::Impatience => {
                tracing::warn!(
                    "listener: asked a second time to end. It is killed with what it runs"
                );
            }
        }
        let process = self.listener.as_ref().map(|listener| &listener.child);
        if let Some(Err(error)) = process.map(Child::kill) {
            tracing::error!("listener: killing its process: {error}");
        }
    }
}
