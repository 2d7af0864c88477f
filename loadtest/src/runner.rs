//! Interleaved rounds: every front under every load once a round, in an order that turns, so that a
//! machine that drifts or a place in the order favours nobody.

use crate::application::Application;
use crate::failure::Failure;
use crate::front::{Front, Product, REFERENCE};
use crate::processes::{CpuTimes, core_busy};
use crate::report::verdict::CONTROL;
use crate::report::{Case, Row, Sample};
use crate::rig::Rig;
use crate::say;
use crate::stats::percentile;
use crate::swarm::{Repair, Swarm};
use crate::wrk;
use std::time::Duration;

/// One kind of load, and what to call it.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) title: String,
    pub(crate) generator: Generator,
}

#[derive(Clone, Debug)]
pub(crate) enum Generator {
    Wrk(wrk::Order),
    /// Our own, where opening the connections must not be counted.
    Swarm {
        connections: usize,
        window: usize,
    },
}

impl Generator {
    /// Whether the requests reach the application's own process.
    fn asks_application(&self, front: &Front) -> bool {
        let uploads = matches!(self, Self::Wrk(wrk::Order { upload: Some(_), .. }));
        front.recipe.product != Product::Bare && !uploads
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) rounds: u32,
    pub(crate) seconds: u64,
}

/// Place of a measurement in a round: a front, and whether it is the control.
#[derive(Clone, Copy, Debug)]
struct Turn {
    front: usize,
    row: usize,
}

/// Before the first round each front is warmed up once: caches, upstream connections, allocator.
pub(crate) fn measure(
    rig: &Rig,
    application: &Application,
    fronts: &mut [Front],
    load: &Load,
    rounds: Rounds,
) -> Result<Case, Failure> {
    let mut rows: Vec<Row> =
        fronts.iter().map(|front| Row { front: front.name(), samples: Vec::new() }).collect();
    let mut turns: Vec<Turn> = (0..rows.len()).map(|at| Turn { front: at, row: at }).collect();
    if let Some(reference) = fronts.iter().position(|front| front.name() == REFERENCE) {
        // Half a round away from the first, so that the two see different moments.
        let middle = (reference + turns.len().div_ceil(2)) % (turns.len() + 1);
        turns.insert(middle, Turn { front: reference, row: rows.len() });
        rows.push(Row { front: CONTROL.to_owned(), samples: Vec::new() });
    }
    for front in fronts.iter_mut() {
        sample(rig, application, front, &load.generator, 1)?;
    }
    for round in 0..rounds.rounds {
        say(&format!("{}: round {} of {}", load.title, round + 1, rounds.rounds));
        let shift = round as usize % turns.len();
        for turn in turns[shift..].iter().chain(&turns[..shift]) {
            let front = &mut fronts[turn.front];
            let taken = sample(rig, application, front, &load.generator, rounds.seconds)?;
            rows[turn.row].samples.push(taken);
        }
    }
    Ok(Case { title: load.title.clone(), rows })
}

/// Readings on both sides of a measurement.
#[derive(Debug)]
struct Reading {
    front: CpuTimes,
    application: CpuTimes,
    busy: u64,
}

impl Reading {
    fn take(rig: &Rig, application: &Application, front: &Front) -> Self {
        Self {
            front: CpuTimes::of(front.pid()),
            application: CpuTimes::of(application.pid()),
            busy: core_busy(rig.cores.front),
        }
    }
}

/// What a generator found, by whichever it was.
#[derive(Clone, Copy, Debug)]
struct Found {
    requests: u64,
    duration_us: u64,
    errors: u64,
    p50_us: f64,
    p99_us: f64,
}

fn sample(
    rig: &Rig,
    application: &Application,
    front: &mut Front,
    generator: &Generator,
    seconds: u64,
) -> Result<Sample, Failure> {
    front.expect_running()?;
    // Opened before the readings, so that what it costs is not counted.
    let mut swarm = match generator {
        Generator::Wrk(_) => None,
        Generator::Swarm { connections, window } => {
            Some(warmed_swarm(front.port, *connections, *window)?)
        }
    };
    let counted = front.counters();
    let before = Reading::take(rig, application, front);
    let found = match (generator, &mut swarm) {
        (Generator::Wrk(order), _) => by_wrk(rig, front.port, order, seconds)?,
        (Generator::Swarm { window, .. }, Some(swarm)) => by_swarm(swarm, *window, seconds)?,
        (Generator::Swarm { .. }, None) => unreachable!("opened a few lines above"),
    };
    let after = Reading::take(rig, application, front);
    let counted_after = front.counters();
    let spent = before.front.until(&after.front);
    if spent.threads_ended > 0 {
        return Err(Failure::new(format!(
            "measuring {}: {} of its threads ended under load, so its CPU time is not known. It said: {}",
            front.name(),
            spent.threads_ended,
            front.errors()
        )));
    }
    if found.requests == 0 {
        let errors = found.errors;
        return Err(Failure::new(format!(
            "measuring {}: no request was answered ({errors} errors). It said: {}",
            front.name(),
            front.errors()
        )));
    }
    let both = counted.zip(counted_after);
    Ok(Sample {
        requests: found.requests,
        duration_us: found.duration_us,
        errors: found.errors,
        p50_us: found.p50_us,
        p99_us: found.p99_us,
        front_ns: spent.ns,
        application_ns: generator
            .asks_application(front)
            .then(|| before.application.until(&after.application).ns),
        foreign_ns: after.busy.saturating_sub(before.busy).saturating_sub(spent.ns),
        enters: both.map(|(a, b)| b.enters.saturating_sub(a.enters)),
        calls: both.map(|(a, b)| b.calls.saturating_sub(a.calls)),
    })
}

fn by_wrk(rig: &Rig, port: u16, order: &wrk::Order, seconds: u64) -> Result<Found, Failure> {
    let outcome = wrk::finish(wrk::start(rig, port, order, seconds)?, seconds)?;
    Ok(Found {
        requests: outcome.requests,
        duration_us: outcome.duration_us,
        errors: outcome.errors(),
        p50_us: outcome.p50_us,
        p99_us: outcome.p99_us,
    })
}

/// All connections open and used once or more.
fn warmed_swarm(port: u16, connections: usize, window: usize) -> Result<Swarm, Failure> {
    let mut swarm = Swarm::connect(port, connections)?;
    swarm.greet(64, Duration::from_secs(20))?;
    swarm.run(window, Duration::from_millis(500), Repair::Leave)?;
    Ok(swarm)
}

fn by_swarm(swarm: &mut Swarm, window: usize, seconds: u64) -> Result<Found, Failure> {
    let warm = swarm.take_tally();
    let ran = swarm.run(window, Duration::from_secs(seconds), Repair::Leave)?;
    let duration_us = u64::try_from(ran.as_micros()).unwrap_or(u64::MAX);
    let mut tally = swarm.take_tally();
    Ok(Found {
        requests: tally.answered,
        duration_us,
        // What broke while warming up is missing from the load now, so it is an error too.
        errors: tally.wrong + tally.broken + tally.refused + warm.wrong + warm.broken,
        p50_us: f64::from(percentile(&mut tally.latencies_us, 50)),
        p99_us: f64::from(percentile(&mut tally.latencies_us, 99)),
    })
}
