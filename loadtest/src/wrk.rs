//! wrk as the generator: a closed loop of so many connections, one thread.

use crate::child::Child;
use crate::failure::{Failure, while_doing};
use crate::rig::Rig;
use crate::tools;
use serde::Deserialize;
use std::time::Duration;

/// What wrk asks for.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) connections: usize,
    pub(crate) path: String,
    /// Bytes of a body to send by POST; `None` = GET.
    pub(crate) upload: Option<usize>,
    /// A connection for each request.
    pub(crate) close: bool,
}

/// What wrk counted. Latencies in µs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) duration_us: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

impl Outcome {
    pub(crate) fn errors(&self) -> u64 {
        self.connect + self.read + self.write + self.status + self.timeout
    }
}

const MARK: &str = "outcome:";

/// Prints the outcome as one line of JSON. Only `done` is defined beside static fields, so that wrk
/// prepares the request once and never calls Lua while it measures.
const DONE: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'outcome:{"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"#;

/// Starts it; [`finish`] waits for what it found.
pub(crate) fn start(rig: &Rig, port: u16, order: &Order, seconds: u64) -> Result<Child, Failure> {
    let body = order.upload.map_or_else(String::new, |size| {
        format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"u\", {size})\n")
    });
    let close = if order.close { "wrk.headers[\"Connection\"] = \"close\"\n" } else { "" };
    let script = rig.write("wrk.lua", format!("{body}{close}{DONE}"))?.display().to_string();
    let connections = order.connections.to_string();
    let duration = format!("{seconds}s");
    let address = format!("http://127.0.0.1:{port}{}", order.path);
    let wrk = tools::path("wrk");
    let words: [&str; 11] =
        [&wrk, "-t", "1", "-c", &connections, "-d", &duration, "--timeout", "10s", "-s", &script];
    let command: Vec<String> =
        words.into_iter().chain([address.as_str()]).map(String::from).collect();
    Child::start(rig, "wrk", rig.cores.load, &command)
}

pub(crate) fn finish(child: Child, seconds: u64) -> Result<Outcome, Failure> {
    parse(&child.finish(Duration::from_secs(seconds + 30))?)
}

fn parse(output: &str) -> Result<Outcome, Failure> {
    let line = output.lines().find_map(|line| line.strip_prefix(MARK));
    let line = line
        .ok_or_else(|| Failure::new(format!("reading wrk's output: no outcome in {output:?}")))?;
    serde_json::from_str(line).map_err(while_doing("reading wrk's outcome"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_marked_line_is_read() {
        let line = r#"outcome:{"requests":10,"duration_us":2000000,"p50_us":1.5,"p99_us":9.0,"connect":0,"read":1,"write":0,"status":2,"timeout":0}"#;
        let outcome = parse(&format!("Running 2s test\n{line}\n")).unwrap();
        assert_eq!((outcome.requests, outcome.errors()), (10, 3));
        assert!(parse("Running 2s test\n").is_err());
    }
}
