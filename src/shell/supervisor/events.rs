//! Events of pools and workers: each goes to the operational log, to the system's journal, into a
//! ring that can be read again, and to those who follow.

use crate::machine::event::{Event, Severity};
use crate::shell::view::EventRow;
use crate::sys::journal::{Journal, Priority};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::collections::VecDeque;

/// Events that can be read again.
const ROWS_MAX: usize = 1000;
/// Events that wait for a follower; more are lost to it, which it sees by the gap.
const FOLLOWER_ROWS_MAX: usize = 256;
/// Followers at once; a further one takes the place of the oldest.
const FOLLOWERS_MAX: usize = 32;

/// What only the supervisor knows about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Particulars {
    pub pool: String,
    pub pid: Option<i32>,
    pub text: String,
    /// False: kept and shown, but in no log (`recycle.log` leaves it out).
    pub is_logged: bool,
}

/// The events of this supervisor, and those who listen.
#[derive(Debug)]
pub struct Events {
    rows: VecDeque<EventRow>,
    /// Of the next event; the first is 1.
    sequence: u64,
    followers: VecDeque<Sender<EventRow>>,
    journal: Journal,
    /// Standard error, where the log goes, leads to the journal already.
    is_log_journal: bool,
}

impl Events {
    /// `sequence` goes on from an earlier supervisor's [`Events::last`]; 0 where there was none.
    pub fn new(journal: Journal, sequence: u64) -> Self {
        Self {
            rows: VecDeque::with_capacity(ROWS_MAX),
            sequence: sequence + 1,
            followers: VecDeque::new(),
            journal,
            is_log_journal: std::env::var_os("JOURNAL_STREAM").is_some(),
        }
    }

    /// The sequence number of the last event; 0 if there was none.
    pub fn last(&self) -> u64 {
        self.sequence - 1
    }

