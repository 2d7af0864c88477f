//! Carrying out what the machine orders.

use super::command::{Ground, advice};
use super::runtime::Runtime;
use super::{Listener, Supervisor};
use crate::base::time::Instant;
use crate::machine::command::{Child, CommandId, Input, KillReason, Order};
use crate::shell::control::{Channel, ToListener};
use crate::sys::fdpass;
use crate::sys::process::{Launch, Program};
use std::io::{stderr, stdout};
use std::os::fd::AsFd;
use std::sync::Arc;

/// What the listener needs of our environment.
const LISTENER_ENVIRONMENT: [&str; 5] =
    ["RUST_LOG", "RUST_BACKTRACE", "JOURNAL_STREAM", "NO_COLOR", "TZ"];
/// The allocator would ask for huge pages: two megabytes of memory for the first byte of each, so
/// that idle connections seem to cost kilobytes. docs/decisions/004 has the measurement.
const ALLOCATOR_OPTION: (&str, &str) = ("MIMALLOC_ALLOW_THP", "0");

impl Supervisor {
    pub(super) fn obey(&mut self, now: Instant, order: Order) {
        match order {
            Order::Spawn { child } => {
                let spawned = match child {
                    Child::Listener => self.spawn_listener(),
                    Child::Command(id) => self.spawn_command(now, id),
                };
                self.inputs.push_front(match spawned {
                    Ok(()) => Input::Spawned { child },
                    Err(why) => {
                        tracing::error!("{why}");
                        Input::SpawnFailed { child }
                    }
                });
            }
            Order::Serve { command } => self.serve(command),
            Order::Unserve { command } => self.unserve(command),
            Order::Drain => {
                self.doors.keep(&[]);
                let limit = self.loaded.plan.server.shutdown_limit;
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                self.tell(&ToListener::Drain { limit_ms }, Vec::new());
            }
            Order::Stop => self.tell(&ToListener::Stop, Vec::new()),
            Order::Terminate { command } => self.terminate(command),
            Order::Kill { child, why } => self.kill(child, why),
            Order::Forget { command } => {
                self.commands.remove(&command);
            }
            Order::Finish { outcome } => self.outcome = Some(outcome),
        }
    }

    fn spawn_listener(&mut self) -> Result<(), String> {
        let say = |error: std::io::Error| format!("starting the listener: {error}");
        let (ours, theirs) = fdpass::pair().map_err(say)?;
        let argv = ["lychgate", "listener"].map(str::to_owned);
        let environment: Vec<(String, String)> = LISTENER_ENVIRONMENT
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .chain([(ALLOCATOR_OPTION.0.to_owned(), ALLOCATOR_OPTION.1.to_owned())])
            .collect();
        let (out, err) = (stdout(), stderr());
        let launch = Launch {
            program: Program::Ourselves,
            argv: &argv,
            environment: &environment,
            directory: Some("/"),
            stdout: out.as_fd(),
            stderr: err.as_fd(),
            third: Some(theirs.as_fd()),
            identity: None,
            open_files: None,
            umask: None,
            leads_group: true,
            ends_with_parent: false,
            wants_listen_pid: false,
        };
        let child = launch.start().map_err(|why| format!("starting the listener: {why}"))?;
        tracing::info!("listener: process {} started", child.pid());
        self.listener = Some(Listener { child, channel: Some(Channel::new(ours)) });
        let identity = self.identity.clone();
        self.tell(&ToListener::Begin { threads: self.threads, identity }, Vec::new());
        self.tell_log();
        self.tell_configuration();
        let doors = self.plan_doors.clone();
        self.tell_open(&doors);
        Ok(())
    }

    pub(super) fn tell_log(&mut self) {
        let descriptors = self.access_log.iter().map(Arc::clone).collect();
        self.tell(&ToListener::Log, descriptors);
    }

