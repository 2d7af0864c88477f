//! Gardens: slots, the queue, workers that come and go, refusals, affinity.

mod lost;

use super::*;
use crate::base::id::ServerIndex;
use crate::machine::gate::{Gate, Pumped};
use crate::machine::pool::seam::{Figures, Standing};
use crate::plan::garden::{Affinity, Reject};

const POOL: &str = "app";
const PLACE: ServerIndex = ServerIndex(0);
const OTHER: ServerIndex = ServerIndex(1);
const ASKED: &[u8] = b"GET /x HTTP/1.1\r\nHost: h\r\nX-Request-Id: r1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nhi";

/// A thread with a garden.
struct Bed {
    listener: Listener,
    gate: Arc<Gate>,
    out: Outbox,
    now: Instant,
    arrivals: u32,
}

fn garden() -> Garden {
    Garden::of(Command {
        argv: vec!["app".to_string()],
        bind: Bind::Unix,
        working_directory: None,
        environment: vec![],
        ready: None,
    })
}

impl Bed {
    fn new(change: impl FnOnce(&mut Garden)) -> Self {
        Self::of(0, Arc::default(), change)
    }

    /// Another thread at the same gate.
    fn of(thread: u16, gate: Arc<Gate>, change: impl FnOnce(&mut Garden)) -> Self {
        let mut garden = garden();
        change(&mut garden);
        gate.stand(Standing::Running, garden.queue.limit, true);
        let listener = Listener::new(Instant(0), thread, 1, Arc::new(Shared::default()));
        let mut bed = Self { listener, gate, out: Outbox::default(), now: Instant(0), arrivals: 0 };
        bed.plan(Source::Garden(Box::new(garden)));
        bed
    }

    fn plan(&mut self, source: Source) -> Vec<Effect> {
        let mut plan = plan();
        plan.pools[0].source = source;
        let gates = Arc::new([Some(Arc::clone(&self.gate))]);
        self.step(Input::Planned { plan: Arc::new(plan), doors: Arc::new([DoorId(0)]), gates })
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Effect> {
        self.out.effects.clear();
        self.out.bytes.clear();
        self.listener.step(self.now, input, &mut self.out);
        self.out.effects.clone()
    }

    fn client(&mut self) -> SocketId {
        self.arrivals += 1;
        let arrival = Arrival(self.arrivals);
        let peer = Peer::Tcp("192.0.2.1:1".parse().unwrap());
        let effects = self.step(Input::Accepted { door: DoorId(0), arrival, peer });
        let [Effect::Adopt { id, .. }, Effect::Recv { .. }] = effects[..] else {
            panic!("{effects:?}")
        };
        id
    }

    /// A worker serves, with so many slots.
    fn open(&mut self, place: ServerIndex, slot: u16, slots: u32) {
        let (pool, address) = (POOL.to_string(), Address::Unix(alloc::format!("/w{slot}")));
        let admitted = Input::Admitted { pool, place, slot, generation: 1, address };
        assert_eq!(self.step(admitted), []);
        self.gate.open(place, slot, slots, 0);
    }

    fn ask(&mut self, client: SocketId, bytes: &[u8]) -> Vec<Effect> {
        self.step(Input::Received { id: client, bytes })
    }

    /// Pumps as the control side does, and hears of it.
    fn granted_next(&mut self) -> Vec<Effect> {
        let pumped = self.gate.pump(self.now, &mut 0);
        let Pumped::Granted(grant) = pumped else { panic!("{pumped:?}") };
        self.step(Input::Granted { pool: POOL.to_string(), grant })
    }

    /// Lets time pass up to a moment; the effects on the way.
    fn pass(&mut self, until: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.listener.deadline() <= Instant(0) + until {
            self.now = self.now.max(self.listener.deadline());
            self.out.effects.clear();
            self.listener.step(self.now, Input::Woken, &mut self.out);
            effects.extend(self.out.effects.iter().cloned());
        }
        self.now = Instant(0) + until;
        effects
    }

    /// What was written to a socket in the last step.
    fn said(&self, to: SocketId) -> String {
        let mut text = String::new();
        for effect in &self.out.effects {
            if let Effect::Send { to: socket, range } = effect
                && *socket == to
            {
                text.push_str(&String::from_utf8_lossy(&self.out.bytes[range.clone()]));
            }
        }
        text
    }

    fn executing(&self, place: ServerIndex) -> u32 {
        self.gate.figures(place).executing
    }

    fn state(&self) -> Vec<&'static str> {
        let mut states = Vec::new();
        self.listener.list(self.now, None, Duration::ZERO, |row| states.push(row.state));
        states
    }
}

