//! Virtual processes: what each will do is drawn when it is made.

use super::dice::Dice;
use super::setting::Rates;
use core::time::Duration;
use lychgate::base::time::Instant;
use lychgate::machine::pool::seam::{Exit, Report};

/// What a process will do.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    /// `None` = it never gets ready.
    pub(crate) ready_after: Option<Duration>,
    pub(crate) dies_after: Option<(Duration, Exit)>,
    /// `None` = it does not heed SIGTERM.
    pub(crate) term: Option<Duration>,
    /// It sleeps in the kernel through the first SIGKILL.
    pub(crate) ignores_kill: bool,
    /// From then on it answers nothing, neither requests nor pings.
    pub(crate) mute_after: Option<Duration>,
    pub(crate) grows_after: Option<Duration>,
    pub(crate) reports: Option<(Duration, Report)>,
    pub(crate) violates_after: Option<Duration>,
}

/// A process that exists.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) fate: Fate,
    pub(crate) born: Instant,
    pub(crate) kills: u32,
    pub(crate) is_leaving: bool,
}

impl Process {
    pub(crate) fn is_mute(&self, now: Instant) -> bool {
        self.fate.mute_after.is_some_and(|after| now >= self.born + after)
    }

    pub(crate) fn is_heavy(&self, now: Instant) -> bool {
        self.fate.grows_after.is_some_and(|after| now >= self.born + after)
    }
}

impl Fate {
    pub(crate) fn draw(dice: &mut Dice, rates: &Rates) -> Self {
        let ready = if dice.percent(rates.slow) { dice.ms(200, 3_500) } else { dice.ms(1, 250) };
        let report = dice.one_of(&[Report::Stopping, Report::Recycle, Report::Unhealthy]);
        Self {
            ready_after: (!dice.percent(rates.never_ready)).then_some(ready),
            dies_after: dice.percent(rates.dies).then(|| {
                let latest = dice.one_of(&[300, 3_000, 20_000]);
                (dice.ms(0, latest), exit(dice))
            }),
            term: (!dice.percent(rates.ignores_term)).then(|| dice.ms(0, 900)),
            ignores_kill: dice.percent(rates.ignores_kill),
            mute_after: dice.maybe_ms(rates.mute, 0, 12_000),
            grows_after: dice.maybe_ms(rates.grows, 0, 10_000),
            reports: dice.percent(rates.reports).then(|| (dice.ms(0, 9_000), report)),
            violates_after: dice.maybe_ms(rates.violates, 0, 9_000),
        }
    }

    /// It does nothing wrong any more.
    pub(crate) fn calm(&mut self) {
        self.term = self.term.or(Some(Duration::ZERO));
        self.ignores_kill = false;
        self.dies_after = None;
        self.mute_after = None;
        self.grows_after = None;
        self.reports = None;
        self.violates_after = None;
    }
}

pub(crate) fn exit(dice: &mut Dice) -> Exit {
    match dice.below(5) {
        0 => Exit::Code(0),
        1 | 2 => Exit::Code(1),
        3 => Exit::Signal(11),
        _ => Exit::OutOfMemory,
    }
}
