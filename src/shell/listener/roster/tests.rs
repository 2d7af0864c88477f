//! A roster of two threads, told by a supervisor and by its threads.

use super::*;
use crate::base::id::SocketId;
use crate::machine::gate::{Busy, Ticket};
use crate::shell::config;

const NOW: Instant = Instant(1_000);
const OLD: Worker = Worker { slot: 0, generation: 1 };
const NEW: Worker = Worker { slot: 0, generation: 2 };
const GARDEN: &str = "command = [\"app\"]";
const SERVERS: &str = "servers = [\"127.0.0.1:9\"]";

struct Scene {
    roster: Roster,
    gate: Arc<Gate>,
}

/// Of one pool.
fn plan(pool: &str) -> Plan {
    let text = format!(
        "[[listen]]\naddress = '127.0.0.1:8080'\n[[site]]\nname = 'web'\n[[site.route]]\n\
         path = '/'\npool = 'shop'\n[pool.shop]\n{pool}\n"
    );
    config::parse(&text, "test").unwrap_or_else(|report| panic!("{report}"))
}

fn scene() -> Scene {
    let mut roster = Roster::new(2);
    let gates = roster.plan(&plan(GARDEN));
    let gate = Arc::clone(gates[0].as_ref().unwrap());
    Scene { roster, gate }
}

fn admission(worker: Worker) -> Admission {
    let address = Address::Unix(format!("/run/{}.sock", worker.generation));
    Admission { worker, address, slots: 1, requests_max: 0, delivered: 0 }
}

fn say(word: FromListener) -> Order {
    Order::Say(word)
}

fn wanted() -> Order {
    say(FromListener::Wanted { pool: "shop".into() })
}

fn retired(place: u16) -> Order {
    Order::Tell(News::Retired { pool: "shop".into(), place: ServerIndex(place) })
}

fn dismissed(place: u16) -> Order {
    Order::Tell(News::Dismissed { pool: "shop".into(), place: ServerIndex(place) })
}

impl Scene {
    fn heard(&mut self, act: impl FnOnce(&mut Roster, &mut Vec<Order>)) -> Vec<Order> {
        let mut out = Vec::new();
        act(&mut self.roster, &mut out);
        out
    }

    fn admit(&mut self, worker: Worker) -> Vec<Order> {
        self.heard(|roster, out| roster.admit("shop", admission(worker), out))
    }

    fn known(&mut self, place: u16) -> Vec<Order> {
        self.heard(|roster, out| roster.known(NOW, "shop", ServerIndex(place), out))
    }

    fn retire(&mut self, worker: Worker) -> Vec<Order> {
        self.heard(|roster, out| roster.retire(NOW, "shop", worker, out))
    }

    fn dismiss(&mut self, worker: Worker) -> Vec<Order> {
        self.heard(|roster, out| roster.dismiss(NOW, "shop", worker, out))
    }

    fn emptied(&mut self, place: u16) -> Vec<Order> {
        self.heard(|roster, out| roster.emptied("shop", ServerIndex(place), out))
    }

    fn stand(&mut self, standing: Standing, may_grow: bool) -> Vec<Order> {
        self.heard(|roster, out| roster.stand(NOW, "shop", standing, may_grow, out))
    }

    /// Admitted, and known to both threads.
    fn serve(&mut self, worker: Worker) -> u16 {
        let told = self.admit(worker);
        let [Order::Tell(News::Admitted { place, slot, generation, .. })] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!((*slot, *generation), (worker.slot, worker.generation));
        let place = place.0;
        assert_eq!(self.known(place), []);
        assert_eq!(self.known(place)[0], serving("shop", worker));
        place
    }

    fn take(&self) -> Result<ServerIndex, Busy> {
        self.gate.take(NOW, &mut 0, None, None).map(|taken| taken.place)
    }

    fn wait(&self, thread: u16) -> Ticket {
        let ticket = Ticket { thread, client: SocketId { index: 0, generation: 0 }, serial: 1 };
        assert!(self.gate.wait(ticket, None));
        ticket
    }
}

