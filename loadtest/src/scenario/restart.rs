//! The listener is killed under load. The supervisor holds the listening sockets, so nobody may be
//! refused; connections break at most once each; and service must be back quickly.

use super::Stage;
use crate::clock;
use crate::failure::{Failure, while_doing};
use crate::front::Front;
use crate::front::lychgate::listener;
use crate::probe;
use crate::report::verdict::Verdict;
use crate::report::{Report, Table};
use crate::say;
use crate::swarm::{Repair, Swarm};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::net::TcpStream;
use std::thread::{sleep, spawn};
use std::time::Duration;

const CONNECTIONS: u32 = 64;
/// Goal, from the kill to the first good answer on a connection opened after it.
const BACK_MAX: Duration = Duration::from_millis(200);
/// Between two kills: long enough to be no series of failures that has to be slowed down.
const CALM: Duration = Duration::from_secs(12);
const OUTAGE_MAX: Duration = Duration::from_secs(10);
/// New connections through the time around the kill: one each millisecond.
const PROBES: usize = 400;
const PROBE_STEP: Duration = Duration::from_millis(1);

pub(super) fn run(stage: &Stage<'_>) -> Result<Report, Failure> {
    let mut report = stage.report("restart", stage.seconds(2));
    let connections = stage.options.connections.unwrap_or(CONNECTIONS) as usize;
    let mut rows = Vec::new();
    for mut front in stage.fronts()? {
        let mut swarm = Swarm::connect(front.port, connections)?;
        let mut kills = Vec::new();
        for round in 0..stage.options.rounds {
            say(&format!("{}: kill {} of {}", front.name(), round + 1, stage.options.rounds));
            let calm = if round == 0 { Duration::from_secs(1) } else { CALM };
            kills.push(once(&mut front, &mut swarm, calm, stage.seconds(2))?);
        }
        rows.extend(kills.iter().map(|kill| kill.cells(&front.name())));
        report.verdicts.extend(judge(&front.name(), &kills));
    }
    report.tables.push(Table {
        title: format!("kill -9 of the listener under {connections} connections"),
        columns: [
            "front",
            "refused",
            "broken (of those under load)",
            "most breaks of one connection",
            "back after, ms",
            "connections made meanwhile",
            "of them answered",
            "of them broken",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    });
    Ok(report)
}

#[derive(Clone, Copy, Debug)]
struct Kill {
    refused: u64,
    broken: u64,
    breaks_max: u32,
    back: Option<Duration>,
    probes: Probes,
}

/// What became of the connections made around the kill.
#[derive(Clone, Copy, Debug, Default)]
struct Probes {
    refused: u64,
    answered: u64,
    broken: u64,
}

fn once(
    front: &mut Front,
    swarm: &mut Swarm,
    calm: Duration,
    seconds: u64,
) -> Result<Kill, Failure> {
    let all = usize::MAX;
    swarm.run(all, calm, Repair::Reopen)?;
    swarm.take_tally();
    swarm.take_breaks();
    let pid = listener(front.pid()).ok_or_else(|| {
        Failure::new(format!("looking for the listener of {}: none", front.name()))
    })?;
    let port = front.port;
    let prober = spawn(move || knock(port));
    // Some connections are made before the kill, some after.
    swarm.run(all, PROBE_STEP * 50, Repair::Reopen)?;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)
        .map_err(while_doing(format!("killing the listener of {}", front.name())))?;
    let killed = clock::now();
    swarm.mark();
    while swarm.tally.first_fresh.is_none() && clock::since(killed) < OUTAGE_MAX {
        swarm.run(all, Duration::from_millis(1), Repair::Reopen)?;
    }
    let back = swarm.tally.first_fresh.map(|at| at.saturating_sub(killed));
    swarm.run(all, Duration::from_secs(seconds), Repair::Reopen)?;
    let probes =
        prober.join().map_err(|_| Failure::new("knocking around the kill: it panicked"))?;
    front.expect_running()?;
    let tally = swarm.take_tally();
    Ok(Kill {
        refused: tally.refused + probes.refused,
        broken: tally.broken,
        breaks_max: swarm.take_breaks(),
        back,
        probes,
    })
}

/// Connects and asks at a steady pace without waiting, then reads what came of it.
fn knock(port: u16) -> Probes {
    let mut probes = Probes::default();
    let mut open: Vec<TcpStream> = Vec::with_capacity(PROBES);
    let request = probe::request(port, "/");
    for _ in 0..PROBES {
        match probe::connect(probe::address(port)) {
            Err(_) => probes.refused += 1,
            Ok(mut stream) => match stream.write_all(&request) {
                Ok(()) => open.push(stream),
                Err(_) => probes.broken += 1,
            },
        }
        sleep(PROBE_STEP);
    }
    for mut stream in open {
        match probe::read_answer(&mut stream) {
            Ok(200) => probes.answered += 1,
            _ => probes.broken += 1,
        }
    }
    probes
}

fn judge(front: &str, kills: &[Kill]) -> [Verdict; 3] {
    let refused: u64 = kills.iter().map(|kill| kill.refused).sum();
    let breaks = kills.iter().map(|kill| kill.breaks_max).max().unwrap_or(0);
    let slowest =
        kills.iter().map(|kill| kill.back.unwrap_or(OUTAGE_MAX)).max().unwrap_or_default();
    [
        Verdict::new(format!("{front}: no connection refused"), refused.to_string(), refused == 0),
        Verdict::new(
            format!("{front}: a connection breaks at most once a kill"),
            breaks.to_string(),
            breaks <= 1,
        ),
        Verdict::new(
            format!("{front}: service is back in under 200 ms"),
            format!("{:.1} ms at worst", slowest.as_secs_f64() * 1e3),
            slowest < BACK_MAX,
        ),
    ]
}

impl Kill {
    fn cells(&self, front: &str) -> Vec<String> {
        let back =
            self.back.map_or("never".to_owned(), |back| format!("{:.1}", back.as_secs_f64() * 1e3));
        let probes = self.probes;
        vec![
            front.to_owned(),
            self.refused.to_string(),
            self.broken.to_string(),
            self.breaks_max.to_string(),
            back,
            (PROBES as u64 - probes.refused).to_string(),
            probes.answered.to_string(),
            probes.broken.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::{Kill, Probes, judge};
    use crate::report::verdict::Finding;
    use std::time::Duration;

    #[test]
    fn each_goal_is_judged_on_its_worst_kill() {
        let good = Kill {
            refused: 0,
            broken: 64,
            breaks_max: 1,
            back: Some(Duration::from_millis(30)),
            probes: Probes::default(),
        };
        let findings = |kills: &[Kill]| judge("x", kills).map(|verdict| verdict.finding);
        assert_eq!(findings(&[good, good]), [Finding::Met; 3]);
        let bad = Kill { refused: 1, breaks_max: 2, back: None, ..good };
        assert_eq!(findings(&[good, bad, good]), [Finding::Missed; 3]);
    }
}
