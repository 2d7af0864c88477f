//! Proof that the judge is awake: the real machine with one thing done wrong on purpose, which
//! some seed must bring to light, by a rule that is named here.

use super::dice::Dice;
use super::machine::Machine;
use super::oracle::Fault;
use super::tests::{pool, say};
use super::world::World;
use lychgate::base::prng::Prng;
use lychgate::base::time::Instant;
use lychgate::machine::pool::Pool;
use lychgate::machine::pool::seam::{Input, Order, Trigger, View, WorkerId};
use lychgate::plan::Garden;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is done wrong, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// The death of a worker is not heard.
    DeathUnheard,
    /// The listener is not told that a worker is gone.
    LostSlot,
    /// A worker that is to start is told to have failed, and is not counted; or starts for nobody.
    LostStart,
    MissingKill,
    MissingTerminate,
    MissingRetire,
    MissingAdmit,
    MissingStand,
    MissingTrip,
    MissingPing,
    MissingOrphan,
    MissingOver,
    /// A worker is said to be ready before it is.
    EarlyReady,
    /// A worker is said to serve before the listener knows it.
    EarlyServing,
    /// The listener is told of a worker before it is ready.
    EarlyAdmit,
    /// The old worker is retired when the new one is ready, or starts.
    DipAtReady,
    DipAtStart,
    /// SIGKILL instead of SIGTERM, SIGTERM instead of waiting.
    KillForTerminate,
    TerminateForRetire,
    /// Twice at once.
    DoubleStart,
    /// The slot of another worker, the generation of the last one.
    OtherSlot,
    OldGeneration,
    /// A failure is heard twice, or not.
    FailureTwice,
    TripTooEarly,
    /// More orphans than are allowed.
    OrphanForKill,
    ForgottenInView,
    /// Time is not listened to, or asked for without end.
    Deaf,
    Restless,
    /// Requests are said to want a worker that they do not want.
    StartAlways,
    NeverEmptied,
    NeverWanted,
    /// The plan is misread: by one failure, orphan or worker, or in what is kept.
    OneMoreFailure,
    OneLessFailure,
    OneMoreOrphan,
    OneMoreWorker,
    NoneKept,
    AlwaysOverlap,
    NeverOverlap,
    Patient,
    Impatient,
    NoPings,
    NoDeadlock,
    Talkative,
}

/// Each with the rule that must find it.
const WRONGS: &[(Wrong, &str)] = &[
    (Wrong::DeathUnheard, "stray"),
    (Wrong::LostSlot, "lost-slot"),
    (Wrong::LostStart, "failure"),
    (Wrong::MissingKill, "waits-forever"),
    (Wrong::MissingTerminate, "overstays"),
    (Wrong::MissingRetire, "rude"),
    (Wrong::MissingAdmit, "two-starts"),
    (Wrong::MissingStand, "stand-first"),
    (Wrong::MissingTrip, "trip"),
    (Wrong::MissingPing, "failure"),
    (Wrong::MissingOrphan, "two-starts"),
    (Wrong::MissingOver, "never-over"),
    (Wrong::EarlyReady, "early-serve"),
    (Wrong::EarlyServing, "dip"),
    (Wrong::EarlyAdmit, "early-serve"),
    (Wrong::DipAtReady, "dip"),
    (Wrong::DipAtStart, "dip"),
    (Wrong::KillForTerminate, "early-kill"),
    (Wrong::TerminateForRetire, "rude"),
    (Wrong::DoubleStart, "unasked-start"),
    (Wrong::OtherSlot, "slot"),
    (Wrong::OldGeneration, "generation"),
    (Wrong::FailureTwice, "failure"),
    (Wrong::TripTooEarly, "trip"),
    (Wrong::OrphanForKill, "orphan"),
    (Wrong::ForgottenInView, "forgotten"),
    (Wrong::Deaf, "waits-forever"),
    (Wrong::Restless, "spins"),
    (Wrong::StartAlways, "start-refused"),
    (Wrong::NeverEmptied, "overstays"),
    (Wrong::NeverWanted, "stalled"),
    (Wrong::OneMoreFailure, "trip"),
    (Wrong::OneLessFailure, "trip"),
    (Wrong::OneMoreOrphan, "orphans-max"),
    (Wrong::OneMoreWorker, "slot"),
    (Wrong::NoneKept, "dip"),
    (Wrong::AlwaysOverlap, "double-start"),
    (Wrong::NeverOverlap, "dip"),
    (Wrong::Patient, "waits-forever"),
    (Wrong::Impatient, "failure"),
    (Wrong::NoPings, "mute-lives"),
    (Wrong::NoDeadlock, "deadlock-lives"),
    (Wrong::Talkative, "event"),
];

