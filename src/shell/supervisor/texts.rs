//! What an event means, in a sentence for whoever is woken by it: what happened to whom, why, the
//! last words where something failed, and what helps.

use crate::base::address::Address;
use crate::machine::event::{Event, Kind};
use crate::machine::pool::seam::{Exit, Failure, Trigger};
use crate::plan::Bind;
use crate::plan::garden::Garden;
use crate::plan::units::{show_duration, show_size};
use std::fmt::Write;

/// What is known around an event; whatever is not known is left at its default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    pub pool: &'a str,
    pub pid: Option<i32>,
    pub garden: Option<&'a Garden>,
    /// Where the worker was told to listen.
    pub address: Option<&'a Address>,
    /// Where it listens, if it is not there.
    pub instead: &'a [Address],
    /// How its process ended, if it did.
    pub exit: Option<Exit>,
    /// What the last attempt met (a start, a probe), or the reason that the worker itself gave.
    pub obstacle: &'a str,
    /// The last line that it wrote; empty: none.
    pub last_line: &'a str,
}

/// One line. Texts of workers come in cleaned of control characters.
pub fn text(event: &Event, facts: &Facts<'_>) -> String {
    let mut text = format!("pool {}: ", facts.pool);
    let who = who(event, facts);
    let said = match event.kind {
        Kind::WorkerStarted => format!("{who} was started"),
        Kind::WorkerServing => {
            let place = facts.address.map(|at| format!(" on {at}")).unwrap_or_default();
            format!("{who} serves{place}")
        }
        Kind::WorkerEnded => format!("{who} ended as it was told{}", ended(facts)),
        Kind::WorkerFailed(failure) => format!("{who} {}", failed(failure, facts)),
        Kind::WorkerOrphaned(failure) => format!(
            "{who} is released, not killed, after {}; it gets no requests. Look at it, then end it \
             with \"lychgate orphans end {}\"",
            failure.word(),
            facts.pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string()),
        ),
        Kind::Recycling(trigger) => format!("{who} is recycled: {}", why(trigger, facts)),
        Kind::RecycleFailed(trigger) => format!(
            "{who} was to be recycled ({}), but its replacement did not start; it serves on. \
             The failures before this line say why",
            trigger.word()
        ),
        Kind::IdledOut => format!("{who} ends, for nobody asked it for anything{}", idle(facts)),
        _ => pool(event.kind, facts),
    };
    text.push_str(&said);
    if is_failure(event.kind) && !facts.last_line.is_empty() {
        let _ = write!(text, ". It wrote last: {}", facts.last_line);
    }
    text
}

const fn is_failure(kind: Kind) -> bool {
    matches!(kind, Kind::WorkerFailed(_) | Kind::WorkerOrphaned(_))
}

/// "worker 0 (process 4711)".
fn who(event: &Event, facts: &Facts<'_>) -> String {
    let slot = event.worker.map_or_else(String::new, |worker| format!(" {}", worker.slot));
    match facts.pid {
        Some(pid) => format!("worker{slot} (process {pid})"),
        None => format!("worker{slot}"),
    }
}

fn pool(kind: Kind, facts: &Facts<'_>) -> String {
    match kind {
        Kind::PoolTripped => {
            let limit = facts.garden.map_or_else(String::new, |Garden { rapid_fail, .. }| {
                let window = show_duration(rapid_fail.window);
                format!(" ({} failures within {window})", rapid_fail.failures)
            });
            format!(
                "it failed too often{limit} and is stopped; its requests are refused. Mend the \
                 application, then \"lychgate start {}\"",
                facts.pool
            )
        }
        Kind::PoolStarted => "it was started".to_owned(),
        Kind::PoolStopped => "it was stopped; its requests are refused".to_owned(),
        Kind::PoolPaused => "it is paused; its requests wait".to_owned(),
        Kind::PoolResumed => "it goes on".to_owned(),
        Kind::PoolInvalid => {
            format!("its configuration is refused, the other pools run: {}", facts.obstacle)
        }
        // All that concerns a worker has its text already.
        _ => "a worker is wanted, but server.max_workers is reached. Raise it, or lower workers \
              or min_workers of pools"
            .to_owned(),
    }
}

