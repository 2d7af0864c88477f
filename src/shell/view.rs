//! What the control API shows, as JSON: stable names, for programs. The command line prints the
//! same as tables. Times are Unix seconds, ages and durations milliseconds, memory bytes.

use crate::shell::control::RequestRow;
use serde::{Deserialize, Serialize};

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: i32,
    /// "starting", "running" or "ending".
    pub state: String,
    pub uptime_ms: u64,
    pub configuration: String,
    pub revision: u64,
    /// Why the last reload was refused; absent when it was not.
    pub refused: Option<String>,
    pub listener: ListenerRow,
    pub listening: Vec<String>,
    pub pools: usize,
    pub workers: usize,
    pub workers_max: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerRow {
    pub pid: i32,
    pub engine: String,
    pub threads: u16,
    /// Died and was started again so often.
    pub restarts: u64,
}

/// `GET /v1/pools`: an array of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRow {
    pub name: String,
    /// "running", "paused", "stopped", "tripped", "invalid", or "external" for `servers`.
    pub state: String,
    /// Why it is in this state, or why its last worker failed; empty when all is well.
    pub why: String,
    /// The last lines that the last failed worker wrote.
    pub last_words: Vec<String>,
    pub workers_serving: u32,
    /// All processes of the pool but orphans.
    pub workers_alive: u32,
    pub workers_max: u32,
    pub waiting: u32,
    pub executing: u32,
    pub starts: u64,
    pub recycles: u64,
    pub failures: u64,
    /// Within the window of rapid-fail.
    pub failures_recent: u32,
    pub orphans: u32,
    /// The next start waits this long after failures.
    pub backoff_ms: Option<u64>,
}

/// `GET /v1/workers`: an array of these; `GET /v1/orphans` the same, of orphans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    pub pool: String,
    pub slot: u16,
    pub generation: u32,
    pub pid: i32,
    /// "starting", "admitted", "serving", "draining", "terminating", "killing" or "orphaned".
    pub state: String,
    /// Why it is replaced, or orphaned; empty else.
    pub reason: String,
    pub age_ms: u64,
    pub state_ms: u64,
    pub executing: u32,
    pub requests: u64,
    pub private_memory: u64,
    pub virtual_memory: u64,
    pub address: String,
    /// What it said of itself (`STATUS=`).
    pub status: String,
}

/// `GET /v1/requests?pool=NAME&older_ms=N`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    pub rows: Vec<RequestRow>,
    /// There were more than [`crate::shell::control::ROWS_MAX`].
    pub is_cut: bool,
}

/// `GET /v1/events?after=SEQ&limit=N`: an array of these; with `follow=true` one JSON object a
/// line, without end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Counts up by one; a gap means that events were dropped.
    pub sequence: u64,
    /// Unix time in milliseconds.
    pub time_ms: u64,
    pub id: u16,
    pub event: String,
    /// "info", "warning" or "error".
    pub severity: String,
    pub pool: String,
    pub slot: Option<u16>,
    pub generation: Option<u32>,
    pub pid: Option<i32>,
    pub reason: Option<String>,
    pub text: String,
}

/// `POST /v1/pools/NAME/{recycle,stop,start,pause,resume}` (`pause?max=N`),
/// `POST /v1/orphans/PID/end`, `POST /v1/reload`: what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub text: String,
}

/// Every answer with a status of 4xx or 5xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub error: String,
}
