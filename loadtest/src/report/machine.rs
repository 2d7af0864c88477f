//! Where a run was made: numbers without it mean nothing.

use crate::tools;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Command;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) memory_mib: u64,
    pub(crate) nginx: String,
    pub(crate) haproxy: String,
    pub(crate) wrk: String,
    /// Version and commit.
    pub(crate) lychgate: String,
    /// Of the last minute, before the run began.
    pub(crate) load_average: f64,
}

impl Machine {
    pub(crate) fn here(lychgate: &Path) -> Self {
        let processors = read("/proc/cpuinfo");
        Self {
            processor: field(&processors, "model name").to_owned(),
            cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: words(field(&read("/proc/meminfo"), "MemTotal")).next().unwrap_or(0) / 1024,
            nginx: tools::version("nginx", "-v").replace("nginx version: ", ""),
            haproxy: tools::version("haproxy", "-v")
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
            wrk: tools::version("wrk", "-v").split(" [").next().unwrap_or_default().to_owned(),
            lychgate: format!("{} {}", version(lychgate), commit()).trim().to_owned(),
            load_average: load_average(),
        }
    }
}

fn load_average() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

fn version(binary: &Path) -> String {
    let said = Command::new(binary).arg("--version").output().map(|output| output.stdout);
    String::from_utf8_lossy(&said.unwrap_or_default()).trim().to_owned()
}

/// Empty outside a clone.
fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(String::new, |text| format!("({})", String::from_utf8_lossy(&text).trim()))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(label, _)| label.trim() == name)
        .map_or("unknown", |(_, value)| value.trim())
}

fn words(text: &str) -> impl Iterator<Item = u64> {
    text.split(' ').filter_map(|word| word.parse().ok())
}