fn failed(failure: Failure, facts: &Facts<'_>) -> String {
    let limit = |of: fn(&Garden) -> std::time::Duration| {
        facts.garden.map(|garden| format!(" within {}", show_duration(of(garden))))
    };
    match failure {
        Failure::Spawn => format!("could not be started: {}", facts.obstacle),
        Failure::StartupTimeout => {
            let limit = limit(|garden| garden.lifecycle.startup_limit).unwrap_or_default();
            format!("did not get ready{limit}: {}", unready(facts))
        }
        Failure::ShutdownTimeout => {
            let limit = limit(|garden| garden.lifecycle.shutdown_limit).unwrap_or_default();
            format!("did not end{limit} after SIGTERM and is killed{}", ended(facts))
        }
        Failure::Crash(exit) => format!("ended by itself: {}", exit_words(exit)),
        Failure::PingTimeout => {
            let limit = limit(|garden| garden.health.ping_timeout).unwrap_or_default();
            let path = facts.garden.and_then(Garden::ping_path).unwrap_or("OPTIONS *");
            format!("did not answer {path}{limit}{}", obstacle(facts))
        }
        Failure::Deadlock => {
            let limit = facts.garden.and_then(|garden| garden.health.deadlock_interval);
            let limit =
                limit.map(|limit| format!(" for {}", show_duration(limit))).unwrap_or_default();
            format!("answered nothing{limit} while requests wait: it counts as deadlocked")
        }
        Failure::ProtocolViolation => {
            format!("sent what is not HTTP{}", obstacle(facts))
        }
        Failure::SelfReported => format!("says that it is unhealthy{}", obstacle(facts)),
        Failure::OutOfMemory => {
            "was killed by the kernel for want of memory. Set recycle.private_memory below the \
             limit, or raise the limit"
                .to_owned()
        }
    }
}

/// Why it did not get ready, and what makes it.
fn unready(facts: &Facts<'_>) -> String {
    let Some(address) = facts.address else { return facts.obstacle.to_owned() };
    let advice = match facts.garden.map(|garden| garden.command.bind) {
        None | Some(Bind::Port) => "Make it listen on 127.0.0.1 where PORT or {port} says",
        Some(Bind::Unix) => "Make it listen where LYCHGATE_SOCKET or {socket} says",
        Some(Bind::Fd) => "Make it accept on descriptor {fd}, and answer ready.path",
    };
    if facts.instead.is_empty() {
        format!("{address}: {}. {advice}, or raise startup_limit", facts.obstacle)
    } else {
        let places: Vec<String> = facts.instead.iter().map(ToString::to_string).collect();
        format!("it listens on {} instead of {address}. {advice}", places.join(", "))
    }
}

fn obstacle(facts: &Facts<'_>) -> String {
    if facts.obstacle.is_empty() { String::new() } else { format!(": {}", facts.obstacle) }
}

fn ended(facts: &Facts<'_>) -> String {
    facts.exit.map(|exit| format!(": {}", exit_words(exit))).unwrap_or_default()
}

/// "exit code 1", "signal 11 (SIGSEGV)".
pub fn exit_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => nix::sys::signal::Signal::try_from(number).map_or_else(
            |_| format!("signal {number}"),
            |signal| format!("signal {number} ({signal})"),
        ),
        Exit::OutOfMemory => "killed by the kernel for want of memory".to_owned(),
        Exit::Unknown => "how is not known, for another supervisor had started it".to_owned(),
    }
}

fn why(trigger: Trigger, facts: &Facts<'_>) -> String {
    let recycle = facts.garden.map(|garden| &garden.recycle);
    let bound = match (trigger, recycle) {
        (Trigger::Every, Some(recycle)) => recycle.every.map(show_duration),
        (Trigger::Requests, Some(recycle)) => Some(recycle.requests.to_string()),
        (Trigger::PrivateMemory, Some(recycle)) => Some(show_size(recycle.private_memory)),
        (Trigger::VirtualMemory, Some(recycle)) => Some(show_size(recycle.virtual_memory)),
        (Trigger::MemoryPercent, Some(recycle)) => Some(format!("{} %", recycle.memory_percent)),
        _ => None,
    };
    let bound = bound.map(|bound| format!(" ({bound})")).unwrap_or_default();
    match trigger {
        Trigger::Every => format!("it ran as long as recycle.every allows{bound}"),
        Trigger::At => "a time of recycle.at has come".to_owned(),
        Trigger::Requests => format!("it was given as many requests as recycle.requests{bound}"),
        Trigger::PrivateMemory => format!("it has more memory than recycle.private_memory{bound}"),
        Trigger::VirtualMemory => {
            format!("it has more address space than recycle.virtual_memory{bound}")
        }
        Trigger::MemoryPercent => {
            format!("it has more of the machine's memory than recycle.memory_percent{bound}")
        }
        Trigger::Demand => "the operator asked".to_owned(),
        Trigger::Config => "its configuration or its release changed".to_owned(),
        Trigger::Unhealthy => {
            format!("it asked, or its answers break the protocol{}", obstacle(facts))
        }
    }
}

