//! The data threads of the listener process, from its control side.

use crate::base::time::nanos;
use crate::machine::listener::Shared;
use crate::plan::Plan;
use crate::shell::control::AffinityKey;
use crate::shell::data::{self, Message, Peer, Report, Settings};
use crate::shell::logs::{AccessLog, operational};
use crate::sys::{clock, process};
use crossbeam::channel::{Sender, unbounded};
use std::sync::Arc;
use std::thread::Builder;

#[derive(Debug)]
pub(super) struct Threads {
    peers: Arc<[Peer]>,
}

impl Threads {
    pub(super) fn start(
        count: u16,
        plan: &Arc<Plan>,
        key: &AffinityKey,
        log: &AccessLog,
        reports: &Sender<Report>,
    ) -> Result<Self, String> {
        operational::set_level(plan.server.log.level);
        let shared = Arc::new(Shared::default());
        let mut peers = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..count {
            let (messages, inbox) = unbounded();
            let bell = process::event().map_err(|error| format!("making an eventfd: {error}"))?;
            peers.push(Peer { messages, bell: Arc::new(bell) });
            inboxes.push(inbox);
        }
        let peers: Arc<[Peer]> = peers.into();
        // Differs between processes and threads; no secret hangs on it.
        let seed = clock::wall_origin() ^ nanos(clock::now().since(crate::base::time::Instant(0)));
        for ((thread, peer), messages) in (0..).zip(&*peers).zip(inboxes) {
            let wake =
                peer.bell.try_clone().map_err(|error| format!("copying an eventfd: {error}"))?;
            let settings = Settings {
                thread,
                engine: plan.server.engine,
                seed: seed.wrapping_add(u64::from(thread).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                affinity_key: key.clone(),
                shared: Arc::clone(&shared),
                messages,
                peers: Arc::clone(&peers),
                wake,
                log: log.sender(),
                reports: reports.clone(),
            };
            Builder::new()
                .name(format!("data-{thread}"))
                .spawn(move || run(settings))
                .map_err(|error| format!("starting data thread {thread}: {error}"))?;
        }
        Ok(Self { peers })
    }

    pub(super) fn count(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn tell(&self, thread: u16, message: Message) -> Result<(), String> {
        let Some(peer) = self.peers.get(usize::from(thread)) else {
            return Err(format!("a message is for thread {thread}, which does not exist"));
        };
        peer.tell(message).map_err(|error| format!("waking a thread: {error}"))
    }

    pub(super) fn tell_all(&self, message: impl Fn() -> Message) -> Result<(), String> {
        self.tell_others(None, message)
    }

    /// To all but one.
    pub(super) fn tell_others(
        &self,
        but: Option<u16>,
        message: impl Fn() -> Message,
    ) -> Result<(), String> {
        let others = (0..).zip(&*self.peers).map(|(thread, _)| thread);
        others
            .filter(|thread| Some(*thread) != but)
            .try_for_each(|thread| self.tell(thread, message()))
    }
}

/// A panic of one thread ends the process: the supervisor starts a whole one, on the same sockets.
fn run(settings: Settings) {
    let (thread, reports) = (settings.thread, settings.reports.clone());
    let body = std::panic::AssertUnwindSafe(|| data::run(settings));
    if std::panic::catch_unwind(body).is_err() {
        let why = "it panicked; the line before says where. Please report it".to_owned();
        let _ = reports.send(Report::Failed { thread, why });
    }
}
