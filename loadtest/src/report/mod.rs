//! What a run found, as data: written as JSON, shown as tables and a plot, judged against the goals.

pub(crate) mod docs;
pub(crate) mod machine;
pub(crate) mod plot;
pub(crate) mod table;
pub(crate) mod verdict;

use crate::failure::{Failure, while_doing};
use crate::stats::{least, median, number, per, spread};
use machine::Machine;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use verdict::Verdict;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    /// Loads, each with a row for every front.
    pub(crate) cases: Vec<Case>,
    /// What does not fit rows of requests: memory, restarts, leaks.
    pub(crate) tables: Vec<Table>,
    pub(crate) verdicts: Vec<Verdict>,
    /// Why these numbers deserve less trust.
    pub(crate) warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) rounds: u32,
    pub(crate) seconds: u64,
    pub(crate) front_core: usize,
    pub(crate) load_core: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) front: String,
    /// One a round, in the order of the rounds, so that rows can be compared round by round.
    pub(crate) samples: Vec<Sample>,
}

/// One front under one load for a few seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) duration_us: u64,
    pub(crate) errors: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// CPU time of the front, all its processes and threads.
    pub(crate) front_ns: u64,
    /// The same of the application behind it; `None` of uploads, which go to a thread of loadtest.
    pub(crate) application_ns: Option<u64>,
    /// Busy time of the front's CPU that was not the front's: other programs, interrupts, the hypervisor.
    pub(crate) foreign_ns: u64,
    /// lychgate only.
    pub(crate) enters: Option<u64>,
    pub(crate) calls: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Sample {
    pub(crate) fn front_us(&self) -> f64 {
        per(self.front_ns, self.requests) / 1e3
    }

    fn rate(&self) -> f64 {
        per(self.requests, self.duration_us) * 1e6
    }

    fn share(&self, ns: u64) -> f64 {
        per(ns / 1_000, self.duration_us)
    }
}

impl Row {
    /// CPU µs per request, round by round.
    pub(crate) fn front_us(&self) -> Vec<f64> {
        self.each(Sample::front_us)
    }

    pub(crate) fn cost(&self) -> f64 {
        median(&self.front_us())
    }

    fn cost_least(&self) -> f64 {
        least(&self.front_us())
    }

    pub(crate) fn cost_spread(&self) -> f64 {
        spread(&self.front_us())
    }

    fn application_us(&self) -> Option<f64> {
        self.counted(|sample| sample.application_ns).map(|ns| ns / 1e3)
    }

    pub(crate) fn rate(&self) -> f64 {
        median(&self.each(Sample::rate))
    }

    fn p50_us(&self) -> f64 {
        median(&self.each(|sample| sample.p50_us))
    }

    fn p99_us(&self) -> f64 {
        median(&self.each(|sample| sample.p99_us))
    }

    /// How much of its CPU the front used: near 1, it was the limit; below, the generator was.
    fn busy(&self) -> f64 {
        median(&self.each(|sample| sample.share(sample.front_ns)))
    }

    pub(crate) fn foreign(&self) -> f64 {
        median(&self.each(|sample| sample.share(sample.foreign_ns)))
    }

    pub(crate) fn errors(&self) -> u64 {
        self.samples.iter().map(|sample| sample.errors).sum()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.samples.iter().map(|sample| sample.requests).sum()
    }

    /// Waits for the kernel per request; `None` unless counted in every round.
    pub(crate) fn enters(&self) -> Option<f64> {
        self.counted(|sample| sample.enters)
    }

    /// System calls of the data path per request, waits included.
    fn calls(&self) -> Option<f64> {
        self.counted(|sample| Some(sample.enters? + sample.calls?))
    }

    fn counted(&self, count: impl Fn(&Sample) -> Option<u64>) -> Option<f64> {
        let each = |sample: &Sample| Some(number(count(sample)?) / number(sample.requests.max(1)));
        let all: Option<Vec<f64>> = self.samples.iter().map(each).collect();
        all.filter(|values| !values.is_empty()).map(|values| median(&values))
    }

    fn each(&self, value: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(value).collect()
    }
}

impl Case {
    pub(crate) fn row(&self, front: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.front == front)
    }
}

impl Report {
    /// `SCENARIO.json`, `SCENARIO.md` and, if there are loads to draw, `SCENARIO.svg`.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let writing =
            |path: &Path| while_doing::<std::io::Error>(format!("writing {}", path.display()));
        fs::create_dir_all(folder).map_err(writing(folder))?;
        let json = serde_json::to_string_pretty(self).map_err(while_doing("writing JSON"))?;
        let file = |ending: &str| folder.join(format!("{}.{ending}", self.scenario));
        let write = |ending: &str, text: String| {
            fs::write(file(ending), text).map_err(writing(&file(ending)))
        };
        write("json", json + "\n")?;
        write("md", table::page(self))?;
        if !self.cases.is_empty() {
            write("svg", plot::draw(self))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::machine::Machine;
    use super::{Case, Report, Row, Sample, Settings};

    /// A front whose rounds cost so many µs a request, at 1,000 requests each.
    pub(crate) fn row(front: &str, costs: &[u64]) -> Row {
        let sample = |&us: &u64| Sample {
            requests: 1_000,
            duration_us: 1_000_000,
            errors: 0,
            p50_us: 100.0,
            p99_us: 1_500.0,
            front_ns: us * 1_000_000,
            application_ns: Some(5_000_000),
            foreign_ns: 0,
            enters: front.starts_with("lychgate").then_some(500),
            calls: front.starts_with("lychgate").then_some(0),
        };
        Row { front: front.to_owned(), samples: costs.iter().map(sample).collect() }
    }

    pub(crate) fn report(rows: Vec<Row>) -> Report {
        let case = Case { title: "64 connections".to_owned(), rows };
        Report {
            scenario: "compare".to_owned(),
            date: "2026-01-01 00:00 UTC".to_owned(),
            machine: Machine::default(),
            settings: Settings { rounds: 5, seconds: 2, front_core: 0, load_core: 1 },
            cases: vec![case],
            tables: Vec::new(),
            verdicts: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn rows_are_summed_up_per_request() {
        let row = row("lychgate-uring-tcp", &[10, 12, 11]);
        assert!((row.cost() - 11.0).abs() < 1e-9 && (row.cost_least() - 10.0).abs() < 1e-9);
        assert!((row.rate() - 1_000.0).abs() < 1e-9);
        assert_eq!(row.enters(), Some(0.5));
        assert!((row.busy() - 0.011).abs() < 1e-9);
        assert_eq!(super::tests::row("nginx-tcp", &[10]).enters(), None);
    }

    #[test]
    fn reports_come_back_from_json() {
        let report = report(vec![row("nginx-tcp", &[10])]);
        let json = serde_json::to_string(&report).unwrap();
        let back: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(back.cases[0].rows[0].samples[0].front_ns, 10_000_000);
    }
}
