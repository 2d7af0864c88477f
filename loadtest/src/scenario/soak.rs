//! Load for a minute beside clients that misbehave: descriptors and memory must not grow, nothing may
//! hang, and the listener must be the same process at the end.

use super::Stage;
use crate::clock;
use crate::failure::Failure;
use crate::front::Front;
use crate::front::lychgate::listener;
use crate::hostile::{Hostile, Mischief};
use crate::processes::{descriptors, memory};
use crate::report::verdict::Verdict;
use crate::report::{Report, Table};
use crate::rig::Rig;
use crate::say;
use crate::stats::{median, number};
use crate::wrk;
use std::thread::sleep;
use std::time::Duration;

const CONNECTIONS: u32 = 64;
const WARM_SECONDS: u64 = 5;
/// What may lie between the two medians of memory: a tenth, and half a MiB of chance.
const GROWTH_MAX: f64 = 1.10;
const GROWTH_FLOOR_KIB: f64 = 512.0;
/// Upstream connections are kept shortly here, so that only what leaks is left after a few seconds.
const IDLE_SECONDS: u64 = 3;
/// For the last connections to end: longer than the limits for slow bodies and slow applications.
const SETTLE_MAX: Duration = Duration::from_secs(75);

pub(super) fn run(stage: &mut Stage<'_>) -> Result<Report, Failure> {
    let seconds = stage.seconds(60);
    let connections = stage.options.connections.unwrap_or(CONNECTIONS) as usize;
    stage.terms.idle_seconds = IDLE_SECONDS;
    let mut report = stage.report("soak", seconds);
    let (mut rows, mut acts) = (Vec::new(), Vec::new());
    for mut front in stage.fronts()? {
        say(&format!("{}: {seconds} s of load and mischief", front.name()));
        let soaked = soak(&stage.rig, &mut front, connections, seconds)?;
        let name = front.name();
        rows.push(soaked.cells(&name));
        acts.extend(soaked.mischief.iter().map(|mischief| mischief.cells(&name)));
        report.verdicts.extend(soaked.judge(&name));
    }
    report.tables.push(Table {
        title: format!("{seconds} s at {connections} connections, with mischief beside"),
        columns: [
            "front",
            "requests",
            "errors",
            "descriptors at rest before",
            "and after",
            "most",
            "anonymous KiB early",
            "and late",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    });
    report.tables.push(Table {
        title: "What became of each mischief".to_owned(),
        columns: Mischief::COLUMNS.map(String::from).to_vec(),
        rows: acts,
    });
    Ok(report)
}

#[derive(Debug)]
struct Soaked {
    requests: u64,
    errors: u64,
    at_rest_before: usize,
    at_rest_after: usize,
    descriptors_max: usize,
    /// Medians of the second and of the last quarter.
    memory_early: f64,
    memory_late: f64,
    same_listener: bool,
    panicked: bool,
    mischief: Vec<Mischief>,
}

fn soak(rig: &Rig, front: &mut Front, connections: usize, seconds: u64) -> Result<Soaked, Failure> {
    let none = || Failure::new(format!("looking for the listener of {}: none", front.name()));
    let pid = listener(front.pid()).ok_or_else(none)?;
    let order = wrk::Order { connections, path: "/".to_owned(), upload: None, close: false };
    wrk::finish(wrk::start(rig, front.port, &order, WARM_SECONDS)?, WARM_SECONDS)?;
    let at_rest_before = settled(pid, 0);
    let hostile = Hostile::start(front.port);
    let load = wrk::start(rig, front.port, &order, seconds)?;
    let (mut open, mut memories) = (Vec::new(), Vec::new());
    let end = clock::now() + Duration::from_secs(seconds);
    while clock::now() < end {
        sleep(Duration::from_secs(1));
        open.push(descriptors(pid));
        memories.push(number(memory(pid).anonymous));
        front.expect_running()?;
    }
    let outcome = wrk::finish(load, seconds)?;
    let mischief = hostile.stop()?;
    let at_rest_after = settled(pid, at_rest_before);
    let quarter = (memories.len() / 4).max(1);
    let early =
        &memories[quarter.min(memories.len() - 1)..(2 * quarter).min(memories.len()).max(1)];
    let late = &memories[memories.len().saturating_sub(quarter)..];
    Ok(Soaked {
        requests: outcome.requests,
        errors: outcome.errors(),
        at_rest_before,
        at_rest_after,
        descriptors_max: open.into_iter().max().unwrap_or(0),
        memory_early: median(early),
        memory_late: median(late),
        same_listener: listener(front.pid()) == Some(pid),
        panicked: front.errors().contains("panicked"),
        mischief,
    })
}

/// Descriptors once they are down to `goal`, or do not change any more.
fn settled(pid: u32, goal: usize) -> usize {
    let deadline = clock::now() + SETTLE_MAX;
    let mut last = descriptors(pid);
    let mut still = 0;
    while last > goal && clock::now() < deadline && (goal > 0 || still < 5) {
        sleep(Duration::from_secs(1));
        let now = descriptors(pid);
        still = if now == last { still + 1 } else { 0 };
        last = now;
    }
    last
}

impl Soaked {
    fn judge(&self, front: &str) -> Vec<Verdict> {
        let hung: u64 = self.mischief.iter().map(|mischief| mischief.hung).sum();
        let grown = self.memory_late > self.memory_early * GROWTH_MAX
            && self.memory_late > self.memory_early + GROWTH_FLOOR_KIB;
        vec![
            Verdict::new(
                format!("{front}: no descriptor leaks"),
                format!("{} → {}", self.at_rest_before, self.at_rest_after),
                self.at_rest_after <= self.at_rest_before,
            ),
            Verdict::new(
                format!("{front}: memory does not grow"),
                format!("{:.0} → {:.0} KiB", self.memory_early, self.memory_late),
                !grown,
            ),
            Verdict::new(
                format!("{front}: the listener lives through it, without panic"),
                if self.same_listener { "same process" } else { "another process" },
                self.same_listener && !self.panicked,
            ),
            Verdict::new(
                format!("{front}: every bad input is answered or closed"),
                format!("{hung} hung"),
                hung == 0,
            ),
            Verdict::new(
                format!("{front}: well-behaved clients see no error"),
                format!("{} in {}", self.errors, self.requests),
                self.errors == 0,
            ),
        ]
    }

    fn cells(&self, front: &str) -> Vec<String> {
        vec![
            front.to_owned(),
            self.requests.to_string(),
            self.errors.to_string(),
            self.at_rest_before.to_string(),
            self.at_rest_after.to_string(),
            self.descriptors_max.to_string(),
            format!("{:.0}", self.memory_early),
            format!("{:.0}", self.memory_late),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::Soaked;
    use crate::report::verdict::Finding;

    fn soaked() -> Soaked {
        Soaked {
            requests: 1_000,
            errors: 0,
            at_rest_before: 20,
            at_rest_after: 20,
            descriptors_max: 200,
            memory_early: 5_000.0,
            memory_late: 5_400.0,
            same_listener: true,
            panicked: false,
            mischief: Vec::new(),
        }
    }

    fn missed(soaked: &Soaked) -> usize {
        soaked.judge("x").iter().filter(|verdict| verdict.finding == Finding::Missed).count()
    }

    #[test]
    fn each_kind_of_decay_is_told() {
        assert_eq!(missed(&soaked()), 0);
        assert_eq!(missed(&Soaked { at_rest_after: 21, ..soaked() }), 1);
        assert_eq!(missed(&Soaked { memory_late: 5_600.0, ..soaked() }), 1);
        assert_eq!(missed(&Soaked { panicked: true, ..soaked() }), 1);
        assert_eq!(missed(&Soaked { same_listener: false, errors: 1, ..soaked() }), 2);
    }
}
