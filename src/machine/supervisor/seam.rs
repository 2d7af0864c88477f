//! What the supervisor's machine hears and orders: the listener process, and the pools with what
//! is theirs passed through.

use crate::machine::pool::seam::{self as pool, Legacy};
use crate::plan::Garden;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

/// A pool with a garden, by a number of the owner's choice. A pool keeps its number over reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolId(pub u32);

/// What the configuration in force says about one garden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPlan {
    pub id: PoolId,
    /// With `workers` resolved: never 0.
    pub garden: Box<Garden>,
    /// Workers were started in a way that no longer holds.
    pub is_changed: bool,
    /// What an earlier supervisor left of the pool; heeded in the first plan that names it.
    pub legacy: Option<Legacy>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A configuration came into force: exactly these gardens are wanted from now on.
    Planned {
        pools: Vec<PoolPlan>,
        /// Of all pools together, orphans not counted.
        workers_max: u32,
        /// For the listener to finish what runs, and then again for the workers to end.
        shutdown_limit: Duration,
    },
    /// Before the first `Planned`: a listener runs already, and knows its workers.
    ListenerAdopted,
    /// `SpawnListener` was carried out.
    ListenerSpawned,
    /// `SpawnListener` failed; no process exists.
    ListenerSpawnFailed,
    /// It has its configuration and serves. Every pool hears `ListenerCame`.
    ListenerReady,
    /// The process is gone and reaped.
    ListenerExited,
    /// About one pool. `Planned`, `Removed`, `MayStart`, `MayNotStart`, `ListenerCame`, `Adopted`
    /// and `Ending` are said by the supervisor's machine alone, never through this.
    Pool { pool: PoolId, input: pool::Input },
    /// The operator asked to end. Asked again: to end now.
    ShutdownAsked,
    /// Nothing but time passed.
    Woken,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start the listener; the very next input about it is `ListenerSpawned` or
    /// `ListenerSpawnFailed`.
    SpawnListener,
    /// Close all listening sockets; the listener finishes what runs and ends.
    Drain,
    /// The listener ends now.
    Stop,
    /// SIGKILL to the listener.
    KillListener { why: KillReason },
    /// Never `Over`: that is `Forget`.
    Pool { pool: PoolId, order: pool::Order },
    /// No configuration has the pool, and no worker of it is left but orphans.
    Forget { pool: PoolId },
    /// Nothing is left to do; the supervisor ends.
    Finish { outcome: Outcome },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// It was not ready in time.
    StartupLimit,
    /// It did not end in time.
    ShutdownLimit,
    /// The operator asked twice.
    Impatience,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Clean,
    /// The listener never became ready, so there was nothing to keep alive.
    NeverServed,
    /// A process could not be killed and was left behind.
    LeftBehind,
}
