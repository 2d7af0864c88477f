//! Tables and numbers for people: aligned, one row a line however long, the same into a pipe.

use crate::shell::visible::shown;
use std::fmt::Write as _;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

pub(super) use Align::{Left, Right};

#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// An empty cell is shown as a dash, so that columns can be counted.
    pub(super) fn row(&mut self, cells: [String; N]) {
        let visible = |cell: String| match cell.as_str() {
            "" => "-".to_owned(),
            text => shown(text).into_owned(),
        };
        self.rows.push(cells.map(visible));
    }

    pub(super) fn text(&self) -> String {
        let widths: [usize; N] = std::array::from_fn(|at| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([self.columns[at].0.len()]).max().unwrap_or(0)
        });
        let header = self.columns.map(|(name, _)| name.to_owned());
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(widths).zip(self.columns) {
                // Writing to a string cannot fail.
                let _ = match align {
                    Left => write!(line, "{cell:<width$}  "),
                    Right => write!(line, "{cell:>width$}  "),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// The two largest units of a time: `0.4s`, `41s`, `3m12s`, `29h05m`, `12d03h`.
pub(super) fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..172_800 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Bytes with three digits or so: `512B`, `41.2MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let (mut scaled, mut unit) = (bytes, 0);
    // In whole numbers, and rounded down: 1023.97 KiB is not yet a MiB.
    let mut rest = 0;
    while scaled >= 1024 && unit < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    format!("{scaled}.{}{}", rest * 10 / 1024, UNITS[unit - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let mut table = Table::new([("POOL", Left), ("PID", Right), ("NOTE", Left)]);
        table.row(["shop".into(), "7".into(), String::new()]);
        table.row(["a-long-name".into(), "12345".into(), "x\u{1b}[31m\ny".into()]);
        table.row(["ümläut".into(), String::new(), "last".into()]);
        assert_eq!(
            table.text(),
            "POOL           PID  NOTE\n\
             shop             7  -\n\
             a-long-name  12345  x\\u{1b}[31m\\u{a}y\n\
             ümläut           -  last\n"
        );
    }

    #[test]
    fn ages_and_sizes_are_short() {
        const DAY: u64 = 86_400_000;
        for (ms, text) in [
            (0, "0.0s"),
            (999, "0.9s"),
            (9_999, "9.9s"),
            (10_000, "10s"),
            (59_999, "59s"),
            (192_000, "3m12s"),
            (3_599_999, "59m59s"),
            (29 * 3_600_000 + 300_000, "29h05m"),
            (2 * DAY - 1, "47h59m"),
            (12 * DAY + 3 * 3_600_000, "12d03h"),
            (u64::MAX, "213503982334d14h"),
        ] {
            assert_eq!(age(ms), text);
        }
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (43_253_760, "41.2MiB"),
            (1_048_575, "1023.9KiB"),
            (1 << 30, "1.0GiB"),
            (u64::MAX, "16383.9PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
