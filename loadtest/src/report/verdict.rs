//! Goals met, missed, or not to be judged because the rounds disagree too much.

use super::{Case, Row};
use crate::front::REFERENCE;
use crate::stats::{median, spread};
use serde::{Deserialize, Serialize};

/// The reference is measured twice in each round; its two medians may differ by this much.
const CONTROL_MAX: f64 = 0.05;
/// Quartile distance of a ratio over the rounds, relative to its median.
const SPREAD_MAX: f64 = 0.10;
/// From here on a spread is told as a warning.
const SPREAD_WARN: f64 = 0.05;
/// Of the front's CPU, used by others: worth telling; too much to judge by.
const FOREIGN_WARN: f64 = 0.05;
const FOREIGN_MAX: f64 = 0.10;
/// Fewer rounds have no quartiles worth the name.
const ROUNDS_MIN: usize = 5;
/// Row of the reference's second measurement.
pub(crate) const CONTROL: &str = "nginx-tcp (again)";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Finding {
    Met,
    Missed,
    /// The noise was too large to say.
    Open,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) goal: String,
    pub(crate) measured: String,
    pub(crate) finding: Finding,
}

impl Verdict {
    pub(crate) fn new(goal: impl Into<String>, measured: impl Into<String>, met: bool) -> Self {
        let finding = if met { Finding::Met } else { Finding::Missed };
        Self { goal: goal.into(), measured: measured.into(), finding }
    }
}

/// A ratio of costs over the rounds: each round against the same round, so that a slow drift of the
/// machine cancels out.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    middle: f64,
    spread: f64,
    rounds: usize,
}

fn ratio(row: &Row, to: &[f64]) -> Ratio {
    let each: Vec<f64> = row.front_us().iter().zip(to).map(|(a, b)| a / b).collect();
    Ratio { middle: median(&each), spread: spread(&each), rounds: each.len() }
}

/// Cost of a row relative to another, the median over the rounds.
pub(crate) fn relative(row: &Row, to: &[f64]) -> f64 {
    ratio(row, to).middle
}

/// Costs of the better of nginx and HAProxy over TCP: whose median is less.
pub(crate) fn better(case: &Case) -> Option<Vec<f64>> {
    let (nginx, haproxy) = (case.row("nginx-tcp")?, case.row("haproxy-tcp")?);
    let better = if haproxy.cost() < nginx.cost() { haproxy } else { nginx };
    Some(better.front_us())
}

