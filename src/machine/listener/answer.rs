//! Answers of our own: small, plain, with the reason word and the request's id, so that a user's
//! complaint leads to the line in the log.

use super::Listener;
use super::client::Exchange;
use super::pass::send_from;
use super::seam::{Ending, Outbox};
use crate::base::ascii::push_decimal;
use crate::base::time::Instant;
use crate::http::{Method, status};
use crate::machine::cause::Cause;
use crate::machine::record::Part;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Seconds until a client should try again after 503 of a pool that does not say.
const RETRY_AFTER: u64 = 1;

/// What the pool wants its 503 to say.
struct Terms {
    /// Seconds; 0 = not said.
    retry_after: u64,
    /// `None` = the reason and the request's id.
    page: Option<Arc<[u8]>>,
}

impl Listener {
    /// The exchange failed: answers if nothing of an answer went out, else ends the connection
    /// so that the client cannot take the part for the whole.
    pub(super) fn fail(&mut self, now: Instant, c: u32, cause: Cause, out: &mut Outbox) {
        let Some(exchange) = &self.client(c).exchange else { return };
        if exchange.is_answering() {
            self.abandon(now, c, cause, Ending::Reset, out);
        } else {
            self.refuse(now, c, cause, out);
        }
    }

    /// Answers with an error of our own and ends the exchange.
    pub(super) fn refuse(&mut self, now: Instant, c: u32, cause: Cause, out: &mut Outbox) {
        let date = self.date(now);
        let terms = self.terms(c, cause);
        let client = self.clients.at_mut(c).expect("a live client");
        let Some(exchange) = &mut client.exchange else { return };
        exchange.cause = Some(cause);
        exchange.status = cause.status();
        exchange.answered = now;
        exchange.is_persistent &=
            exchange.upload.is_done() && cause.keeps_connection() && !self.is_draining;
        let start = out.bytes.len();
        write_refusal(exchange, cause, &date, &terms, &mut out.bytes);
        exchange.bytes_out += (out.bytes.len() - start) as u64;
        self.tally.answered(cause.status());
        send_from(out, client.socket, start);
        self.drop_link(c, out);
        self.conclude(now, c, out);
    }

    fn terms(&self, c: u32, cause: Cause) -> Terms {
        let mut terms = Terms { retry_after: RETRY_AFTER, page: None };
        let slot = self.client(c).exchange.as_ref().and_then(|exchange| exchange.slot);
        if let Some(slot) = slot.filter(|_| cause.status() == 503)
            && let Some(entrance) = self.upstreams.entrance(slot)
            && let Some(garden) = self.garden(slot)
        {
            terms.retry_after = garden.queue.retry_after.as_secs();
            terms.page.clone_from(&entrance.page);
        }
        terms
    }
}

fn write_refusal(exchange: &Exchange, cause: Cause, date: &[u8], terms: &Terms, out: &mut Vec<u8>) {
    let status = cause.status();
    let id = exchange.notes.part(Part::Id);
    let word = cause.word().as_bytes();
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(status::reason(status).as_bytes());
    let (kind, size) = match &terms.page {
        Some(page) => (b"text/html".as_slice(), page.len()),
        // "503 start-failed\nrequest ID\n"
        None => (b"text/plain".as_slice(), 3 + 1 + word.len() + 1 + 8 + id.len() + 1),
    };
    out.extend_from_slice(b"\r\nContent-Type: ");
    out.extend_from_slice(kind);
    out.extend_from_slice(b"\r\nContent-Length: ");
    push_decimal(out, size as u64);
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\nX-Request-Id: ");
    out.extend_from_slice(id);
    if status == 503 && terms.retry_after > 0 {
        out.extend_from_slice(b"\r\nRetry-After: ");
        push_decimal(out, terms.retry_after);
    }
    if !exchange.is_persistent {
        out.extend_from_slice(b"\r\nConnection: close");
    } else if exchange.version == crate::http::Version::Http10 {
        out.extend_from_slice(b"\r\nConnection: keep-alive");
    }
    out.extend_from_slice(b"\r\n\r\n");
    match &terms.page {
        _ if exchange.method == Method::Head => {}
        Some(page) => out.extend_from_slice(page),
        None => {
            push_decimal(out, u64::from(status));
            out.push(b' ');
            out.extend_from_slice(word);
            out.extend_from_slice(b"\nrequest ");
            out.extend_from_slice(id);
            out.push(b'\n');
        }
    }
}
