//! What a connection costs that has made one request and now says nothing.

use super::Stage;
use crate::failure::Failure;
use crate::front::Product;
use crate::processes::{Memory, memory};
use crate::report::verdict::Verdict;
use crate::report::{Report, Table};
use crate::say;
use crate::stats::per;
use crate::swarm::Swarm;
use std::time::Duration;

/// Opened and closed before the first reading, so that what a front allocates once is in it.
const WARM: usize = 128;
/// Requests under way at a time: fewer than the upstream connections a front may keep.
const WINDOW: usize = 64;
const LIMIT: Duration = Duration::from_mins(1);
/// Goal, bytes of user memory.
const GOAL: f64 = 1_024.0;

pub(super) fn run(stage: &Stage<'_>) -> Result<Report, Failure> {
    let count = stage.options.connections.unwrap_or(10_000) as usize;
    let mut report = stage.report("idle", stage.seconds(0));
    let mut rows = Vec::new();
    for mut front in stage.fronts()? {
        say(&format!("{}: {count} idle connections", front.name()));
        Swarm::connect(front.port, WARM)?.greet(WINDOW, LIMIT)?;
        let before = memory(front.pid());
        let mut swarm = Swarm::connect(front.port, count)?;
        let answered = swarm.greet(WINDOW, LIMIT)?;
        let after = memory(front.pid());
        front.expect_running()?;
        if answered != count as u64 {
            return Err(Failure::new(format!(
                "opening {count} connections to {}: only {answered} were answered",
                front.name()
            )));
        }
        let each = per_connection(before, after, count);
        if matches!(front.recipe.product, Product::Lychgate(_)) {
            report.verdicts.push(Verdict::new(
                format!("{}: at most 1 KiB of user memory an idle connection", front.name()),
                format!("{:.0} bytes", each.anonymous),
                each.anonymous <= GOAL,
            ));
        }
        rows.push(vec![
            front.name(),
            format!("{:.0}", each.anonymous),
            format!("{:.0}", each.resident),
            before.anonymous.to_string(),
            after.anonymous.to_string(),
        ]);
    }
    report.tables.push(Table {
        title: format!("User memory of {count} idle connections, each used once"),
        columns: [
            "front",
            "anonymous bytes/connection",
            "resident bytes/connection",
            "anonymous KiB before",
            "anonymous KiB after",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    });
    Ok(report)
}

struct Each {
    anonymous: f64,
    resident: f64,
}

fn per_connection(before: Memory, after: Memory, count: usize) -> Each {
    let each = |before: u64, after: u64| {
        // A front that gave memory back costs less than nothing, and that is no cost.
        per(after.saturating_sub(before) * 1_024, count as u64)
    };
    Each {
        anonymous: each(before.anonymous, after.anonymous),
        resident: each(before.resident, after.resident),
    }
}

#[cfg(test)]
mod tests {
    use super::per_connection;
    use crate::processes::Memory;

    #[test]
    fn memory_is_shared_out() {
        let before = Memory { resident: 1_000, anonymous: 100 };
        let after = Memory { resident: 900, anonymous: 1_100 };
        let each = per_connection(before, after, 1_000);
        assert!((each.anonymous - 1_024.0).abs() < 1e-9 && each.resident.abs() < 1e-9);
    }
}
