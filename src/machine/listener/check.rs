//! Active checks: a request of our own to each server at its interval; 2xx and 3xx mean well. The
//! first machine of a process checks, the others are told.

use super::Listener;
use super::client::Duty;
use super::pass::send_from;
use super::seam::{Effect, Outbox};
use crate::base::id::ServerIndex;
use crate::base::limits::RESPONSE_HEAD_SIZE_MAX;
use crate::base::time::Instant;
use crate::http::Method;
use crate::http::h1::head::{self, Scratch};
use crate::machine::upstream::Slot;
use crate::machine::upstream::health::Verdict;

impl Listener {
    /// Begins the checks that are due and finds out when the next is.
    pub(super) fn begin_checks(&mut self, now: Instant, out: &mut Outbox) {
        if !self.is_checker || self.is_draining {
            self.check_due = Instant::NEVER;
            return;
        }
        let mut next = Instant::NEVER;
        for slot in self.upstreams.slots() {
            for place in 0..self.upstreams.view(slot).servers.len() {
                let due = self.upstreams.view(slot).servers[place].check_due;
                if due > now {
                    next = next.min(due);
                    continue;
                }
                let server = ServerIndex(u16::try_from(place).unwrap_or(u16::MAX));
                next = next.min(self.begin_check(now, slot, server, out));
            }
        }
        self.check_due = next;
    }

    /// Returns when the server wants looking at again, if the check does not say so earlier.
    fn begin_check(
        &mut self,
        now: Instant,
        slot: Slot,
        server: ServerIndex,
        out: &mut Outbox,
    ) -> Instant {
        let upstream = self.upstreams.at(slot);
        let Some(interval) = upstream.pool.check.as_ref().map(|check| check.interval) else {
            return Instant::NEVER;
        };
        let again = now + interval;
        let duty = Duty::Checking;
        let is_begun = self.open_link(now, slot, server, duty, out).is_some();
        // While a check runs none is due; without an address there is nothing to ask.
        let due = if is_begun { Instant::NEVER } else { again };
        self.upstreams.at(slot).server(server).check_due = due;
        due
    }

    /// Connected: puts the question.
    pub(super) fn ask(&mut self, l: u32, out: &mut Outbox) {
        self.tally.checks += 1;
        let link = self.links.at_mut(l).expect("a live link");
        link.is_reading = true;
        let id = link.socket;
        let Some(check) = &self.upstreams.view(link.slot).pool.check else { return };
        out.effects.push(Effect::Recv { id });
        let start = out.bytes.len();
        out.bytes.extend_from_slice(b"GET ");
        out.bytes.extend_from_slice(check.path.as_bytes());
        out.bytes.extend_from_slice(
            b" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lychgate-check\r\n\
              Connection: close\r\n\r\n",
        );
        send_from(out, id, start);
    }

    pub(super) fn check_received(&mut self, now: Instant, l: u32, bytes: &[u8], out: &mut Outbox) {
        let link = self.links.at_mut(l).expect("a live link");
        link.held.extend_from_slice(bytes);
        let mut scratch = Scratch::new();
        let is_well = match head::response(&link.held, Method::Get, &mut scratch) {
            Ok(Some(response)) => (200..400).contains(&response.status),
            Ok(None) if link.held.len() <= RESPONSE_HEAD_SIZE_MAX => return,
            Ok(None) | Err(_) => false,
        };
        self.conclude_check(now, l, is_well, out);
        self.close_link(l, out);
    }

    pub(super) fn check_failed(&mut self, now: Instant, l: u32, out: &mut Outbox) {
        self.conclude_check(now, l, false, out);
        self.close_link(l, out);
    }

    pub(super) fn conclude_check(&mut self, now: Instant, l: u32, is_well: bool, out: &mut Outbox) {
        if !is_well {
            self.tally.checks_failed += 1;
        }
        let link = self.links.at(l).expect("a live link");
        let (slot, index, began) = (link.slot, link.server, link.since);
        let upstream = self.upstreams.at(slot);
        let is_retired = upstream.is_retired;
        let Some(check) = upstream.pool.check.clone() else { return };
        let server = upstream.server(index);
        let has_changed = server.health.checked(is_well, &check);
        if let Some(address) = server.address.clone() {
            let is_well = server.health.verdict(now) != Verdict::Down;
            let pool = upstream.pool.name.clone();
            out.effects.push(Effect::Judge { pool, address, is_well, has_changed });
        }
        let server = upstream.server(index);
        server.check_due =
            if is_retired { Instant::NEVER } else { (began + check.interval).max(now) };
        self.check_due = self.check_due.min(server.check_due);
    }
}