fn connection(effects: &[Effect]) -> SocketId {
    let connect = |effect: &Effect| match effect {
        Effect::Connect { id, .. } => Some(*id),
        _ => None,
    };
    effects.iter().find_map(connect).unwrap_or_else(|| panic!("{effects:?}"))
}

fn wanted() -> Effect {
    Effect::Want { pool: POOL.to_string() }
}

#[test]
fn a_request_waits_for_the_first_worker_and_holds_its_slot_until_it_is_answered() {
    let mut bed = Bed::new(|garden| garden.slots = 1);
    let client = bed.client();
    assert_eq!(bed.ask(client, ASKED), [wanted()], "asked for once");
    assert_eq!((bed.gate.waiting(), bed.state()), (1, vec!["waiting"]));
    let other = bed.client();
    assert_eq!(bed.ask(other, ASKED), [], "asked for already");
    bed.open(PLACE, 0, 1);
    let effects = bed.granted_next();
    let link = connection(&effects);
    assert_eq!(bed.state(), ["connecting", "waiting"]);
    bed.step(Input::Connected { id: link });
    assert!(bed.said(link).starts_with("GET /x HTTP/1.1\r\n"), "{}", bed.said(link));
    assert_eq!(bed.executing(PLACE), 1);
    bed.step(Input::Received { id: link, bytes: ANSWER });
    assert!(bed.said(client).ends_with("hi"));
    let figures = bed.gate.figures(PLACE);
    let expected = Figures { executing: 1, delivered: 2, answered: Instant(0) };
    assert_eq!(figures, expected, "the next one has the slot at once");
    assert!(bed.said(link).starts_with("GET /x"), "on the connection that became free");
    bed.step(Input::Received { id: link, bytes: ANSWER });
    assert!(bed.said(other).ends_with("hi"));
    assert_eq!((bed.executing(PLACE), bed.gate.waiting()), (0, 0));
}

