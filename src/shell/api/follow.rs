//! Events without end, one JSON object a line. Whoever reads too slowly loses events, not the
//! supervisor its memory; the numbers of the events show the gap.

use super::answer::line_of;
use crate::shell::view::EventRow;
use crossbeam::channel::{Receiver, TryRecvError};
use hyper::body::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the supervisor's channel is looked at: it cannot wake this thread.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes handed on at once.
const CHUNK_SIZE: usize = 16 * 1024;

/// Shows that a connection's reader takes what it is sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it has beaten since this was asked last.
    pub(super) fn has_beaten(&self) -> bool {
        self.0.swap(0, Ordering::Relaxed) > 0
    }
}

/// The body of an endless answer.
#[derive(Debug)]
pub(super) struct Follow {
    /// What had happened before, as lines.
    past: Option<Bytes>,
    /// Of the last event sent: the past and the channel may both have it.
    sequence: u64,
    events: Receiver<EventRow>,
    interval: Interval,
    pulse: Pulse,
    _place: OwnedSemaphorePermit,
}

impl Follow {
    pub(super) fn new(
        past: &[EventRow],
        events: Receiver<EventRow>,
        pulse: Pulse,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let mut interval = interval(LOOK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lines: Vec<u8> = past.iter().flat_map(line_of).collect();
        Self {
            past: (!lines.is_empty()).then(|| lines.into()),
            sequence: past.last().map_or(0, |event| event.sequence),
            events,
            interval,
            pulse,
            _place: place,
        }
    }

    /// `None`: the supervisor tells no more.
    pub(super) fn poll_lines(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            self.pulse.beat();
            if let Some(past) = self.past.take() {
                return Poll::Ready(Some(past));
            }
            let mut lines = Vec::new();
            let is_over = loop {
                match self.events.try_recv() {
                    Ok(event) if event.sequence <= self.sequence => {}
                    Ok(event) => {
                        self.sequence = event.sequence;
                        lines.extend(line_of(&event));
                    }
                    Err(error) => break error == TryRecvError::Disconnected,
                }
                if lines.len() >= CHUNK_SIZE {
                    break false;
                }
            };
            if !lines.is_empty() {
                return Poll::Ready(Some(lines.into()));
            }
            if is_over {
                return Poll::Ready(None);
            }
            ready!(self.interval.poll_tick(context));
        }
    }
}