#[test]
fn a_worker_serves_when_all_threads_know_it() {
    let mut scene = scene();
    let ticket = scene.wait(1);
    let told = scene.admit(OLD);
    let address = Address::Unix("/run/1.sock".into());
    let (pool, place) = ("shop".to_owned(), ServerIndex(0));
    let news = News::Admitted { pool: pool.clone(), place, slot: 0, generation: 1, address };
    assert_eq!(told, [Order::Tell(news)]);
    assert_eq!(scene.admit(OLD), [], "it is on its way");
    assert_eq!(scene.known(0), []);
    assert_eq!(scene.gate.figures(place).executing, 0, "one thread does not know it");
    let told = scene.known(0);
    assert_eq!(told[0], serving("shop", OLD));
    let Order::Grant { grant, .. } = &told[1] else { panic!("{told:?}") };
    assert_eq!((grant.ticket, grant.taken.place), (ticket, place));
    assert_eq!(scene.admit(OLD), [serving("shop", OLD)], "asked again, answered again");
}

#[test]
fn a_retired_worker_is_emptied_once_when_its_last_request_ends() {
    let mut scene = scene();
    let place = scene.serve(OLD);
    scene.take().unwrap();
    assert_eq!(scene.retire(OLD), [retired(place)]);
    assert_eq!(scene.take(), Err(Busy::Wait));
    assert_eq!(scene.emptied(place), [], "something runs on it");
    assert_eq!(scene.retire(OLD), []);
    assert!(scene.gate.release(ServerIndex(place)));
    assert_eq!(scene.emptied(place), [emptied("shop", OLD)]);
    assert_eq!(scene.emptied(place), [], "said once");
    assert_eq!(scene.retire(OLD), [emptied("shop", OLD)]);
}

#[test]
fn an_idle_worker_is_emptied_at_once() {
    let mut scene = scene();
    let place = scene.serve(OLD);
    assert_eq!(scene.retire(OLD), [retired(place), emptied("shop", OLD)]);
}

#[test]
fn a_worker_retired_before_it_served_never_serves() {
    let mut scene = scene();
    scene.admit(OLD);
    assert_eq!(scene.retire(OLD), [emptied("shop", OLD)]);
    assert_eq!(scene.known(0), []);
    assert_eq!(scene.known(0), []);
    assert_eq!(scene.take(), Err(Busy::Wait));
}

#[test]
fn an_overlapped_recycle_never_shuts_the_gate() {
    let mut scene = scene();
    let old = scene.serve(OLD);
    let new = scene.serve(NEW);
    assert_ne!(old, new);
    assert_eq!(scene.retire(OLD), [retired(old), emptied("shop", OLD)]);
    assert_eq!(scene.take(), Ok(ServerIndex(new)));
    assert_eq!(scene.dismiss(OLD), [dismissed(old)]);
    let mut out = Vec::new();
    let figures = scene.roster.measure(NOW, &mut out);
    let workers: Vec<_> = figures[0].workers.iter().map(|one| one.worker).collect();
    assert_eq!(workers, [NEW]);
}

#[test]
fn a_place_goes_to_the_next_only_when_nobody_speaks_of_the_last() {
    let mut scene = scene();
    let old = scene.serve(OLD);
    scene.take().unwrap();
    assert_eq!(scene.dismiss(OLD), [dismissed(old)]);
    assert_eq!(scene.dismiss(OLD), [], "told once");
    assert_eq!(scene.heard(|roster, out| roster.spent("shop", ServerIndex(old), out)), []);
    scene.known(old);
    scene.known(old);
    assert_ne!(scene.serve(NEW), old, "a request runs on it");
    assert!(scene.gate.release(ServerIndex(old)));
    assert_eq!(scene.emptied(old), [], "it was dismissed");
    assert_eq!(scene.serve(Worker { slot: 1, generation: 3 }), old);
}

#[test]
fn a_place_that_a_thread_still_speaks_of_is_not_given_away() {
    let mut scene = scene();
    let old = scene.serve(OLD);
    scene.dismiss(OLD);
    scene.known(old);
    assert_ne!(scene.serve(NEW), old);
}

#[test]
fn a_crash_before_all_threads_know_leaves_nothing_behind() {
    let mut scene = scene();
    scene.admit(OLD);
    assert_eq!(scene.dismiss(OLD), [dismissed(0)]);
    for _ in 0..4 {
        assert_eq!(scene.known(0), []);
    }
    assert_eq!(scene.take(), Err(Busy::Wait));
    assert_eq!(scene.serve(NEW), 0);
}

