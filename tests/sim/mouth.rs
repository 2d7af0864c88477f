//! What a client or a server is going to say, in order, with its pauses and its leaving.

use super::act::Leave;
use lychgate::base::time::Instant;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
pub(crate) enum Say {
    Bytes(Vec<u8>),
    /// At once and whole; no receive of the machine ends at this place of it.
    Glued(Vec<u8>, usize),
    Pause(u64),
    Until(Instant),
    Await(Gate),
    Leave(Leave),
}

/// What a client waits for before it goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate {
    /// So many whole answers.
    Answers(usize),
    /// 100 for the request of this number, or patience at its end.
    Continue { index: usize, until: Option<Instant> },
    /// So many bytes back through the tunnel.
    Echo(u64),
}

#[derive(Debug, Default)]
pub(crate) struct Mouth {
    pub(crate) says: VecDeque<Say>,
    /// Bytes that were ever put here, and that the kernel took.
    pub(crate) planned: u64,
    pub(crate) said: u64,
}

impl Mouth {
    pub(crate) fn push(&mut self, say: Say) {
        if let Say::Bytes(bytes) | Say::Glued(bytes, _) = &say {
            self.planned += bytes.len() as u64;
        }
        self.says.push_back(say);
    }

    /// The kernel took so many bytes of what stands in front.
    pub(crate) fn advance(&mut self, size: usize) {
        self.said += size as u64;
        if let Some(Say::Bytes(bytes)) = self.says.front_mut() {
            bytes.drain(..size);
            if bytes.is_empty() {
                self.says.pop_front();
            }
        }
    }

    /// Says what is left, up to some bytes, without waiting for anything, and closes.
    pub(crate) fn rush(&mut self, size_max: usize) {
        let mut size = 0;
        self.says.retain(|say| match say {
            Say::Bytes(bytes) => {
                size += bytes.len();
                size <= size_max
            }
            _ => false,
        });
        self.says.push_back(Say::Leave(Leave::Close));
    }
}
