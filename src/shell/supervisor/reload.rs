//! A new configuration: all of it comes into force, or none and the log says why.

use super::garden::Pool;
use super::heir::Legacy;
use super::{Origin, Supervisor, start};
use crate::base::limits;
use crate::machine::pool::seam::Input as PoolInput;
use crate::machine::supervisor::seam::{Input, PoolId, PoolPlan};
use crate::plan::diff::{self, Change};
use crate::plan::{AccessLog, Command, Garden, Plan, Source};
use crate::shell::config::{self, Loaded};
use crate::shell::control::ToListener;
use crate::shell::logs::operational;
use crate::sys::{clock, memfd};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

impl Supervisor {
    /// The error is in the log already.
    pub(super) fn reload(&mut self) -> Result<(), String> {
        if self.machine.is_ending() {
            return Err("reloading: lychgate ends".to_owned());
        }
        let Origin::File(path) = self.origin.clone() else {
            let why = "reloading: there is no file, the embedded quickstart runs. Nothing changes";
            tracing::warn!("{why}");
            return Err(why.to_owned());
        };
        tracing::info!("reloading {}", path.display());
        let usec = clock::now().0 / 1000;
        self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
        let taken = config::load(&path).map_err(|report| report.to_string()).and_then(|loaded| {
            loaded.may_replace(&self.loaded.plan).map_err(|report| report.to_string())?;
            loaded.complain();
            self.take(loaded)
        });
        self.operator.refused = taken.as_ref().err().cloned();
        if let Err(why) = &taken {
            for line in why.lines() {
                tracing::error!("{line}");
            }
            tracing::error!(
                "reloading {}: refused. The configuration before stays",
                path.display()
            );
            self.notify("READY=1\nSTATUS=The last reload was refused");
        }
        taken
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
        self.loaded = loaded;
        (self.text, self.plan_doors, self.access_log) = (text, plan_doors, access_log);
        self.revision += 1;
        self.paper.outdate(clock::now());
        if !is_same_log {
            self.tell_log();
        }
        let closed = self.doors.keep(&self.plan_doors);
        for door in closed {
            self.tell(&ToListener::Shut { door }, Vec::new());
        }
        self.planned();
        self.tell_configuration();
        self.tell_open(&opened);
        Ok(())
    }

    /// Tells the machine which gardens the plan in force wants.
    pub(super) fn planned(&mut self) {
        for pool in self.pools.values_mut() {
            pool.is_planned = false;
        }
        let mut plans = Vec::new();
        let mut outdated = Vec::new();
        for (name, mut garden) in gardens(&self.loaded.plan) {
            if garden.workers == 0 {
                garden.workers = start::available_cpus()
                    .min(u16::try_from(limits::WORKERS_MAX).unwrap_or(u16::MAX));
            }
            let known = self.pool_named(&name);
            let id = known.unwrap_or_else(|| {
                self.pools_named += 1;
                PoolId(self.pools_named)
            });
            let garden_told = garden.clone();
            let pool = self.pools.entry(id).or_insert_with(|| Pool::new(id, name, garden.clone()));
            let is_changed = !diff::is_same(&pool.garden.command, &garden.command);
            (pool.garden, pool.is_planned) = (garden, true);
            if is_changed {
                pool.release = None;
            }
            pool.page =
                self.loaded.pages.get(&pool.name).and_then(|page| match memfd::sealed(page) {
                    Ok(page) => Some(Arc::new(page)),
                    Err(error) => {
                        tracing::error!("pool {}: sealing its error page: {error}", pool.name);
                        None
                    }
                });
            let mut legacy = Legacy::default();
            if known.is_none() {
                legacy = self.legacy.inherit(pool, self.estate.as_ref());
            }
            if legacy.is_changed {
                outdated.push(id);
            }
            let legacy = legacy.machine;
            plans.push(PoolPlan { id, garden: garden_told, is_changed, legacy });
        }
        let server = &self.loaded.plan.server;
        let (workers_max, shutdown_limit) = (server.workers_max, server.shutdown_limit);
        self.inputs.push_back(Input::Planned { pools: plans, workers_max, shutdown_limit });
        for pool in outdated {
            self.inputs.push_back(Input::Pool { pool, input: PoolInput::Released });
        }
        self.end_rest();
        self.report_invalid();
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

/// Of one command, as long as it starts the same process.
pub(super) fn fingerprint(command: &Command) -> u64 {
    let Command { argv, bind, working_directory, environment, ready: _ } = command;
    let mut hasher = DefaultHasher::new();
    format!("{argv:?} {bind:?} {working_directory:?} {environment:?}").hash(&mut hasher);
    hasher.finish()
}

/// By pool.
fn gardens(plan: &Plan) -> BTreeMap<String, Box<Garden>> {
    let each = plan.pools.iter().filter_map(|pool| match &pool.source {
        Source::Garden(garden) => Some((pool.name.clone(), garden.clone())),
        Source::Servers(_) | Source::Invalid(_) => None,
    });
    each.collect()
}
