//! What happens to pools and workers, as data: the numbers of the IIS event log are kept, so that
//! whoever knows them finds them again.

use crate::machine::pool::seam::{Failure, Trigger, WorkerId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// One event of a pool. Its text is made by whoever knows names, process ids and last words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    pub worker: Option<WorkerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    WorkerStarted,
    WorkerServing,
    /// It ended because it was told to.
    WorkerEnded,
    WorkerFailed(Failure),
    WorkerOrphaned(Failure),
    Recycling(Trigger),
    /// The replacement did not come up; the old worker stays.
    RecycleFailed(Trigger),
    IdledOut,
    /// Rapid-fail: too many failures within the window.
    PoolTripped,
    PoolStarted,
    PoolStopped,
    PoolPaused,
    PoolResumed,
    /// The pool's part of the configuration is refused.
    PoolInvalid,
    /// `server.max_workers` is reached.
    WorkersExhausted,
}

impl Kind {
    /// The event's number: of the IIS event log where it has one, else from 9000 on.
    pub const fn id(self) -> u16 {
        match self {
            Self::WorkerStarted => 9001,
            Self::WorkerServing => 9002,
            Self::WorkerEnded => 9003,
            Self::WorkerFailed(failure) => failure.event_id(),
            Self::WorkerOrphaned(_) => 9004,
            Self::Recycling(trigger) => match trigger {
                Trigger::Every => 5074,
                Trigger::Requests => 5075,
                Trigger::At => 5076,
                Trigger::VirtualMemory => 5077,
                Trigger::Unhealthy => 5078,
                Trigger::Demand => 5079,
                Trigger::Config => 5080,
                Trigger::PrivateMemory => 5117,
                Trigger::MemoryPercent => 9005,
            },
            Self::RecycleFailed(_) => 5093,
            Self::IdledOut => 5186,
            Self::PoolTripped => 5002,
            Self::PoolStarted => 9006,
            Self::PoolStopped => 9007,
            Self::PoolPaused => 9008,
            Self::PoolResumed => 9009,
            Self::PoolInvalid => 5189,
            Self::WorkersExhausted => 5196,
        }
    }

    pub const fn severity(self) -> Severity {
        match self {
            Self::PoolTripped | Self::PoolInvalid | Self::WorkersExhausted => Severity::Error,
            Self::WorkerFailed(_) | Self::WorkerOrphaned(_) | Self::RecycleFailed(_) => {
                Severity::Warning
            }
            _ => Severity::Info,
        }
    }

    /// The event's name, as in the API and in `lychgate events`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::WorkerStarted => "worker-started",
            Self::WorkerServing => "worker-serving",
            Self::WorkerEnded => "worker-ended",
            Self::WorkerFailed(_) => "worker-failed",
            Self::WorkerOrphaned(_) => "worker-orphaned",
            Self::Recycling(_) => "recycling",
            Self::RecycleFailed(_) => "recycle-failed",
            Self::IdledOut => "idled-out",
            Self::PoolTripped => "pool-tripped",
            Self::PoolStarted => "pool-started",
            Self::PoolStopped => "pool-stopped",
            Self::PoolPaused => "pool-paused",
            Self::PoolResumed => "pool-resumed",
            Self::PoolInvalid => "pool-invalid",
            Self::WorkersExhausted => "workers-exhausted",
        }
    }

    /// The reason word, where the event has one.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::WorkerFailed(failure) | Self::WorkerOrphaned(failure) => Some(failure.word()),
            Self::Recycling(trigger) | Self::RecycleFailed(trigger) => Some(trigger.word()),
            _ => None,
        }
    }
}

impl Failure {
    /// As counted, logged and shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Spawn => "start-failed",
            Self::StartupTimeout => "startup-timeout",
            Self::ShutdownTimeout => "shutdown-timeout",
            Self::Crash(_) => "crash",
            Self::PingTimeout => "ping-timeout",
            Self::Deadlock => "deadlock",
            Self::ProtocolViolation => "protocol-violation",
            Self::SelfReported => "self-reported",
            Self::OutOfMemory => "out-of-memory",
        }
    }

    const fn event_id(self) -> u16 {
        match self {
            Self::Spawn => 5021,
            Self::Crash(_) | Self::OutOfMemory => 5009,
            Self::PingTimeout => 5010,
            Self::StartupTimeout => 5012,
            Self::ShutdownTimeout => 5013,
            Self::Deadlock => 9010,
            Self::ProtocolViolation => 5127,
            Self::SelfReported => 9011,
        }
    }
}