    /// Tells everybody. `time_ms` is Unix time.
    pub fn tell(&mut self, time_ms: u64, event: &Event, particulars: Particulars) {
        let Particulars { pool, pid, text, is_logged } = particulars;
        let row = EventRow {
            sequence: self.sequence,
            time_ms,
            id: event.kind.id(),
            event: event.kind.word().to_owned(),
            severity: word(event.kind.severity()).to_owned(),
            pool,
            slot: event.worker.map(|worker| worker.slot),
            generation: event.worker.map(|worker| worker.generation),
            pid,
            reason: event.kind.reason().map(str::to_owned),
            text,
        };
        self.sequence += 1;
        if is_logged {
            let is_written = self.write(event.kind.severity(), &row);
            // Else each event would stand in the journal twice.
            if !(is_written && self.is_log_journal) {
                log(event.kind.severity(), &row);
            }
        }
        self.followers.retain(|follower| {
            // A full one is slow, not gone.
            !matches!(follower.try_send(row.clone()), Err(TrySendError::Disconnected(_)))
        });
        if self.rows.len() == ROWS_MAX {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }

    /// The latest `limit` of the events behind `after` that are still kept, oldest first.
    pub fn after(&self, after: u64, limit: usize) -> Vec<EventRow> {
        let from = self.rows.partition_point(|row| row.sequence <= after);
        let from = from.max(self.rows.len().saturating_sub(limit));
        self.rows.range(from..).cloned().collect()
    }

    /// All events from now on. What is not taken in time is lost to this follower.
    pub fn follow(&mut self) -> Receiver<EventRow> {
        let (sender, receiver) = bounded(FOLLOWER_ROWS_MAX);
        if self.followers.len() == FOLLOWERS_MAX {
            self.followers.pop_front();
        }
        self.followers.push_back(sender);
        receiver
    }

    /// False: the journal did not get it.
    fn write(&self, severity: Severity, row: &EventRow) -> bool {
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        let event_id = row.id.to_string();
        let pid = number(row.pid.map(i64::from));
        let slot = number(row.slot.map(i64::from));
        let generation = number(row.generation.map(i64::from));
        let fields: Vec<(&str, &str)> = [
            ("SYSLOG_IDENTIFIER", Some("lychgate")),
            ("EVENT_ID", Some(event_id.as_str())),
            ("EVENT", Some(row.event.as_str())),
            ("POOL", Some(row.pool.as_str())),
            ("WORKER_PID", pid.as_deref()),
            ("WORKER_SLOT", slot.as_deref()),
            ("WORKER_GENERATION", generation.as_deref()),
            ("REASON", row.reason.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        let priority = match severity {
            Severity::Info => Priority::Info,
            Severity::Warning => Priority::Warning,
            Severity::Error => Priority::Error,
        };
        self.journal.send(priority, &row.text, &fields).unwrap_or_else(|error| {
            tracing::debug!("writing an event to the journal: {error}");
            false
        })
    }
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn log(severity: Severity, row: &EventRow) {
    let EventRow { text, id, pool, slot, generation, pid, event, reason, .. } = row;
    let reason = reason.as_deref();
    match severity {
        Severity::Info => {
            tracing::info!(id, pool, slot, generation, pid, event, reason, "{text}");
        }
        Severity::Warning => {
            tracing::warn!(id, pool, slot, generation, pid, event, reason, "{text}");
        }
        Severity::Error => {
            tracing::error!(id, pool, slot, generation, pid, event, reason, "{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::event::Kind;
    use crate::machine::pool::seam::{Failure, WorkerId};
    use std::os::unix::net::UnixDatagram;

    fn tell(events: &mut Events, text: &str) {
        let worker = Some(WorkerId { slot: 1, generation: 7 });
        let event = Event { kind: Kind::WorkerFailed(Failure::PingTimeout), worker };
        let (pool, text) = ("shop".to_owned(), text.to_owned());
        events.tell(5, &event, Particulars { pool, pid: Some(42), text, is_logged: true });
    }

    fn sequences(rows: &[EventRow]) -> Vec<u64> {
        rows.iter().map(|row| row.sequence).collect()
    }

    #[test]
    fn an_event_is_a_row_with_all_that_is_known() {
        let mut events = Events::new(Journal::nowhere(), 0);
        assert_eq!(events.last(), 0);
        tell(&mut events, "why");
        let expected = EventRow {
            sequence: 1,
            time_ms: 5,
            id: 5010,
            event: "worker-failed".into(),
            severity: "warning".into(),
            pool: "shop".into(),
            slot: Some(1),
            generation: Some(7),
            pid: Some(42),
            reason: Some("ping-timeout".into()),
            text: "why".into(),
        };
        assert_eq!(events.after(0, 9), [expected]);
        assert_eq!(events.last(), 1);
    }

    #[test]
    fn the_ring_is_bounded_and_read_from_any_place() {
        let mut events = Events::new(Journal::nowhere(), 10);
        for _ in 0..ROWS_MAX + 2 {
            tell(&mut events, "");
        }
        let last = 10 + ROWS_MAX as u64 + 2;
        assert_eq!(events.last(), last);
        assert_eq!(events.after(0, usize::MAX).len(), ROWS_MAX);
        assert_eq!(events.after(0, usize::MAX)[0].sequence, 13);
        assert_eq!(sequences(&events.after(last - 2, 9)), [last - 1, last]);
        assert_eq!(sequences(&events.after(0, 1)), [last]);
        assert!(events.after(last, 9).is_empty());
        assert!(events.after(u64::MAX, 9).is_empty());
    }

    #[test]
    fn a_slow_follower_loses_and_sees_it_and_one_that_left_is_forgotten() {
        let mut events = Events::new(Journal::nowhere(), 0);
        let slow = events.follow();
        let gone = events.follow();
        drop(gone);
        for _ in 0..FOLLOWER_ROWS_MAX + 3 {
            tell(&mut events, "");
        }
        assert_eq!(events.followers.len(), 1);
        let kept: Vec<EventRow> = slow.try_iter().collect();
        assert_eq!(kept.len(), FOLLOWER_ROWS_MAX);
        tell(&mut events, "");
        let next = slow.try_recv().unwrap().sequence;
        assert_eq!(next, kept.last().unwrap().sequence + 4);
        for _ in 0..FOLLOWERS_MAX {
            drop(events.follow());
        }
        assert_eq!(events.followers.len(), FOLLOWERS_MAX);
        assert!(matches!(slow.try_recv(), Err(crossbeam::channel::TryRecvError::Disconnected)));
    }

    #[test]
    fn the_journal_gets_each_fact_as_a_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_nonblocking(true).unwrap();
        let mut events = Events::new(Journal::at(&path).unwrap(), 0);
        tell(&mut events, "it is silent");
        let mut buffer = [0; 512];
        let size = heard.recv(&mut buffer).unwrap();
        let expected = "MESSAGE=it is silent\nPRIORITY=4\nSYSLOG_IDENTIFIER=lychgate\n\
                        EVENT_ID=5010\nEVENT=worker-failed\nPOOL=shop\nWORKER_PID=42\n\
                        WORKER_SLOT=1\nWORKER_GENERATION=7\nREASON=ping-timeout\n";
        assert_eq!(std::str::from_utf8(&buffer[..size]).unwrap(), expected);
        let event = Event { kind: Kind::IdledOut, worker: None };
        let (pool, text) = (String::new(), String::new());
        events.tell(5, &event, Particulars { pool, pid: None, text, is_logged: false });
        assert!(heard.recv(&mut buffer).is_err());
        assert_eq!(events.after(0, 9).len(), 2);
    }
}