    /// The plan, and after it what is known of the processes of its pools.
    pub(super) fn tell_configuration(&mut self) {
        let (revision, doors) = (self.revision, self.plan_doors.clone());
        let name = self.origin.name();
        let text = Arc::clone(&self.text);
        self.tell(&ToListener::Configure { revision, name, doors }, vec![text]);
        for (pool, address) in self.served.clone() {
            let address = Some(address.to_string());
            self.tell(&ToListener::Served { pool, address }, Vec::new());
        }
    }

    pub(super) fn tell_open(&mut self, doors: &[u16]) {
        for (sockets, descriptors) in self.doors.batches(doors) {
            self.tell(&ToListener::Open { sockets }, descriptors);
        }
    }

    fn spawn_command(&mut self, now: Instant, id: CommandId) -> Result<(), String> {
        let runtime = match &mut self.runtime {
            Some(runtime) => runtime,
            none => none.insert(Runtime::make(self.identity.as_ref())?),
        };
        let identity = self.identity.as_ref();
        let ground = Ground { runtime, identity, open_files: self.open_files };
        let Some(slot) = self.commands.get_mut(&id) else {
            return Err(format!("starting command {}: it is not known", id.0));
        };
        let started = slot.start(&ground, now);
        started.map_err(|why| format!("pool {}: starting {why}", slot.pool))?;
        let pid = slot.running.as_ref().map_or(0, |running| running.child.pid());
        tracing::info!(
            "pool {}: process {pid} started: {}",
            slot.pool,
            slot.command.argv.join(" ")
        );
        Ok(())
    }

    fn serve(&mut self, id: CommandId) {
        let Some(slot) = self.commands.get(&id) else { return };
        let Some(running) = &slot.running else { return };
        let (pool, address) = (slot.pool.clone(), running.address.clone());
        self.served.insert(pool.clone(), address.clone());
        let address = Some(address.to_string());
        self.tell(&ToListener::Served { pool, address }, Vec::new());
    }

    fn unserve(&mut self, id: CommandId) {
        let Some(slot) = self.commands.get(&id) else { return };
        let pool = slot.pool.clone();
        self.served.remove(&pool);
        self.tell(&ToListener::Served { pool, address: None }, Vec::new());
    }

    fn terminate(&mut self, id: CommandId) {
        let Some(slot) = self.commands.get_mut(&id) else { return };
        let Some(running) = &mut slot.running else { return };
        running.probe = None;
        running.is_ending = true;
        if let Err(error) = running.child.terminate() {
            tracing::error!("pool {}: ending its process: {error}", slot.pool);
        }
    }

    fn kill(&mut self, child: Child, why: KillReason) {
        let (name, process, limit, obstacle) = match child {
            Child::Listener => {
                let process = self.listener.as_ref().map(|listener| &listener.child);
                ("listener".to_owned(), process, String::new(), "it is silent".to_owned())
            }
            Child::Command(id) => {
                let Some(slot) = self.commands.get_mut(&id) else { return };
                let Some(running) = &mut slot.running else { return };
                running.is_ending = true;
                let probe = running.probe.take();
                let obstacle = probe.map(|probe| probe.obstacle).unwrap_or_default();
                let advice = advice(slot.command.bind);
                let obstacle = format!("{}: {obstacle}. {advice}", running.address);
                let limit = " (lifecycle.startup_limit)".to_owned();
                (format!("pool {}", slot.pool), Some(&running.child), limit, obstacle)
            }
        };
        match why {
            KillReason::StartupLimit => {
                tracing::error!("{name}: not ready in time{limit}: {obstacle}. It is killed");
            }
            KillReason::ShutdownLimit => {
                tracing::warn!("{name}: still there after its shutdown limit. It is killed");
            }
            KillReason::Impatience => {
                tracing::warn!(
                    "{name}: asked a second time to end. It is killed with what it runs"
                );
            }
        }
        if let Some(Err(error)) = process.map(crate::sys::process::Child::kill) {
            tracing::error!("{name}: killing its process: {error}");
        }
    }
}