#[test]
fn a_slot_that_becomes_free_goes_to_the_thread_that_waited_longer() {
    let mut here = Bed::new(|garden| garden.slots = 1);
    let mut there = Bed::of(1, Arc::clone(&here.gate), |garden| garden.slots = 1);
    here.open(PLACE, 0, 1);
    there.open(PLACE, 0, 1);
    let (first, second) = (here.client(), there.client());
    let link = connection(&here.ask(first, ASKED));
    there.ask(second, ASKED);
    let late = here.client();
    here.ask(late, ASKED);
    here.step(Input::Connected { id: link });
    let effects = here.step(Input::Received { id: link, bytes: ANSWER });
    let [Effect::Send { .. }, Effect::Grant { pool, grant }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((pool.as_str(), grant.ticket.thread, grant.ticket.client), (POOL, 1, second));
    // Its client has left meanwhile: the slot comes back.
    there.step(Input::Broken { id: second });
    let effects = there.step(Input::Granted { pool: pool.clone(), grant: *grant });
    let [Effect::Grant { grant, .. }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((grant.ticket.thread, grant.ticket.client), (0, late));
    assert_eq!(here.gate.figures(PLACE).delivered, 2, "what was declined was not delivered");
    here.step(Input::Granted { pool: POOL.to_string(), grant });
    assert!(here.said(link).starts_with("GET /x"));
}

#[test]
fn a_slot_on_its_way_to_another_thread_is_no_want_of_a_worker() {
    let mut here = Bed::new(|garden| garden.slots = 1);
    let mut there = Bed::of(1, Arc::clone(&here.gate), |garden| garden.slots = 1);
    here.open(PLACE, 0, 1);
    there.open(PLACE, 0, 1);
    let (runs, waits) = (here.client(), there.client());
    let link = connection(&here.ask(runs, ASKED));
    assert_eq!(there.ask(waits, ASKED), [wanted()]);
    // The supervisor has answered.
    here.gate.stand(Standing::Running, 10, true);
    here.step(Input::Connected { id: link });
    let effects = here.step(Input::Received { id: link, bytes: ANSWER });
    assert!(matches!(effects[..], [Effect::Send { .. }, Effect::Grant { .. }]), "{effects:?}");
}

#[test]
fn however_a_request_ends_its_slot_comes_back() {
    type End = fn(&mut Bed, SocketId, SocketId) -> Vec<Effect>;
    let ends: [(&str, End); 6] = [
        ("client gone", |bed, client, _| bed.step(Input::Ended { id: client })),
        ("client reset", |bed, client, _| bed.step(Input::Broken { id: client })),
        ("no HTTP", |bed, _, link| bed.step(Input::Received { id: link, bytes: b"nonsense" })),
        ("cut", |bed, _, link| {
            bed.step(Input::Received { id: link, bytes: &ANSWER[..ANSWER.len() - 1] });
            bed.step(Input::Broken { id: link })
        }),
        ("dismissed", |bed, _, link| {
            bed.step(Input::Received { id: link, bytes: &ANSWER[..ANSWER.len() - 1] });
            bed.gate.close(PLACE);
            bed.step(Input::Dismissed { pool: POOL.to_string(), place: PLACE })
        }),
        ("too slow", |bed, _, _| bed.pass(Duration::from_secs(61))),
    ];
    for (name, end) in ends {
        let mut bed = Bed::new(|garden| garden.slots = 1);
        bed.open(PLACE, 0, 1);
        let client = bed.client();
        let link = connection(&bed.ask(client, ASKED));
        bed.step(Input::Connected { id: link });
        assert_eq!(bed.executing(PLACE), 1, "{name}");
        let effects = end(&mut bed, client, link);
        assert_eq!(bed.executing(PLACE), 0, "{name}");
        let place = PLACE;
        let violation = Effect::Violate { pool: POOL.to_string(), place };
        assert_eq!(effects.contains(&violation), name == "no HTTP", "{name}: {effects:?}");
        let empty = Effect::Empty { pool: POOL.to_string(), place };
        assert_eq!(effects.contains(&empty), name == "dismissed", "{name}: {effects:?}");
    }
}

#[test]
fn a_worker_that_refuses_is_passed_over_for_a_moment_and_the_request_goes_on() {
    let mut bed = Bed::new(|garden| garden.slots = 1);
    bed.open(PLACE, 0, 1);
    bed.open(OTHER, 1, 1);
    let client = bed.client();
    let post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
    let first = connection(&bed.ask(client, post));
    let second = connection(&bed.step(Input::Refused { id: first }));
    assert_eq!((bed.executing(PLACE), bed.executing(OTHER)), (1, 0), "round robin begins at 1");
    assert_eq!(bed.step(Input::Refused { id: second }), [wanted()], "it waits");
    assert_eq!((bed.executing(PLACE), bed.executing(OTHER), bed.gate.waiting()), (0, 0, 1));
    let effects = bed.pass(Duration::from_millis(1_100));
    let third = connection(&effects);
    bed.step(Input::Connected { id: third });
    assert!(bed.said(third).ends_with("\r\n\r\nhi"), "{}", bed.said(third));
}

#[test]
fn what_a_worker_may_have_seen_is_sent_again_only_if_that_does_no_harm() {
    for (asked, is_repeated) in
        [(ASKED, true), (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", false)]
    {
        let mut bed = Bed::new(|garden| garden.slots = 1);
        bed.open(PLACE, 0, 1);
        let client = bed.client();
        let link = connection(&bed.ask(client, asked));
        bed.step(Input::Connected { id: link });
        bed.gate.close(PLACE);
        bed.step(Input::Dismissed { pool: POOL.to_string(), place: PLACE });
        assert_eq!(bed.gate.waiting(), u32::from(is_repeated));
        assert_eq!(bed.said(client).contains("502 worker-lost"), !is_repeated);
    }
}

#[test]
fn the_queue_has_an_end_and_a_time_and_order() {
    let mut bed = Bed::new(|garden| {
        garden.queue.limit = 2;
        garden.queue.retry_after = Duration::from_secs(7);
    });
    let clients: Vec<SocketId> = (0..3).map(|_| bed.client()).collect();
    bed.ask(clients[0], ASKED);
    bed.ask(clients[1], ASKED);
    bed.ask(clients[2], ASKED);
    let said = bed.said(clients[2]);
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("503 queue-full\n"), "{said}");
    assert!(said.contains("\r\nRetry-After: 7\r\n"), "{said}");
    let effects = bed.pass(Duration::from_millis(120_010));
    let written: Vec<SocketId> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { to, .. } => Some(*to),
            _ => None,
        })
        .collect();
    assert_eq!(written.len(), 2, "{effects:?}");
    assert_eq!(bed.gate.waiting(), 0);
    let log = String::from_utf8_lossy(&bed.out.log).into_owned();
    assert_eq!(log.matches("\"reason\":\"queue-timeout\"").count(), 2, "{log}");
}

#[test]
fn a_client_that_leaves_keeps_its_place_until_it_is_looked_at() {
    let seconds = Duration::from_secs;
    for (check, until, is_gone) in
        [(Some(seconds(5)), 4, false), (Some(seconds(5)), 6, true), (None, 100, false)]
    {
        let mut bed = Bed::new(|garden| garden.queue.disconnect_check = check);
        let client = bed.client();
        bed.ask(client, ASKED);
        bed.pass(seconds(1));
        bed.step(Input::Ended { id: client });
        assert_eq!(bed.gate.waiting(), 1);
        bed.pass(seconds(until));
        assert_eq!(bed.gate.waiting(), u32::from(!is_gone), "{check:?} {until}");
        bed.open(PLACE, 0, 1);
        if bed.gate.waiting() > 0 {
            bed.granted_next();
        }
        assert_eq!(bed.listener.tally().upstream_connects, 0, "a gone client reaches nobody");
        assert_eq!((bed.executing(PLACE), bed.gate.waiting()), (0, 0));
        let log = String::from_utf8_lossy(&bed.out.log).into_owned();
        assert!(log.contains("\"reason\":\"client-gone\""), "{log}");
    }
}

#[test]
fn a_large_body_waits_in_bounded_memory() {
    let mut bed = Bed::new(|garden| garden.slots = 1);
    let client = bed.client();
    bed.ask(client, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    let piece = vec![b'x'; 10_000];
    let mut sent = 0;
    while !bed.out.effects.contains(&Effect::Hold { id: client }) {
        bed.step(Input::Received { id: client, bytes: &piece });
        sent += piece.len();
        assert!(sent <= 80_000);
    }
    bed.open(PLACE, 0, 1);
    let effects = bed.granted_next();
    let link = connection(&effects);
    let effects = bed.step(Input::Connected { id: link });
    let text = bed.said(link);
    assert_eq!(text.len() - text.find("\r\n\r\n").unwrap() - 4, sent);
    assert!(effects.contains(&Effect::Recv { id: client }), "{effects:?}");
}

#[test]
fn a_pool_that_takes_nothing_says_so_its_own_way() {
    for (standing, word) in
        [(Standing::Stopped, "pool-stopped"), (Standing::Tripped, "pool-tripped")]
    {
        let mut bed = Bed::new(|garden| garden.queue.retry_after = Duration::ZERO);
        let (waits, comes) = (bed.client(), bed.client());
        bed.ask(waits, ASKED);
        let page: Option<Arc<[u8]>> = Some(Arc::from(b"<p>closed".as_slice()));
        bed.step(Input::Paged { pool: POOL.to_string(), page });
        bed.gate.stand(standing, 0, false);
        bed.step(Input::Stood { pool: POOL.to_string(), standing });
        let said = bed.said(waits);
        assert!(said.starts_with("HTTP/1.1 503 ") && said.ends_with("\r\n\r\n<p>closed"));
        assert!(said.contains("Content-Type: text/html\r\nContent-Length: 9\r\n"), "{said}");
        assert!(!said.contains("Retry-After"), "{said}");
        bed.ask(comes, ASKED);
        assert!(bed.said(comes).ends_with("closed"));
        let log = String::from_utf8_lossy(&bed.out.log).into_owned();
        assert_eq!(log.matches(word).count(), 2, "{log}");
        assert_eq!(bed.gate.waiting(), 0);
    }
    let mut bed = Bed::new(|garden| garden.queue.reject = Reject::Reset);
    bed.gate.stand(Standing::Stopped, 0, false);
    let client = bed.client();
    assert_eq!(bed.ask(client, ASKED), [Effect::End { id: client, how: Ending::Reset }]);
    bed.gate.stand(Standing::Paused { limit: 1 }, 1, false);
    let client = bed.client();
    assert_eq!(bed.ask(client, ASKED), [], "held at the door");
    assert_eq!(bed.gate.waiting(), 1);
}

#[test]
fn a_pool_that_is_refused_or_removed_answers_503() {
    let mut bed = Bed::new(|_| ());
    let client = bed.client();
    bed.ask(client, ASKED);
    bed.plan(Source::Invalid("no".to_string()));
    assert!(bed.said(client).contains("503 pool-stopped\n"), "{}", bed.said(client));
    bed.ask(client, ASKED);
    assert!(bed.said(client).contains("503 pool-invalid\n"), "{}", bed.said(client));
    assert_eq!(bed.gate.waiting(), 0);
}

#[test]
fn a_reload_keeps_the_workers_and_those_that_wait() {
    let mut bed = Bed::new(|garden| garden.slots = 1);
    bed.open(PLACE, 0, 1);
    let (runs, waits) = (bed.client(), bed.client());
    let link = connection(&bed.ask(runs, ASKED));
    bed.step(Input::Connected { id: link });
    bed.ask(waits, ASKED);
    let mut changed = garden();
    changed.slots = 1;
    changed.queue.limit = 7;
    assert_eq!(bed.plan(Source::Garden(Box::new(changed))), []);
    bed.step(Input::Received { id: link, bytes: ANSWER });
    assert!(bed.said(runs).ends_with("hi") && bed.said(link).starts_with("GET "));
}

#[test]
fn a_retired_worker_finishes_and_keeps_no_connection() {
    let mut bed = Bed::new(|garden| garden.slots = 2);
    bed.open(PLACE, 0, 2);
    let (one, two) = (bed.client(), bed.client());
    let first = connection(&bed.ask(one, ASKED));
    bed.step(Input::Connected { id: first });
    let second = connection(&bed.ask(two, ASKED));
    bed.step(Input::Connected { id: second });
    bed.step(Input::Received { id: first, bytes: ANSWER });
    assert!(!bed.gate.close(PLACE));
    let effects = bed.step(Input::Retired { pool: POOL.to_string(), place: PLACE });
    assert_eq!(effects, [Effect::End { id: first, how: Ending::Now }], "the idle one");
    let effects = bed.step(Input::Received { id: second, bytes: ANSWER });
    assert!(bed.said(two).ends_with("hi"));
    assert!(effects.contains(&Effect::End { id: second, how: Ending::Now }), "{effects:?}");
    assert!(effects.contains(&Effect::Empty { pool: POOL.to_string(), place: PLACE }));
}

#[test]
fn where_slots_are_not_counted_busy_workers_show_demand() {
    let mut bed = Bed::new(|_| ());
    bed.open(PLACE, 0, 0);
    let (one, two) = (bed.client(), bed.client());
    let effects = bed.ask(one, ASKED);
    assert!(effects.contains(&wanted()), "{effects:?}");
    let effects = bed.ask(two, ASKED);
    assert!(!effects.contains(&wanted()), "asked for already: {effects:?}");
    assert_eq!(bed.executing(PLACE), 2);
}

#[test]
fn a_worker_is_spent_once() {
    let mut bed = Bed::new(|_| ());
    bed.open(PLACE, 0, 0);
    bed.gate.close(PLACE);
    bed.gate.open(PLACE, 0, 0, 2);
    let spent = Effect::Spent { pool: POOL.to_string(), place: PLACE };
    for is_last in [false, true, false] {
        let client = bed.client();
        assert_eq!(bed.ask(client, ASKED).contains(&spent), is_last);
    }
}

#[test]
fn a_cookie_pins_to_the_slot_and_is_given_once() {
    let mut bed = Bed::new(|garden| {
        garden.affinity = Some(Affinity::Cookie("lychgate".to_string()));
        garden.workers = 2;
    });
    bed.listener.set_affinity_key([3; 32]);
    bed.open(PLACE, 0, 0);
    bed.open(OTHER, 1, 0);
    let client = bed.client();
    let link = connection(&bed.ask(client, ASKED));
    bed.step(Input::Connected { id: link });
    bed.step(Input::Received { id: link, bytes: ANSWER });
    let said = bed.said(client);
    let (_, cookie) = said.split_once("\r\nSet-Cookie: ").unwrap_or_else(|| panic!("{said}"));
    let (cookie, rest) = cookie.split_once("; Path=/; HttpOnly; SameSite=Lax\r\n\r\n").unwrap();
    assert!(cookie.starts_with("lychgate=1-") && rest == "hi", "{said}");
    let asked =
        |cookie: &str| alloc::format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b; {cookie}\r\n\r\n");
    for _ in 0..3 {
        bed.ask(client, asked(cookie).as_bytes());
        assert!(bed.said(link).contains("lychgate=1-"), "pinned, and passed on");
        bed.step(Input::Received { id: link, bytes: ANSWER });
        assert!(!bed.said(client).contains("Set-Cookie"));
    }
    bed.gate.close(OTHER);
    let link = connection(&bed.ask(client, asked(cookie).as_bytes()));
    bed.step(Input::Connected { id: link });
    bed.step(Input::Received { id: link, bytes: ANSWER });
    let said = bed.said(client);
    assert!(said.contains("Set-Cookie: lychgate=0-"), "who was given another slot stays: {said}");
    bed.ask(client, asked("lychgate=1-00112233445566778899aabbccddeeff").as_bytes());
    bed.step(Input::Received { id: link, bytes: ANSWER });
    assert!(bed.said(client).contains("Set-Cookie: lychgate=0-"), "a forged one is none");
}

#[test]
fn a_client_address_always_goes_to_the_same_slot() {
    let mut bed = Bed::new(|garden| garden.affinity = Some(Affinity::ClientIp));
    bed.open(PLACE, 0, 0);
    bed.open(OTHER, 1, 0);
    for _ in 0..6 {
        let client = bed.client();
        bed.ask(client, ASKED);
    }
    let counts = [bed.executing(PLACE), bed.executing(OTHER)];
    assert!(counts == [6, 0] || counts == [0, 6], "{counts:?}");
}

#[test]
fn the_list_shows_who_waits_and_who_executes() {
    let mut bed = Bed::new(|garden| garden.slots = 1);
    bed.open(PLACE, 4, 1);
    let (one, two) = (bed.client(), bed.client());
    bed.ask(one, ASKED);
    bed.now = Instant(0) + Duration::from_secs(3);
    bed.ask(two, b"POST /y HTTP/1.1\r\nHost: k\r\nContent-Length: 5\r\n\r\n");
    let rows = |older: u64, pool: Option<&str>| {
        let mut rows = Vec::new();
        bed.listener.list(bed.now, pool, Duration::from_secs(older), |row| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let place = row.worker.map(|worker| (worker.slot, worker.generation));
            let what = [row.method, row.host, row.target].map(text).join(" ");
            rows.push((what, row.state, place, row.elapsed.as_secs()));
        });
        rows
    };
    let first = ("GET h /x".to_string(), "connecting", Some((4, 1)), 3);
    let second = ("POST k /y".to_string(), "waiting", None, 0);
    assert_eq!(rows(0, None), [first.clone(), second]);
    assert_eq!(rows(2, Some(POOL)), [first]);
    assert_eq!(rows(0, Some("other")), []);
}

#[test]
fn tickets_of_clients_that_left_do_not_pile_up() {
    let mut bed = Bed::new(|garden| garden.queue.limit = 10);
    for _ in 0..500 {
        let client = bed.client();
        bed.ask(client, ASKED);
        bed.step(Input::Broken { id: client });
        bed.step(Input::Closed { id: client, unsent: 0 });
    }
    let waits = bed.client();
    bed.ask(waits, ASKED);
    let mut count = 0;
    bed.gate.sweep(|_| {
        count += 1;
        false
    });
    assert!((1..=66).contains(&count), "{count} tickets");
    bed.open(PLACE, 0, 1);
    bed.granted_next();
    assert_eq!((bed.executing(PLACE), bed.state()), (1, vec!["connecting"]));
}