/// Seeds by which each must be found.
const SEEDS_MAX: u64 = 1_500;

struct Saboteur {
    machine: Pool,
    wrong: Wrong,
    prng: Prng,
    last: Option<WorkerId>,
}

impl Saboteur {
    fn new(wrong: Wrong, seed: u64) -> Self {
        Self { machine: pool(seed), wrong, prng: Prng::new(seed), last: None }
    }

    /// Often enough to be met, seldom enough to look like a bug.
    fn is_time(&mut self) -> bool {
        self.prng.one_in(3)
    }

    /// True: the machine does not hear it.
    fn is_lost(&mut self, input: &Input) -> bool {
        let is_it = match self.wrong {
            Wrong::DeathUnheard => matches!(input, Input::Exited { .. }),
            Wrong::LostStart => matches!(input, Input::Spawned { .. }),
            Wrong::NeverEmptied => matches!(input, Input::Emptied { .. }),
            Wrong::NeverWanted => matches!(input, Input::Wanted | Input::Measured { .. }),
            _ => false,
        };
        is_it && (self.wrong == Wrong::NeverWanted || self.is_time())
    }

    /// What the machine hears instead, or beside it.
    fn invented(&mut self, input: &Input) -> Option<Input> {
        match (self.wrong, input) {
            (Wrong::LostStart, Input::Spawned { worker }) => {
                Some(Input::SpawnFailed { worker: *worker })
            }
            (Wrong::EarlyReady, Input::Spawned { worker }) if self.is_time() => {
                Some(Input::Ready { worker: *worker })
            }
            (Wrong::EarlyServing, Input::Ready { worker }) if self.is_time() => {
                Some(Input::Serving { worker: *worker })
            }
            _ => None,
        }
    }

    /// The plan as the machine reads it.
    fn misread(&self, garden: &mut Garden) {
        let limits = &mut garden.lifecycle;
        match self.wrong {
            Wrong::OneMoreFailure => garden.rapid_fail.failures += 1,
            Wrong::OneLessFailure if garden.rapid_fail.failures > 1 => {
                garden.rapid_fail.failures -= 1;
            }
            Wrong::OneMoreOrphan => limits.orphans_max += 1,
            Wrong::OneMoreWorker => garden.workers += 1,
            Wrong::NoneKept => garden.workers_min = 0,
            Wrong::AlwaysOverlap => garden.recycle.overlap = true,
            Wrong::NeverOverlap => garden.recycle.overlap = false,
            Wrong::Patient => limits.startup_limit *= 2,
            Wrong::Impatient => limits.startup_limit /= 2,
            Wrong::NoPings => garden.health.ping_interval = None,
            Wrong::NoDeadlock => garden.health.deadlock_interval = None,
            Wrong::Talkative => garden.recycle.log = Trigger::ALL.to_vec(),
            _ => {}
        }
    }

    fn spoil(&mut self, now: Instant, input: &Input, orders: Vec<Order>, out: &mut Vec<Order>) {
        for order in orders {
            let is_meant = self.is_meant(&order) && self.is_time();
            match (self.wrong, order) {
                (Wrong::KillForTerminate, Order::Terminate { worker }) if is_meant => {
                    out.push(Order::Kill { worker });
                }
                (Wrong::TerminateForRetire, Order::Retire { worker }) if is_meant => {
                    out.push(Order::Terminate { worker });
                }
                (Wrong::DoubleStart, Order::Spawn { worker }) if is_meant => {
                    let generation = worker.generation + 1;
                    out.push(Order::Spawn { worker });
                    out.push(Order::Spawn { worker: WorkerId { generation, ..worker } });
                }
                (Wrong::OtherSlot, Order::Spawn { worker }) if is_meant => {
                    out.push(Order::Spawn { worker: WorkerId { slot: worker.slot + 1, ..worker } });
                }
                (Wrong::OldGeneration, Order::Spawn { worker }) => {
                    let generation = self.last.map_or(worker.generation, |it| it.generation);
                    self.last = Some(worker);
                    out.push(Order::Spawn { worker: WorkerId { generation, ..worker } });
                }
                (Wrong::FailureTwice, order @ Order::Tell(event)) => {
                    let is_failure = event.kind.word() == "worker-failed";
                    out.extend(is_failure.then(|| order.clone()));
                    out.push(order);
                }
                (Wrong::TripTooEarly, order @ Order::Tell(event)) => {
                    let is_failure = event.kind.word() == "worker-failed" && self.is_time();
                    out.push(order);
                    out.extend(is_failure.then_some(Order::Trip));
                }
                (Wrong::OrphanForKill, Order::Kill { worker }) if is_meant => {
                    let why = lychgate::machine::pool::seam::Failure::StartupTimeout;
                    out.push(Order::Orphan { worker, why });
                }
                (_, order) => out.extend((!is_meant).then_some(order)),
            }
        }
        self.add(now, input, out);
    }

