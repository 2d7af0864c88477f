//! The counters of all threads as one line of JSON.

use crate::machine::tally::Tally;
use crate::shell::logs::Loss;
use crate::sys::engine::Counters;
use serde_json::{Map, Value, json};

/// One round of counting.
#[derive(Debug, Default)]
pub(super) struct Count {
    awaited: usize,
    loss: Loss,
    threads: Vec<(u16, Value, Value)>,
}

impl Count {
    pub(super) fn begin(&mut self, threads: usize, loss: Loss) {
        *self = Self { awaited: threads, loss, threads: Vec::new() };
    }

    /// The whole line when the last thread has reported.
    pub(super) fn add(&mut self, thread: u16, tally: &Tally, engine: &Counters) -> Option<String> {
        self.threads.push((thread, tally_value(tally), engine_value(*engine)));
        if self.threads.len() != self.awaited {
            return None;
        }
        self.threads.sort_by_key(|(thread, ..)| *thread);
        let all = |place: fn(&(u16, Value, Value)) -> &Value| sum(self.threads.iter().map(place));
        let threads: Vec<Value> = self
            .threads
            .iter()
            .map(|(thread, tally, engine)| {
                json!({ "thread": thread, "requests": tally, "engine": engine })
            })
            .collect();
        let line = json!({
            "requests": all(|thread| &thread.1),
            "engine": all(|thread| &thread.2),
            "access_log": { "dropped": self.loss.dropped, "unwritten": self.loss.unwritten },
            "threads": threads,
        });
        Some(line.to_string())
    }
}

fn tally_value(tally: &Tally) -> Value {
    let mut counters = Map::new();
    tally.each(|name, count| {
        counters.insert(name.to_owned(), json!(count));
    });
    Value::Object(counters)
}

fn engine_value(engine: Counters) -> Value {
    json!({
        "enters": engine.enters,
        "submissions": engine.submissions,
        "completions": engine.completions,
        "calls": engine.calls,
        "buffers_exhausted": engine.buffers_exhausted,
        "rearms": engine.rearms,
        "sends_short": engine.sends_short,
    })
}

/// Numbers of the same name added up, through objects within objects.
fn sum<'a>(values: impl Iterator<Item = &'a Value>) -> Value {
    values.fold(Value::Object(Map::new()), |mut total, value| {
        add(&mut total, value);
        total
    })
}

fn add(total: &mut Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if !total.is_object() {
                *total = Value::Object(Map::new());
            }
            for (name, field) in fields {
                add(&mut total[name.as_str()], field);
            }
        }
        Value::Number(number) => {
            let sum = total.as_u64().unwrap_or(0).saturating_add(number.as_u64().unwrap_or(0));
            *total = json!(sum);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cause::Cause;

    #[test]
    fn every_counter_of_the_machine_is_shown_and_summed() {
        let mut tally = Tally { retries: 2, ..Tally::default() };
        tally.answered(503);
        tally.blame(Cause::StartFailed);
        let mut count = Count::default();
        count.begin(2, Loss::default());
        count.add(0, &tally, &Counters::default());
        let line = count.add(1, &tally, &Counters::default()).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        tally.each(|name, one| assert_eq!(line["requests"][name], one * 2, "{name}"));
        assert_eq!(line["requests"]["start-failed"], 2);
    }

    #[test]
    fn threads_are_shown_in_order_and_summed() {
        let mut count = Count::default();
        count.begin(2, Loss { dropped: 3, unwritten: 0 });
        let tally = Tally { requests: 5, ..Tally::default() };
        let engine = Counters { enters: 2, ..Counters::default() };
        assert_eq!(count.add(1, &tally, &engine), None);
        let line = count.add(0, &tally, &engine).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["requests"]["requests"], 10);
        assert_eq!(line["engine"]["enters"], 4);
        assert_eq!(line["access_log"]["dropped"], 3);
        assert_eq!(line["threads"][0]["thread"], 0);
    }
}
