//! What a run is like: the garden's settings, with limits of seconds so that each is reached, and
//! how often each kind of trouble comes.

use super::dice::Dice;
use core::time::Duration;
use lychgate::machine::pool::seam::Trigger;
use lychgate::plan::garden::{Garden, Start};
use lychgate::plan::{Bind, Command};

/// What a worker weighs when it is to be recycled for it, and half of what it weighs then.
pub(crate) const HEAVY: u64 = 200_000_000;

/// Times in a hundred.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) spawn_fails: u64,
    pub(crate) never_ready: u64,
    pub(crate) slow: u64,
    pub(crate) dies: u64,
    pub(crate) dies_at_order: u64,
    pub(crate) ignores_term: u64,
    pub(crate) ignores_kill: u64,
    pub(crate) mute: u64,
    pub(crate) grows: u64,
    pub(crate) reports: u64,
    pub(crate) violates: u64,
    pub(crate) start_denied: u64,
}

impl Rates {
    pub(crate) const CALM: Self = Self {
        spawn_fails: 0,
        never_ready: 0,
        slow: 0,
        dies: 0,
        dies_at_order: 0,
        ignores_term: 0,
        ignores_kill: 0,
        mute: 0,
        grows: 0,
        reports: 0,
        violates: 0,
        start_denied: 0,
    };

    /// Each trouble is frequent in some runs and absent from others, so that one does not hide
    /// what another would show.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        if dice.percent(8) {
            return Self::CALM;
        }
        let mut rate = |often: u64| match dice.below(4) {
            0 | 1 => 0,
            2 => often / 5,
            _ => often,
        };
        Self {
            spawn_fails: rate(40),
            never_ready: rate(30),
            slow: rate(60),
            dies: rate(80),
            dies_at_order: rate(30),
            ignores_term: rate(60),
            ignores_kill: rate(40),
            mute: rate(60),
            grows: rate(60),
            reports: rate(60),
            violates: rate(40),
            start_denied: rate(30),
        }
    }
}

/// A garden whose `workers` is resolved.
pub(crate) fn garden(dice: &mut Dice) -> Garden {
    let command = Command {
        argv: vec![String::from("app")],
        bind: Bind::Port,
        working_directory: None,
        environment: Vec::new(),
        ready: None,
    };
    let mut garden = Garden::of(command);
    garden.workers = dice.small(1, 4);
    garden.start = if dice.percent(40) { Start::Always } else { Start::OnDemand };
    garden.workers_min = if dice.percent(50) { dice.small(0, garden.workers) } else { 0 };
    garden.autostart = !dice.percent(5);
    garden.slots = dice.one_of(&[0, 1, 1, 2, 4]);
    garden.queue.limit = dice.one_of(&[1, 5, 20]);
    garden.lifecycle.startup_limit = dice.ms(300, 3_000);
    garden.lifecycle.shutdown_limit = dice.ms(300, 7_000);
    garden.lifecycle.idle_timeout = dice.maybe_ms(60, 1_000, 6_000);
    garden.lifecycle.orphan = dice.percent(25);
    garden.lifecycle.orphans_max = dice.small(0, 3);
    garden.health.ping_interval = dice.maybe_ms(60, 500, 3_000);
    garden.health.ping_timeout = dice.ms(300, 3_000);
    garden.health.deadlock_interval = dice.maybe_ms(50, 2_000, 5_000);
    garden.health.deadlock_pause = dice.ms(1_000, 12_000);
    triggers(dice, &mut garden);
    garden.rapid_fail.failures = u32::from(dice.small(0, 6));
    garden.rapid_fail.window = dice.ms(2_000, 40_000);
    garden
}

fn triggers(dice: &mut Dice, garden: &mut Garden) {
    let recycle = &mut garden.recycle;
    recycle.every = dice.maybe_ms(30, 3_000, 20_000);
    recycle.at = if dice.percent(50) { vec![60] } else { Vec::new() };
    recycle.jitter = dice.one_of(&[0, 10, 50]);
    recycle.requests = if dice.percent(30) { dice.range(1, 30) } else { 0 };
    recycle.private_memory = if dice.percent(40) { HEAVY } else { 0 };
    recycle.virtual_memory = if dice.percent(40) { HEAVY } else { 0 };
    recycle.memory_percent = if dice.percent(40) { 50 } else { 0 };
    recycle.overlap = dice.percent(70);
    recycle.on_config_change = dice.percent(80);
    recycle.log = Trigger::ALL.into_iter().filter(|_| dice.percent(70)).collect();
}

/// Another plan for the same pool. What counts failures stays, so that they can be counted.
pub(crate) fn replan(dice: &mut Dice, old: &Garden) -> Garden {
    let mut new = garden(dice);
    new.rapid_fail.clone_from(&old.rapid_fail);
    if dice.percent(60) {
        new.workers = old.workers;
        new.workers_min = old.workers_min;
        new.start = old.start;
    }
    new
}

/// The same garden, with nothing that recycles a worker by itself.
pub(crate) fn calm(old: &Garden) -> Garden {
    let mut garden = old.clone();
    garden.recycle.every = None;
    garden.recycle.requests = 0;
    garden.recycle.private_memory = 0;
    garden.recycle.virtual_memory = 0;
    garden.recycle.memory_percent = 0;
    garden
}

/// Workers that are kept without demand.
pub(crate) fn target(garden: &Garden) -> usize {
    let kept = match garden.start {
        Start::Always => garden.workers,
        Start::OnDemand => garden.workers_min.min(garden.workers),
    };
    usize::from(kept)
}

/// How long a settled garden takes to be settled again, whatever it has to end and to start.
pub(crate) fn settling(garden: &Garden) -> Duration {
    let each = garden.lifecycle.startup_limit.min(Duration::from_secs(1))
        + Duration::from_secs(1)
        + if garden.recycle.overlap { Duration::ZERO } else { garden.lifecycle.shutdown_limit * 3 };
    each * u32::from(garden.workers) + Duration::from_secs(25)
}