/// The goals of the relay, for the case of small answers on 64 connections.
pub(crate) fn relay_goals(case: &Case) -> Vec<Verdict> {
    let row = |name: &str| case.row(name);
    let costs = |name: &str| row(name).map(Row::front_us);
    let steady = control(case).is_none_or(|difference| difference <= CONTROL_MAX);
    let against = |front: &str, to: Option<Vec<f64>>, limit: f64, goal: &str| {
        let row = row(front)?;
        let steady = steady && row.foreign() <= FOREIGN_MAX;
        Some(judge(ratio(row, &to?), limit, goal, steady))
    };
    let enters = |front: &str| {
        let row = row(front)?;
        let enters = row.enters()?;
        let goal = format!("{front}: at most 0.7 enters per request");
        let mut verdict = Verdict::new(goal, format!("{enters:.2}"), enters <= 0.7);
        // A front that is kept from its CPU finds more work at each enter; none at all is a counter
        // that stands still.
        if row.foreign() > FOREIGN_MAX || enters == 0.0 {
            verdict.finding = Finding::Open;
        }
        Some(verdict)
    };
    [
        against(
            "lychgate-uring-tcp",
            better(case),
            0.88,
            "relay TCP to TCP (uring): CPU per request ≤ 0.88 × the better of nginx and HAProxy",
        ),
        against(
            "lychgate-uring-unix",
            costs(REFERENCE),
            0.72,
            "relay to a UNIX socket (uring): CPU per request ≤ 0.72 × nginx over TCP",
        ),
        against(
            "lychgate-epoll-tcp",
            costs("lychgate-uring-tcp"),
            1.08,
            "epoll ≤ 1.08 × uring, TCP to TCP",
        ),
        against(
            "lychgate-epoll-unix",
            costs("lychgate-uring-unix"),
            1.08,
            "epoll ≤ 1.08 × uring, to a UNIX socket",
        ),
        enters("lychgate-uring-tcp"),
        enters("lychgate-uring-unix"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn judge(ratio: Ratio, limit: f64, goal: &str, steady: bool) -> Verdict {
    let measured = format!("{:.3} (± {:.1} %)", ratio.middle, ratio.spread * 50.0);
    let mut verdict = Verdict::new(goal, measured, ratio.middle <= limit);
    if !steady || ratio.spread > SPREAD_MAX || ratio.rounds < ROUNDS_MIN || ratio.middle.is_nan() {
        verdict.finding = Finding::Open;
    }
    verdict
}

/// How far the two measurements of the reference differ.
fn control(case: &Case) -> Option<f64> {
    let (first, again) = (case.row(REFERENCE)?.cost(), case.row(CONTROL)?.cost());
    Some((first - again).abs() / first)
}

/// Everything about a case that should make its reader careful.
pub(crate) fn warnings(case: &Case) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(difference) = control(case).filter(|&difference| difference > CONTROL_MAX) {
        found.push(format!(
            "{}: the reference measured twice differs by {:.1} %: nothing is concluded",
            case.title,
            difference * 100.0
        ));
    }
    let foreign = case.rows.iter().map(Row::foreign).fold(0.0, f64::max);
    if foreign > FOREIGN_WARN {
        let percent = foreign * 100.0;
        found.push(format!("{}: others used up to {percent:.0} % of the front's CPU", case.title));
    }
    for row in &case.rows {
        let at = |what: String| format!("{}, {}: {what}", case.title, row.front);
        let spread = row.cost_spread();
        if spread > SPREAD_WARN {
            found.push(at(format!("rounds spread by {:.1} %", spread * 100.0)));
        }
        if row.errors() > 0 {
            found.push(at(format!("{} errors in {} requests", row.errors(), row.requests())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, row};
    use super::{CONTROL, Finding, Row, relay_goals, warnings};

    fn findings(again: u64, lychgate: &[u64]) -> Vec<Finding> {
        let rows = vec![
            row("nginx-tcp", &[100; 5]),
            row("haproxy-tcp", &[95; 5]),
            row("lychgate-uring-tcp", lychgate),
            row(CONTROL, &[again; 5]),
        ];
        relay_goals(&report(rows).cases[0]).iter().map(|verdict| verdict.finding).collect()
    }

    #[test]
    fn goals_are_met_missed_or_left_open() {
        assert_eq!(findings(100, &[80, 81, 82, 83, 84]), [Finding::Met, Finding::Met]);
        assert_eq!(findings(100, &[90, 90, 90, 90, 90]), [Finding::Missed, Finding::Met]);
        assert_eq!(findings(106, &[80; 5])[0], Finding::Open, "the control differs");
        assert_eq!(findings(100, &[60, 70, 80, 90, 99])[0], Finding::Open, "rounds differ");
        assert_eq!(findings(100, &[80; 4])[0], Finding::Open, "too few rounds");
    }

    #[test]
    fn a_front_that_was_kept_from_its_cpu_is_not_judged() {
        let mut ours = row("lychgate-uring-tcp", &[80; 5]);
        let judged = |ours: &Row| {
            let rows =
                vec![row("nginx-tcp", &[100; 5]), row("haproxy-tcp", &[95; 5]), ours.clone()];
            let verdicts = relay_goals(&report(rows).cases[0]);
            verdicts.iter().map(|verdict| verdict.finding).collect::<Vec<_>>()
        };
        assert_eq!(judged(&ours), [Finding::Met, Finding::Met]);
        ours.samples.iter_mut().for_each(|sample| sample.enters = Some(0));
        assert_eq!(judged(&ours), [Finding::Met, Finding::Open], "a counter that stands still");
        ours.samples.iter_mut().for_each(|sample| {
            sample.enters = Some(500);
            sample.foreign_ns = 110_000_000;
        });
        assert_eq!(judged(&ours), [Finding::Open, Finding::Open], "others used 11 %");
    }

    #[test]
    fn doubts_are_told() {
        let mut noisy = row("nginx-tcp", &[80, 90, 100, 110, 120]);
        noisy.samples[0].errors = 3;
        noisy.samples.iter_mut().for_each(|sample| sample.foreign_ns = 60_000_000);
        let case = report(vec![noisy, row(CONTROL, &[120; 5])]).cases.remove(0);
        let told = warnings(&case).join("\n");
        assert!(told.contains("twice differs by 20.0 %"), "{told}");
        assert!(told.contains("spread by 20.0 %") && told.contains("3 errors"), "{told}");
        assert!(told.contains("others used up to 6 %"), "{told}");
        let calm = report(vec![row("nginx-tcp", &[100; 5])]).cases.remove(0);
        assert_eq!(warnings(&calm), Vec::<String>::new());
    }
}
