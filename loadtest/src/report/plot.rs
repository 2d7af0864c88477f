//! A report as a picture: for every load a group of horizontal bars, CPU per request on the left and
//! requests per second on the right. Plain SVG, no script, no font but the reader's own.

use super::verdict::CONTROL;
use super::{Case, Report, Row};
use std::fmt::Write;

const WIDTH: f64 = 1_100.0;
const NAMES: f64 = 190.0;
const PANEL: f64 = 380.0;
const GAP: f64 = 75.0;
const BAR: f64 = 20.0;
const TOP: f64 = 86.0;
const GROUP_TITLE: f64 = 30.0;
const AXIS: f64 = 52.0;

struct Panel {
    left: f64,
    title: &'static str,
    unit: &'static str,
    most: f64,
    value: fn(&Row) -> f64,
}

pub(crate) fn draw(report: &Report) -> String {
    let rows = |case: &Case| case.rows.iter().filter(|row| row.front != CONTROL).count();
    let lines: f64 = report.cases.iter().map(|case| GROUP_TITLE + BAR * width(rows(case))).sum();
    let (bottom, height) = (TOP + lines, TOP + lines + AXIS);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let title = format!("loadtest {}: one CPU for the front", report.scenario);
    label(&mut svg, 16.0, 28.0, "start", "font-size=\"18\" font-weight=\"bold\"", &title);
    let origin = format!(
        "{}, {} × {}, Linux {}; medians of {} rounds of {} s",
        report.date,
        report.machine.cores,
        report.machine.processor,
        report.machine.kernel,
        report.settings.rounds,
        report.settings.seconds
    );
    label(&mut svg, 16.0, 48.0, "start", "fill=\"#666\"", &origin);
    let most = |value: fn(&Row) -> f64| {
        let all = report.cases.iter().flat_map(|case| &case.rows).map(value);
        nice(all.filter(|value| value.is_finite()).fold(0.0, f64::max))
    };
    let panels = [
        (
            NAMES,
            "CPU time of the front per request (less is better)",
            "µs",
            Row::cost as fn(&Row) -> f64,
        ),
        (NAMES + PANEL + GAP, "Requests per second (more is better)", "1/s", Row::rate),
    ]
    .map(|(left, title, unit, value)| Panel { left, title, unit, most: most(value), value });
    for panel in &panels {
        axis(&mut svg, panel, bottom);
    }
    let mut y = TOP;
    for case in &report.cases {
        label(&mut svg, 16.0, y + 20.0, "start", "font-weight=\"bold\"", &case.title);
        y += GROUP_TITLE;
        for row in case.rows.iter().filter(|row| row.front != CONTROL) {
            bar(&mut svg, row, &panels, y);
            y += BAR;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn axis(svg: &mut String, panel: &Panel, bottom: f64) {
    label(svg, panel.left, TOP - 12.0, "start", "font-weight=\"bold\"", panel.title);
    for step in 0..=4_u8 {
        let part = f64::from(step) / 4.0;
        let x = panel.left + PANEL * part;
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>"
        );
        let tick = format!("{}", panel.most * part);
        label(svg, x, bottom + 18.0, "middle", "fill=\"#666\"", &tick);
    }
    label(svg, panel.left + PANEL / 2.0, bottom + 38.0, "middle", "fill=\"#666\"", panel.unit);
}

fn bar(svg: &mut String, row: &Row, panels: &[Panel], y: f64) {
    label(svg, NAMES - 8.0, y + 14.0, "end", "", &row.front);
    for panel in panels {
        let value = (panel.value)(row);
        if !value.is_finite() {
            continue;
        }
        let length = PANEL * value / panel.most;
        let _ = writeln!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>",
            panel.left,
            y + 2.0,
            BAR - 4.0,
            colour(&row.front)
        );
        let text = if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        label(svg, panel.left + length + 5.0, y + 14.0, "start", "", &text);
    }
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, more: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{text}</text>"
    );
}

/// One a product, told apart without red and green.
fn colour(front: &str) -> &'static str {
    match front.split('-').next() {
        Some("bare") => "#999999",
        Some("nginx") => "#56a0d3",
        Some("haproxy") => "#e69f00",
        _ => "#5b3a8c",
    }
}

/// The next of 1, 2, 4 or 8 times a power of ten, so that quarters are round numbers.
fn nice(most: f64) -> f64 {
    let mut power = 1.0;
    while power * 10.0 < most {
        power *= 10.0;
    }
    [1.0, 2.0, 4.0, 8.0]
        .into_iter()
        .map(|step| step * power)
        .find(|&end| end >= most)
        .unwrap_or(power * 10.0)
}

fn width(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, row};
    use super::{draw, nice};

    #[test]
    fn axes_end_at_round_numbers() {
        let ends = [0.3, 1.0, 12.9, 41.0, 79_000.0, 81_000.0].map(nice);
        let expected = [1.0, 1.0, 20.0, 80.0, 80_000.0, 100_000.0];
        assert!(ends.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{ends:?}");
    }

    #[test]
    fn every_front_has_a_bar_in_both_panels() {
        let svg = draw(&report(vec![row("nginx-tcp", &[10]), row("bare", &[5])]));
        assert_eq!(svg.matches("<rect").count(), 1 + 4);
        assert_eq!(svg.matches("</text>").count(), svg.matches("<text").count());
        assert!(svg.contains("nginx-tcp") && svg.ends_with("</svg>\n"));
    }
}
