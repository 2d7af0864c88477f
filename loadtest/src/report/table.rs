//! A report as Markdown.

use super::verdict::{Finding, better, relative};
use super::{Case, Report, Row, Table};
use crate::front::REFERENCE;
use std::fmt::Write;

/// A page of its own, beside the JSON.
pub(crate) fn page(report: &Report) -> String {
    format!("# loadtest {}\n\n{}", report.scenario, body(report))
}

/// The same without a title, to stand in another page.
pub(crate) fn body(report: &Report) -> String {
    let mut text = origin(report);
    for case in &report.cases {
        let _ = write!(text, "\n{}", markdown(&case_table(case)));
    }
    for table in &report.tables {
        let _ = write!(text, "\n{}", markdown(table));
    }
    if !report.verdicts.is_empty() {
        let _ = write!(text, "\n{}", markdown(&verdict_table(report)));
    }
    if !report.warnings.is_empty() {
        text.push_str("\nTo be careful about:\n\n");
        report.warnings.iter().for_each(|warning| {
            let _ = writeln!(text, "- {warning}");
        });
    }
    text
}

fn origin(report: &Report) -> String {
    let (machine, settings) = (&report.machine, &report.settings);
    let mut text = format!(
        "{}. {} × {}, {} MiB, Linux {}; load average before: {:.2}. {}, {}, {}, {}.\n",
        report.date,
        machine.cores,
        machine.processor,
        machine.memory_mib,
        machine.kernel,
        machine.load_average,
        machine.lychgate,
        machine.nginx,
        machine.haproxy,
        machine.wrk,
    );
    let _ = write!(
        text,
        "Front on CPU {}, application and generator on CPU {}",
        settings.front_core, settings.load_core
    );
    if report.cases.is_empty() {
        text.push_str(".\n");
    } else {
        let (rounds, seconds) = (settings.rounds, settings.seconds);
        let _ = writeln!(text, "; medians of {rounds} rounds of {seconds} s.");
    }
    text
}

fn case_table(case: &Case) -> Table {
    let counted = case.rows.iter().any(|row| row.enters().is_some());
    let mut columns: Vec<&str> = vec![
        "front",
        "requests/s",
        "CPU µs/request",
        "least",
        "±",
        "× nginx",
        "× better",
        "p50",
        "p99",
        "front busy",
        "application µs",
    ];
    if counted {
        columns.extend(["enters/request", "calls/request"]);
    }
    let rows = case.rows.iter().map(|row| cells(case, row, counted)).collect();
    let columns = columns.into_iter().map(String::from).collect();
    Table { title: case.title.clone(), columns, rows }
}

fn cells(case: &Case, row: &Row, counted: bool) -> Vec<String> {
    let against = |to: Option<Vec<f64>>| to.map_or_else(dash, |to| fixed(relative(row, &to), 2));
    let mut cells = vec![
        row.front.clone(),
        thousands(row.rate()),
        fixed(row.cost(), 2),
        fixed(row.cost_least(), 2),
        format!("{:.1} %", row.cost_spread() * 50.0),
        against(case.row(REFERENCE).map(Row::front_us)),
        against(better(case)),
        time(row.p50_us()),
        time(row.p99_us()),
        format!("{:.0} %", row.busy() * 100.0),
        row.application_us().map_or_else(dash, |us| fixed(us, 2)),
    ];
    if counted {
        let count = |value: Option<f64>| value.map_or_else(dash, |value| fixed(value, 2));
        cells.extend([count(row.enters()), count(row.calls())]);
    }
    cells
}

fn verdict_table(report: &Report) -> Table {
    let row = |verdict: &super::Verdict| {
        let finding = match verdict.finding {
            Finding::Met => "met",
            Finding::Missed => "**missed**",
            Finding::Open => "no conclusion: too much noise or too few rounds",
        };
        vec![verdict.goal.clone(), verdict.measured.clone(), finding.to_owned()]
    };
    Table {
        title: "Goals".to_owned(),
        columns: ["goal", "measured", "finding"].map(String::from).to_vec(),
        rows: report.verdicts.iter().map(row).collect(),
    }
}

fn markdown(table: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<String> = (0..table.columns.len())
        .map(|at| if at == 0 { "---".to_owned() } else { "--:".to_owned() })
        .collect();
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    format!("**{}**\n\n{}{}{rows}", table.title, line(&table.columns), line(&rule))
}

fn dash() -> String {
    "–".to_owned()
}

fn fixed(value: f64, places: usize) -> String {
    if value.is_finite() { format!("{value:.places$}") } else { dash() }
}

fn thousands(value: f64) -> String {
    let digits = fixed(value, 0);
    let grouped: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    if value.is_finite() {
        String::from_utf8_lossy(&grouped.join(&b',')).into_owned()
    } else {
        digits
    }
}

/// µs in the unit that suits.
fn time(us: f64) -> String {
    if us < 1_000.0 { format!("{us:.0} µs") } else { format!("{:.2} ms", us / 1_000.0) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, row};
    use super::{page, thousands, time};

    #[test]
    fn a_page_has_ratios_and_counters() {
        let rows = vec![
            row("nginx-tcp", &[100; 5]),
            row("haproxy-tcp", &[80; 5]),
            row("lychgate-uring-tcp", &[60; 5]),
        ];
        let page = page(&report(rows));
        let line = page.lines().find(|line| line.contains("lychgate-uring")).unwrap();
        assert!(line.contains("| 0.60 | 0.75 |") && line.contains("| 0.50 | 0.50 |"), "{line}");
        let nginx = page.lines().find(|line| line.starts_with("| nginx")).unwrap();
        assert!(nginx.contains("| 1.00 | 1.25 |") && nginx.ends_with("| – | – |"), "{nginx}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!((time(123.4), time(1_250.0)), ("123 µs".to_owned(), "1.25 ms".to_owned()));
    }
}
