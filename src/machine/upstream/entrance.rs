//! What one thread keeps about the gate of a garden.

use crate::base::time::Instant;
use crate::machine::gate::Gate;
use alloc::sync::Arc;

#[derive(Debug)]
pub struct Entrance {
    pub gate: Arc<Gate>,
    /// Where this thread's last choice was.
    pub turn: u16,
    /// Tickets of this thread in the gate's queue whose requests have left.
    pub dead: u32,
    /// The gate is to be pumped before the step is over.
    pub is_pump_due: bool,
    /// When a worker that refused connections may be tried again.
    pub pump_at: Instant,
    /// The body of the 503; `None` = the built-in one.
    pub page: Option<Arc<[u8]>>,
}

impl Entrance {
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate, turn: 0, dead: 0, is_pump_due: false, pump_at: Instant::NEVER, page: None }
    }
}
