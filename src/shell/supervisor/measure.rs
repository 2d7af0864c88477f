//! How much memory workers have, asked of the kernel no more often than it can matter.

use crate::base::time::Instant;
use crate::machine::pool::seam::Memory;
use crate::plan::garden::Garden;
use crate::sys::family::Kin;
use crate::sys::memory::{self, Usage};
use std::path::Path;
use std::time::Duration;

/// Between two rounds over the workers of pools that have a limit on memory.
const PERIOD: Duration = Duration::from_secs(2);

/// Whether workers of a pool are to be weighed without anybody asking.
pub fn is_wanted(garden: &Garden) -> bool {
    let recycle = &garden.recycle;
    recycle.private_memory > 0 || recycle.virtual_memory > 0 || recycle.memory_percent > 0
}

/// When the next round is due, and what a percentage is of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scales {
    due: Instant,
    limit: u64,
}

impl Scales {
    /// For the poll loop, while there is a worker to be weighed.
    pub fn deadline(&self) -> Instant {
        self.due
    }

    /// Whether a round is due; the next is a period later. The limit is asked for anew with each,
    /// for control groups may change.
    pub fn is_due(&mut self, now: Instant) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + PERIOD;
        self.limit = memory::limit();
        true
    }

    /// What a worker has now, with all that it started; `group` is the folder of its control group,
    /// if it has one of its own. `None`: its process has ended.
    pub fn weigh(&self, pid: i32, group: Option<&Path>, kin: &Kin) -> Option<Memory> {
        // A group without a memory controller tells nothing.
        let all = group.and_then(|folder| memory::of_group(folder).ok());
        let usage = match all {
            Some(private) => Usage { private, ..memory::of_process(pid).ok()? },
            None => memory::of_family(pid, kin).ok()?,
        };
        let limit = if self.limit == 0 { memory::limit() } else { self.limit };
        Some(of(usage, limit))
    }
}

fn of(usage: Usage, limit: u64) -> Memory {
    let Usage { private, virtual_size } = usage;
    let percent = u128::from(private) * 100 / u128::from(limit.max(1));
    Memory { private, virtual_size, percent: u8::try_from(percent).unwrap_or(u8::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Bind, Command};

    #[test]
    fn a_percentage_is_whole_and_never_overflows() {
        let of = |private, limit| of(Usage { private, virtual_size: 3 }, limit).percent;
        assert_eq!((of(0, 100), of(499, 1000), of(1000, 1000)), (0, 49, 100));
        assert_eq!((of(u64::MAX, 1), of(u64::MAX, 0), of(u64::MAX, u64::MAX)), (255, 255, 100));
    }

    #[test]
    fn rounds_are_a_period_apart_and_the_living_have_weight() {
        let mut scales = Scales::default();
        let ourselves = std::process::id().cast_signed();
        assert!(scales.weigh(ourselves, None, &Kin::look()).unwrap().percent <= 100);
        let start = Instant(7);
        assert!(scales.is_due(start) && !scales.is_due(start + PERIOD / 2));
        assert_eq!(scales.deadline(), start + PERIOD);
        assert!(scales.is_due(start + PERIOD));
        let memory =
            scales.weigh(ourselves, Some(Path::new("/nonexistent")), &Kin::look()).unwrap();
        assert!(memory.private > 0 && memory.virtual_size > memory.private);
        assert_eq!(scales.weigh(i32::MAX, None, &Kin::look()), None);
    }

    #[test]
    fn a_groups_weight_is_that_of_all_in_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("memory.stat"), "anon 12345\n").unwrap();
        let scales = Scales { due: Instant(0), limit: 24690 };
        let memory = scales
            .weigh(std::process::id().cast_signed(), Some(folder.path()), &Kin::look())
            .unwrap();
        assert_eq!((memory.private, memory.percent), (12345, 50));
    }

    #[test]
    fn only_a_limit_on_memory_makes_weighing_worth_while() {
        let mut garden = Garden::of(Command {
            argv: vec!["app".into()],
            bind: Bind::Port,
            working_directory: None,
            environment: Vec::new(),
            ready: None,
        });
        assert!(!is_wanted(&garden));
        garden.recycle.memory_percent = 1;
        assert!(is_wanted(&garden));
    }
}