#[test]
fn what_nobody_knows_is_answered_as_if_done() {
    let mut scene = scene();
    assert_eq!(scene.retire(OLD), [emptied("shop", OLD)]);
    assert_eq!(scene.dismiss(OLD), []);
    let told = scene.heard(|roster, out| roster.admit("inn", admission(OLD), out));
    assert_eq!(told, [serving("inn", OLD)]);
    assert_eq!(
        scene.heard(|roster, out| roster.retire(NOW, "inn", OLD, out)),
        [emptied("inn", OLD)]
    );
    let running = Standing::Running;
    assert_eq!(scene.heard(|roster, out| roster.stand(NOW, "inn", running, true, out)), []);
    assert_eq!(scene.known(5), []);
}

#[test]
fn another_worker_is_wanted_as_long_as_somebody_waits_and_none_is_free() {
    let mut scene = scene();
    scene.wait(0);
    let running = Standing::Running;
    let stood = Order::Tell(News::Stood { pool: "shop".into(), standing: running });
    assert_eq!(scene.stand(running, true), [stood, wanted()]);
    scene.wait(0);
    scene.admit(OLD);
    scene.known(0);
    let told = scene.known(0);
    assert!(matches!(told[1], Order::Grant { .. }));
    assert_eq!(told[2], wanted(), "one worker with one slot is too few for two");
    assert_eq!(told.len(), 3);
    let mut out = Vec::new();
    scene.roster.measure(NOW, &mut out);
    assert_eq!(out, [], "asked already");
}

#[test]
fn limits_follow_the_standing() {
    let mut scene = scene();
    let mut bounded = plan(GARDEN);
    let Source::Garden(garden) = &mut bounded.pools[0].source else { panic!() };
    garden.queue.limit = 3;
    garden.queue.restart_limit = 2;
    scene.roster.plan(&bounded);
    let room = |scene: &Scene| {
        let before = scene.gate.waiting();
        let ticket = Ticket { thread: 0, client: SocketId { index: 0, generation: 0 }, serial: 0 };
        while scene.gate.wait(ticket, None) {}
        let room = scene.gate.waiting() - before;
        (0..room).for_each(|_| scene.gate.leave());
        room
    };
    assert_eq!(room(&scene), 3);
    scene.stand(Standing::Replacing, false);
    assert_eq!(room(&scene), 2);
    scene.roster.plan(&plan(GARDEN));
    assert_eq!(room(&scene), 10, "the default of the same limit");
    scene.stand(Standing::Paused { limit: 1 }, false);
    assert_eq!(room(&scene), 1);
}

#[test]
fn a_garden_keeps_its_gate_and_what_runs_outlives_its_plan() {
    let mut scene = scene();
    let place = scene.serve(OLD);
    scene.take().unwrap();
    let again = scene.roster.plan(&plan(GARDEN));
    assert!(Arc::ptr_eq(again[0].as_ref().unwrap(), &scene.gate));
    assert!(scene.roster.plan(&plan(SERVERS))[0].is_none());
    assert_eq!(scene.retire(OLD), [retired(place)]);
    assert!(scene.gate.release(ServerIndex(place)));
    assert_eq!(scene.emptied(place), [emptied("shop", OLD)]);
    scene.dismiss(OLD);
    scene.known(place);
    scene.known(place);
    assert!(scene.roster.gardens.is_empty());
    let fresh = scene.roster.plan(&plan(GARDEN));
    assert!(!Arc::ptr_eq(fresh[0].as_ref().unwrap(), &scene.gate));
}

#[test]
fn requests_are_counted_on_from_where_another_left_off() {
    let mut scene = scene();
    let admission = Admission { slots: 0, requests_max: 12, delivered: 10, ..admission(OLD) };
    scene.heard(|roster, out| roster.admit("shop", admission, out));
    let figures = |scene: &Scene| {
        let figures = scene.roster.measure(NOW, &mut Vec::new());
        figures[0].workers[0].delivered
    };
    assert_eq!(figures(&scene), 10);
    scene.known(0);
    scene.known(0);
    let spent: Vec<_> =
        (0..3).map(|_| scene.gate.take(NOW, &mut 0, None, None).unwrap().is_spent).collect();
    assert_eq!(spent, [false, true, false]);
    assert_eq!(figures(&scene), 13);
    let place = ServerIndex(0);
    let told = scene.heard(|roster, out| roster.spent("shop", place, out));
    assert_eq!(told, [say(FromListener::Spent { pool: "shop".into(), worker: OLD })]);
    let told = scene.heard(|roster, out| roster.violated("shop", place, out));
    assert_eq!(told, [say(FromListener::Violated { pool: "shop".into(), worker: OLD })]);
}
