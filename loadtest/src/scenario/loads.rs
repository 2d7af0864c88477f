//! The scenarios that are rows of requests: small answers, many connections, bodies, connecting.

use super::Stage;
use crate::application::BODIES;
use crate::failure::Failure;
use crate::report::verdict::{relative, relay_goals, warnings};
use crate::report::{Report, Table};
use crate::runner::{Generator, Load, Rounds, measure};
use crate::wrk::Order;

/// Of ten thousand clients most are silent at any moment, and a front that had one upstream connection
/// for each would need more descriptors than many systems allow.
const UNDER_WAY_MAX: usize = 1_000;

pub(super) fn compare(stage: &Stage<'_>) -> Result<Report, Failure> {
    let connections = stage.options.connections.unwrap_or(64) as usize;
    let load = Load {
        title: format!("{connections} connections kept open, answers of 13 bytes"),
        generator: by_wrk(connections, "/"),
    };
    let mut report = under(stage, "compare", &[load])?;
    report.verdicts = report.cases.first().map(relay_goals).unwrap_or_default();
    Ok(report)
}

pub(super) fn connections(stage: &mut Stage<'_>) -> Result<Report, Failure> {
    // Every request under way may have its upstream connection, and every front may keep as many.
    stage.terms.idle = stage.terms.idle.max(UNDER_WAY_MAX);
    let loads = [64, 1_000, 10_000].map(|connections| {
        let window = connections.min(UNDER_WAY_MAX);
        let title = format!("{connections} connections, {window} requests under way");
        Load { title, generator: Generator::Swarm { connections, window } }
    });
    let mut report = under(stage, "connections", &loads)?;
    report.tables.push(growth(&report));
    Ok(report)
}

pub(super) fn bodies(stage: &mut Stage<'_>) -> Result<Report, Failure> {
    let connections = stage.options.connections.unwrap_or(64) as usize;
    let down = BODIES.map(|(name, size)| Load {
        title: format!("{} KiB down, {connections} connections", size >> 10),
        generator: by_wrk(connections, &format!("/{name}")),
    });
    let up = BODIES.map(|(_, size)| Load {
        title: format!("{} KiB up, {connections} connections", size >> 10),
        generator: Generator::Wrk(Order {
            connections,
            path: "/sink".to_owned(),
            upload: Some(size),
            close: false,
        }),
    });
    // The bare application takes no uploads, so it has no row here.
    stage.recipes.retain(|recipe| recipe.name() != "bare");
    under(stage, "bodies", &[down, up].concat())
}

pub(super) fn connect(stage: &Stage<'_>) -> Result<Report, Failure> {
    let connections = stage.options.connections.unwrap_or(64) as usize;
    let order = Order { connections, path: "/".to_owned(), upload: None, close: true };
    let load = Load {
        title: format!("a connection for each request, {connections} at a time"),
        generator: Generator::Wrk(order),
    };
    under(stage, "connect", &[load])
}

fn by_wrk(connections: usize, path: &str) -> Generator {
    Generator::Wrk(Order { connections, path: path.to_owned(), upload: None, close: false })
}

fn under(stage: &Stage<'_>, scenario: &str, loads: &[Load]) -> Result<Report, Failure> {
    let rounds = Rounds { rounds: stage.options.rounds, seconds: stage.seconds(2) };
    let mut report = stage.report(scenario, rounds.seconds);
    let mut fronts = stage.fronts()?;
    for load in loads {
        let case = measure(&stage.rig, &stage.application, &mut fronts, load, rounds)?;
        report.warnings.extend(warnings(&case));
        report.cases.push(case);
    }
    for front in &fronts {
        let workers = crate::processes::ring_workers(front.pid());
        if workers > 0 {
            let name = front.name();
            report.warnings.push(format!("{name}: io_uring started {workers} helper threads"));
        }
    }
    Ok(report)
}

/// Cost at more connections relative to the fewest.
fn growth(report: &Report) -> Table {
    let title = |case: &crate::report::Case| case.title.clone();
    let columns = ["front".to_owned()].into_iter().chain(report.cases.iter().map(title));
    let rows = report.cases.first().map_or(&[][..], |case| &case.rows);
    let line = |row: &crate::report::Row| {
        let costs = report.cases.iter().map(|case| {
            case.row(&row.front).map_or_else(String::new, |other| {
                format!("{:.2}", relative(other, &row.front_us()))
            })
        });
        [row.front.clone()].into_iter().chain(costs).collect()
    };
    Table {
        title: "CPU per request relative to the fewest connections".to_owned(),
        columns: columns.collect(),
        rows: rows.iter().map(line).collect(),
    }
}
