//! A new configuration: all of it comes into force, or none and the log says why.

use super::command::{Slot, is_same};
use super::{Origin, Supervisor, start};
use crate::machine::command::{CommandId, Input, Wanted};
use crate::plan::diff::{self, Change};
use crate::plan::{AccessLog, Garden, Plan, Source};
use crate::shell::config::{self, Loaded};
use crate::shell::control::ToListener;
use crate::shell::logs::operational;
use crate::sys::clock;
use std::collections::BTreeMap;

impl Supervisor {
    pub(super) fn reload(&mut self) {
        if self.machine.is_ending() {
            return;
        }
        let Origin::File(path) = self.origin.clone() else {
            tracing::warn!(
                "reloading: there is no file, the embedded quickstart runs. Nothing changes"
            );
            return;
        };
        tracing::info!("reloading {}", path.display());
        let usec = clock::now().0 / 1000;
        self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
        let taken = config::load(&path)
            .map_err(|report| report.to_string())
            .and_then(|loaded| self.take(loaded));
        if let Err(why) = taken {
            for line in why.lines() {
                tracing::error!("{line}");
            }
            tracing::error!(
                "reloading {}: refused. The configuration before stays",
                path.display()
            );
            self.notify("READY=1\nSTATUS=The last reload was refused");
        }
    }

    /// What can fail comes first and is undone; from the doors on nothing can.
    fn take(&mut self, loaded: Loaded) -> Result<(), String> {
        let text = start::seal(&loaded.text)?;
        let is_same_log = loaded.plan.server.log.access == self.loaded.plan.server.log.access;
        let access_log = if is_same_log {
            self.access_log.clone()
        } else {
            start::open_access_log(&loaded.plan.server.log.access)?
        };
        let (plan_doors, opened) = self.doors.open(&loaded.plan.listeners)?;
        for change in diff::diff(&self.loaded.plan, &loaded.plan) {
            let told = change.tell(&self.loaded.plan, &loaded.plan);
            if let Change::Postponed { .. } = change {
                tracing::warn!("reloading: {told}");
            } else {
                tracing::info!("reloading: {told}");
            }
        }
        operational::set_level(loaded.plan.server.log.level);
        let before = commands(&self.loaded.plan);
        self.loaded = loaded;
        (self.text, self.plan_doors, self.access_log) = (text, plan_doors, access_log);
        self.revision += 1;
        if !is_same_log {
            self.tell_log();
        }
        let closed = self.doors.keep(&self.plan_doors);
        for door in closed {
            self.tell(&ToListener::Shut { door }, Vec::new());
        }
        self.tell_configuration();
        self.tell_open(&opened);
        self.planned(&before);
        Ok(())
    }

    /// Tells the machine which commands the plan in force wants; `before` are those of the plan
    /// before it.
    pub(super) fn planned(&mut self, before: &BTreeMap<String, Garden>) {
        let mut wanted = Vec::new();
        for (pool, Garden { command, lifecycle, .. }) in commands(&self.loaded.plan) {
            let (startup_limit, shutdown_limit) =
                (lifecycle.startup_limit, lifecycle.shutdown_limit);
            let old = before.contains_key(&pool).then(|| self.newest(&pool)).flatten();
            let same = old.filter(|id| is_same(&self.commands[id].command, &command));
            let id = same.unwrap_or_else(|| self.name(pool, command));
            let replaces = old.filter(|old| *old != id);
            wanted.push(Wanted { id, replaces, startup_limit, shutdown_limit });
        }
        let shutdown_limit = self.loaded.plan.server.shutdown_limit;
        self.inputs.push_back(Input::Planned { commands: wanted, shutdown_limit });
    }

    /// The command of a pool that came last.
    fn newest(&self, pool: &str) -> Option<CommandId> {
        let of_pool = self.commands.iter().filter(|(_, slot)| slot.pool == pool);
        of_pool.map(|(id, _)| *id).max()
    }

    fn name(&mut self, pool: String, command: crate::plan::Command) -> CommandId {
        self.commands_named += 1;
        let id = CommandId(self.commands_named);
        self.commands.insert(id, Slot { id, pool, command, generation: 0, running: None });
        id
    }

    pub(super) fn reopen_log(&mut self) {
        if self.loaded.plan.server.log.access == AccessLog::Off {
            tracing::info!("reopening the access log: there is none (server.log.access)");
            return;
        }
        match start::open_access_log(&self.loaded.plan.server.log.access) {
            Ok(log) => {
                self.access_log = log;
                self.tell_log();
                tracing::info!("reopened the access log");
            }
            Err(why) => tracing::error!("{why}. The file before stays open"),
        }
    }
}

/// Pool to command.
fn commands(plan: &Plan) -> BTreeMap<String, Garden> {
    let each = plan.pools.iter().filter_map(|pool| match &pool.source {
        Source::Garden(garden) => Some((pool.name.clone(), Garden::clone(garden))),
        Source::Servers(_) | Source::Invalid(_) => None,
    });
    each.collect()
}
