//! The requests of a thread as rows of the control API.

use crate::base::address::Peer;
use crate::base::time::Instant;
use crate::machine::listener::Listener;
use crate::machine::listener::list::Listed;
use crate::shell::control::{ROWS_MAX, RequestRow, Worker};
use std::time::Duration;

/// A text of a client, cut here so that a row fits into a frame whatever it sent.
const TEXT_SIZE_MAX: usize = 1024;

/// The oldest rows, oldest first.
pub(super) fn rows(
    machine: &Listener,
    now: Instant,
    pool: Option<&str>,
    older: Duration,
) -> Vec<RequestRow> {
    let mut rows = Vec::new();
    machine.list(now, pool, older, |listed| {
        rows.push(row(listed));
        if rows.len() == 2 * ROWS_MAX {
            keep_oldest(&mut rows);
        }
    });
    keep_oldest(&mut rows);
    rows
}

/// Sorted, and as many as may be told.
pub(in crate::shell) fn keep_oldest(rows: &mut Vec<RequestRow>) {
    rows.sort_by_key(|row| core::cmp::Reverse(row.elapsed_ms));
    rows.truncate(ROWS_MAX);
}

fn row(listed: Listed<'_>) -> RequestRow {
    let text = |bytes: &[u8]| {
        let end = bytes.len().min(TEXT_SIZE_MAX);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    RequestRow {
        id: text(listed.id),
        pool: listed.pool.to_owned(),
        worker: listed
            .worker
            .map(|worker| Worker { slot: worker.slot, generation: worker.generation }),
        client: match listed.client {
            Peer::Tcp(address) => address.to_string(),
            Peer::Unix => "unix:".to_owned(),
        },
        method: text(listed.method),
        host: text(listed.host),
        target: text(listed.target),
        state: listed.state.to_owned(),
        elapsed_ms: u64::try_from(listed.elapsed.as_millis()).unwrap_or(u64::MAX),
    }
}