    /// Whether this kind of order is the one that goes wrong.
    fn is_meant(&self, order: &Order) -> bool {
        match self.wrong {
            Wrong::LostSlot => matches!(order, Order::Dismiss { .. }),
            Wrong::MissingKill | Wrong::OrphanForKill => matches!(order, Order::Kill { .. }),
            Wrong::MissingTerminate | Wrong::KillForTerminate => {
                matches!(order, Order::Terminate { .. })
            }
            Wrong::MissingRetire | Wrong::TerminateForRetire => {
                matches!(order, Order::Retire { .. })
            }
            Wrong::MissingAdmit => matches!(order, Order::Admit { .. }),
            Wrong::MissingStand => matches!(order, Order::Stand { .. }),
            Wrong::MissingTrip => matches!(order, Order::Trip),
            Wrong::MissingPing => matches!(order, Order::Ping { .. }),
            Wrong::MissingOrphan => matches!(order, Order::Orphan { .. }),
            Wrong::MissingOver => matches!(order, Order::Over),
            Wrong::DoubleStart | Wrong::OtherSlot => matches!(order, Order::Spawn { .. }),
            _ => false,
        }
    }

    fn add(&mut self, now: Instant, input: &Input, out: &mut Vec<Order>) {
        let old_of = |new: &WorkerId, view: View| {
            view.workers
                .iter()
                .find(|it| it.worker.slot == new.slot && it.worker.generation < new.generation)
                .map(|it| it.worker)
        };
        match (self.wrong, input) {
            (Wrong::EarlyAdmit, Input::Spawned { worker }) if self.is_time() => {
                out.push(Order::Admit { worker: *worker, requests_max: 0, delivered: 0 });
            }
            (Wrong::DipAtReady, Input::Ready { worker })
            | (Wrong::DipAtStart, Input::Spawned { worker }) => {
                let old = old_of(worker, self.machine.view(now));
                out.extend(old.map(|worker| Order::Retire { worker }));
            }
            _ => {}
        }
    }
}

impl Machine for Saboteur {
    fn step(&mut self, now: Instant, mut input: Input, out: &mut Vec<Order>) {
        if let Input::Planned { garden, .. } = &mut input {
            self.misread(garden);
        }
        let mut orders = Vec::new();
        let invented = self.invented(&input);
        if self.is_lost(&input) {
            self.machine.step(now, Input::Woken, &mut orders);
        } else {
            self.machine.step(now, input.clone(), &mut orders);
        }
        if let Some(invented) = invented {
            self.machine.step(now, invented, &mut orders);
        }
        self.spoil(now, &input, orders, out);
    }

    fn deadline(&self) -> Instant {
        match self.wrong {
            Wrong::Deaf => Instant::NEVER,
            Wrong::Restless => Instant(0),
            _ => self.machine.deadline(),
        }
    }

    fn wants_start(&self, now: Instant) -> bool {
        self.machine.wants_start(now) || self.wrong == Wrong::StartAlways
    }

    fn is_starting(&self) -> bool {
        self.machine.is_starting()
    }

    fn alive(&self) -> u32 {
        self.machine.alive()
    }

    fn view(&self, now: Instant) -> View {
        let mut view = self.machine.view(now);
        if self.wrong == Wrong::ForgottenInView {
            view.workers.pop();
        }
        view
    }

    fn anew(&self, now: Instant, seed: u64) -> Self {
        Self { machine: Pool::new(now, seed), prng: self.prng.clone(), ..*self }
    }
}

/// The rule that a seed breaks under sabotage; a machine that stops at its own assertions, told of
/// what it never ordered, is one as well.
fn broken(wrong: Wrong, seed: u64) -> Option<&'static str> {
    let mut world = World::new(Dice::new(seed), Saboteur::new(wrong, seed), false);
    // Where orders go wrong on the way, the machine's own account shows it at once; a machine that
    // is wrong itself would not be so honest.
    world.oracle.is_blind = wrong != Wrong::ForgottenInView;
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(Ok(_)) => None,
        Ok(Err((Fault { rule, .. }, _))) => Some(rule),
        Err(_) => Some("panic"),
    }
}

#[test]
fn every_wrong_is_found_by_its_rule() {
    let mut missed = Vec::new();
    for (wrong, rule) in WRONGS {
        let found = (0..SEEDS_MAX).find(|&seed| broken(*wrong, seed) == Some(rule));
        say(&format!("{wrong:?} is found by {rule}, seed {found:?}"));
        if found.is_none() {
            missed.push((wrong, rule));
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:#?}");
}