fn idle(facts: &Facts<'_>) -> String {
    let limit = facts.garden.and_then(|garden| garden.lifecycle.idle_timeout);
    limit.map(|limit| format!(" for {}", show_duration(limit))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::pool::seam::WorkerId;
    use crate::plan::Command;

    fn garden() -> Garden {
        Garden::of(Command {
            argv: vec!["app".into()],
            bind: Bind::Port,
            working_directory: None,
            environment: Vec::new(),
            ready: None,
        })
    }

    fn say(kind: Kind, facts: &Facts<'_>) -> String {
        text(&Event { kind, worker: Some(WorkerId { slot: 2, generation: 9 }) }, facts)
    }

    #[test]
    fn a_failure_says_whose_why_what_helps_and_the_last_words() {
        let garden = garden();
        let told = Address::Tcp(([127, 0, 0, 1], 4001).into());
        let facts = Facts {
            pool: "shop",
            pid: Some(77),
            garden: Some(&garden),
            address: Some(&told),
            obstacle: "Connection refused",
            last_line: "Listening on 9000",
            ..Facts::default()
        };
        assert_eq!(
            say(Kind::WorkerFailed(Failure::StartupTimeout), &facts),
            "pool shop: worker 2 (process 77) did not get ready within 90s: 127.0.0.1:4001: \
             Connection refused. Make it listen on 127.0.0.1 where PORT or {port} says, or raise \
             startup_limit. It wrote last: Listening on 9000"
        );
        let instead = [Address::Tcp(([0, 0, 0, 0], 9000).into())];
        let facts = Facts { instead: &instead, ..facts };
        let said = say(Kind::WorkerFailed(Failure::StartupTimeout), &facts);
        assert!(said.contains("it listens on 0.0.0.0:9000 instead of 127.0.0.1:4001."), "{said}");
        let crash = Failure::Crash(Exit::Signal(11));
        let said = say(Kind::WorkerFailed(crash), &facts);
        assert!(said.contains("ended by itself: signal 11 (SIGSEGV). It wrote last"), "{said}");
        let said = say(Kind::WorkerOrphaned(crash), &facts);
        assert!(said.contains("lychgate orphans end 77"), "{said}");
        let said = say(Kind::WorkerServing, &facts);
        assert_eq!(said, "pool shop: worker 2 (process 77) serves on 127.0.0.1:4001");
    }

    #[test]
    fn every_kind_has_a_text_of_its_own_with_and_without_facts() {
        let garden = garden();
        let failures = [
            Failure::Spawn,
            Failure::StartupTimeout,
            Failure::ShutdownTimeout,
            Failure::Crash(Exit::Unknown),
            Failure::PingTimeout,
            Failure::Deadlock,
            Failure::ProtocolViolation,
            Failure::SelfReported,
            Failure::OutOfMemory,
        ];
        let plain = [
            Kind::WorkerStarted,
            Kind::WorkerServing,
            Kind::WorkerEnded,
            Kind::IdledOut,
            Kind::PoolTripped,
            Kind::PoolStarted,
            Kind::PoolStopped,
            Kind::PoolPaused,
            Kind::PoolResumed,
            Kind::PoolInvalid,
            Kind::WorkersExhausted,
        ];
        let mut kinds = plain.to_vec();
        kinds.extend(failures.map(Kind::WorkerFailed));
        kinds.extend(failures.map(Kind::WorkerOrphaned));
        kinds.extend(Trigger::ALL.map(Kind::Recycling));
        kinds.extend(Trigger::ALL.map(Kind::RecycleFailed));
        for facts in [
            Facts::default(),
            Facts { pool: "shop", garden: Some(&garden), obstacle: "x", ..Facts::default() },
        ] {
            let mut texts: Vec<String> = kinds.iter().map(|kind| say(*kind, &facts)).collect();
            assert!(texts.iter().all(|text| !text.contains('\n') && text.len() > 12));
            texts.sort();
            texts.dedup();
            assert_eq!(texts.len(), kinds.len());
        }
    }
}
