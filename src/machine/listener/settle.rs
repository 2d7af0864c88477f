//! The level-triggered end of a step: whatever happened, a client's connection is brought to
//! where its facts say it should be.

use super::Listener;
use super::client::{Duty, Phase, Stage};
use super::pass::Piece;
use super::seam::{Effect, Outbox};
use crate::base::limits::AHEAD_SIZE_MAX;
use crate::base::time::Instant;

impl Listener {
    pub(super) fn settle(&mut self, now: Instant, c: u32, out: &mut Outbox) {
        let Some(client) = self.clients.at(c) else { return };
        if client.phase == Phase::Idle && !client.held.is_empty() && client.backlog == 0 {
            self.read_heads(now, c, Piece::kept(&[]), out);
        }
        self.settle_client_reading(c, out);
        let link = self.clients.at(c).and_then(|client| client.exchange.as_ref()?.link);
        if let Some(l) = link {
            self.settle_link_reading(c, l, out);
        }
        self.check(c);
    }

    fn settle_client_reading(&mut self, c: u32, out: &mut Outbox) {
        let client = self.client(c);
        let wants = match client.phase {
            Phase::Closing => return,
            Phase::Lingering => true,
            Phase::Idle | Phase::Head => client.backlog == 0,
            Phase::Busy => self.wants_while_busy(c),
        };
        let client = self.client_mut(c);
        if client.is_reading != wants {
            client.is_reading = wants;
            let id = client.socket;
            out.effects.push(if wants { Effect::Recv { id } } else { Effect::Hold { id } });
        }
    }

    fn wants_while_busy(&self, c: u32) -> bool {
        let client = self.client(c);
        let Some(exchange) = &client.exchange else { return true };
        let is_tunnel = exchange.stage == Stage::Tunnel;
        if exchange.is_upload_over() && !is_tunnel {
            return client.held.len() < AHEAD_SIZE_MAX;
        }
        match exchange.link.and_then(|l| self.links.at(l)) {
            Some(link) => link.backlog == 0 && matches!(link.duty, Duty::Busy { .. }),
            None if exchange.stage == Stage::Waiting => exchange.replay.len() < AHEAD_SIZE_MAX,
            None => is_tunnel,
        }
    }

    fn settle_link_reading(&mut self, c: u32, l: u32, out: &mut Outbox) {
        let is_blocked = self.client(c).backlog > 0;
        let Some(link) = self.links.at_mut(l) else { return };
        let wants = match link.duty {
            Duty::Busy { .. } => !is_blocked,
            _ => return,
        };
        if link.is_reading != wants {
            link.is_reading = wants;
            let id = link.socket;
            out.effects.push(if wants { Effect::Recv { id } } else { Effect::Hold { id } });
        }
    }

    /// What must hold between steps.
    fn check(&self, c: u32) {
        let Some(client) = self.clients.at(c) else { return };
        let is_busy = client.phase == Phase::Busy;
        assert_eq!(is_busy, client.exchange.is_some(), "an exchange runs exactly while busy");
        if let Some(exchange) = &client.exchange {
            assert!(
                exchange.link.is_some() || exchange.stage == Stage::Waiting,
                "an exchange waits, has a server or is answered"
            );
        }
    }
}
