//! One run: clients, servers and the machine in virtual time, all from one seed.

use super::act::Leave;
use super::chance::{hop, percent, piece, range, size};
use super::client::{Client, Pace};
use super::cover::Cover;
use super::engine::{Engine, Note, RECEIVE_SIZE_MAX};
use super::garden::{Doing, Garden};
use super::ledger::Ledger;
use super::link::{LinkNo, Phase, Side};
use super::machine::Machine;
use super::mouth::{Mouth, Say};
use super::server::Server;
use super::setting::{DOORS, Setting, generation_of, pool_of};
use super::verdict;
use lychgate::base::limits::AHEAD_SIZE_MAX;
use lychgate::base::prng::Prng;
use lychgate::base::time::Instant;
use lychgate::machine::listener::seam::Input;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that happens at its time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Start(usize),
    Speak(LinkNo),
    Deliver(LinkNo),
    Read(LinkNo),
    Connected(LinkNo),
    Refused(LinkNo),
    Closed(LinkNo),
    /// A server loses patience with a connection on which nothing was read since.
    Tire(LinkNo, u64),
    /// Something happens to the garden.
    Tend(Doing),
    Reload,
    Drain,
    /// No more health checks, so that the run can end.
    Retire,
}

/// Who is at the other end of a link.
#[derive(Debug)]
pub(super) enum Actor {
    Nobody,
    Client(Box<Client>),
    Server(Box<Server>),
}

/// What is already under way for a link, so that it is not scheduled twice.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    deliver: bool,
    read: bool,
    is_end_heard: bool,
}

#[derive(Debug)]
pub(crate) struct World<M> {
    pub(super) engine: Engine<M>,
    pub(super) prng: Prng,
    pub(super) ledger: Ledger,
    pub(super) setting: Setting,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    /// Clients that have not connected yet.
    waiting: Vec<Option<Client>>,
    pub(super) actors: Vec<Actor>,
    due: Vec<Due>,
    drained: u32,
    pub(super) steps: u64,
    pub(super) garden: Garden,
}

/// Turns after which a run is said never to end.
const TURNS_MAX: u64 = 400_000;
/// By then everything has had its time-out several times over.
const SPAN_MAX: u64 = 7_200_000_000_000;
/// After the last client came, reloads and drains happen no more.
const RETIRE_AT: u64 = 40_000_000_000;

impl<M: Machine> World<M> {
    pub(crate) fn new(seed: u64, is_traced: bool, machine: M) -> Self {
        let mut prng = Prng::new(seed);
        let setting = Setting::draw(&mut prng);
        let mut engine = Engine::new(machine, prng.draw(), is_traced);
        let garden = Garden::new(&setting);
        engine.gate = Some((Arc::clone(&garden.gate), setting.queue_limit));
        let mut world = Self {
            engine,
            ledger: Ledger::new(setting),
            setting,
            events: BTreeMap::new(),
            sequence: 0,
            waiting: Vec::new(),
            actors: Vec::new(),
            due: Vec::new(),
            drained: 0,
            steps: 0,
            garden,
            prng,
        };
        world.schedule();
        world
    }

    fn schedule(&mut self) {
        let clients = 1 + size(&mut self.prng, 9);
        for number in 0..clients {
            let name = u32::try_from(number).unwrap_or(0) + 1;
            let client = Client::draw(&mut self.prng, name, &mut self.ledger);
            self.waiting.push(Some(client));
            let at = self.prng.below(2_000) * 1_000_000 * self.prng.below(4);
            self.at(at, Event::Start(number));
        }
        self.schedule_garden();
        for (times, event) in [(20, Event::Reload), (15, Event::Drain)] {
            if percent(&mut self.prng, times) {
                // Early is when most is under way.
                let latest = if self.prng.one_in(2) { 400 } else { 8_000 };
                let at = self.prng.below(latest) * 1_000_000;
                self.at(at, event);
            }
        }
        self.at(RETIRE_AT, Event::Retire);
    }

    /// Runs to the end and returns what was met, or what is wrong.
    pub(crate) fn run(mut self) -> Result<Cover, String> {
        self.plan();
        self.engine.flush();
        self.attend();
        while self.engine.fault.is_none() {
            let event = self.events.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            let deadline = self.engine.machine.deadline().0;
            let now = event.min(deadline.max(self.engine.now.0));
            if now > SPAN_MAX {
                break;
            }
            // The engine wakes a little late, and with more than one thing to tell.
            let late = if self.prng.one_in(3) { self.prng.below(400_000) } else { 0 };
            self.turn(now + late);
        }
        if self.engine.fault.is_none() {
            self.judge();
        }
        let now = self.engine.now.0 / 1_000;
        self.engine
            .fault
            .map_or(Ok(self.ledger.cover), |fault| Err(format!("{fault} (at {now}us)")))
    }

    fn turn(&mut self, now: u64) {
        self.engine.now = Instant(now);
        self.engine.settle();
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= now
        {
            let event = entry.remove();
            self.happen(event);
        }
        self.engine.wake();
        self.engine.flush();
        self.attend();
        self.steps += 1;
        if self.steps > TURNS_MAX {
            self.engine.blame(String::from("the run does not end"));
        }
        if let Err(why) = verdict::watch(&self.engine)
            .and_then(|()| self.watch_ahead())
            .and_then(|()| self.watch_garden())
        {
            self.engine.blame(why);
        }
    }

    /// What a client sends ahead of its turn is kept only up to a limit.
    fn watch_ahead(&mut self) -> Result<(), String> {
        for no in self.engine.open() {
            let delivered = self.engine.links[no].up.left;
            let Some(Actor::Client(client)) = self.actors.get(no) else { continue };
            // After the last answer what still comes is thrown away.
            if delivered > AHEAD_SIZE_MAX as u64 && !self.engine.links[no].is_shut {
                let limit = verdict::ahead_limit(client, &self.ledger);
                if delivered > limit {
                    return Err(format!("link {no}: {delivered} bytes taken, {limit} at most"));
                }
                let is_much = delivered + RECEIVE_SIZE_MAX as u64 * 4 > limit;
                self.ledger.cover.note(if is_much { "very much sent ahead" } else { "much sent" });
            }
        }
        Ok(())
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }

    pub(super) fn soon(&mut self, event: Event) {
        let hop = hop(&mut self.prng);
        self.at(self.engine.now.0 + hop, event);
    }

    fn plan(&mut self) {
        let plan = Arc::new(self.setting.plan());
        let gates = Arc::from([None, None, Some(Arc::clone(&self.garden.gate))]);
        self.engine.step(Input::Planned { plan, doors: Arc::from(DOORS), gates });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(number) => self.start(number),
            Event::Speak(no) => self.speak(no),
            Event::Deliver(no) => {
                self.due[no].deliver = false;
                let waiting = self.engine.links[no].up.queue.len();
                let size = piece(&mut self.prng, waiting);
                self.engine.deliver(no, size);
            }
            Event::Read(no) => self.read(no),
            Event::Connected(no) => self.engine.connected(no),
            Event::Refused(no) => self.engine.refused(no),
            Event::Closed(no) => self.engine.closed(no),
            Event::Tire(no, read) => self.tire(no, read),
            Event::Tend(doing) => self.tend(doing),
            Event::Reload => {
                self.ledger.cover.note("reload");
                self.setting.app_servers = 1 + self.setting.app_servers % 3;
                self.setting.idle_connections = 1;
                self.plan();
            }
            Event::Drain => {
                self.ledger.cover.note("drain");
                self.ledger.drained_at = Some(self.engine.now);
                self.engine.step(Input::Draining);
            }
            Event::Retire => {
                self.setting.has_check = false;
                self.plan();
            }
        }
    }

    fn start(&mut self, number: usize) {
        let Some(client) = self.waiting[number].take() else { return };
        let open = self.engine.open().collect::<Vec<_>>();
        let is_client = |no: &LinkNo| matches!(self.engine.links[*no].side, Side::Client);
        let count = open.iter().filter(|no| is_client(no)).count();
        let is_full = count >= usize::try_from(self.setting.connections_max).unwrap_or(0);
        let Some(no) = self.engine.accept(client.door, client.peer) else {
            if !is_full && self.ledger.drained_at.is_none() {
                self.engine.blame(String::from("a client was turned away without reason"));
            }
            self.ledger.cover.note("client turned away");
            return;
        };
        if is_full {
            self.engine.blame(String::from("more clients than max_connections"));
        }
        self.ledger.cover.note("client let in");
        for mark in &client.marks {
            if let Some(request) = self.ledger.requests.get_mut(mark) {
                request.client = Some(no);
            }
        }
        self.place(no, Actor::Client(Box::new(client)));
        self.soon(Event::Speak(no));
    }

    fn place(&mut self, no: LinkNo, actor: Actor) {
        while self.actors.len() <= no {
            self.actors.push(Actor::Nobody);
            self.due.push(Due::default());
        }
        self.actors[no] = actor;
    }

    /// Sees to what the engine noted in its turn.
    fn attend(&mut self) {
        for note in std::mem::take(&mut self.engine.notes) {
            match note {
                Note::Connecting(no) => self.connect(no),
                Note::Readable(no) => {
                    self.place_holder(no);
                    if !std::mem::replace(&mut self.due[no].deliver, true) {
                        self.soon(Event::Deliver(no));
                    }
                }
                Note::Flowed(no) => {
                    self.place_holder(no);
                    if !std::mem::replace(&mut self.due[no].read, true) {
                        let pause = self.pace(no);
                        self.at(self.engine.now.0 + pause, Event::Read(no));
                    }
                }
                Note::Room(no) => self.soon(Event::Speak(no)),
                Note::Closing(no) => self.soon(Event::Closed(no)),
                Note::Said(no, bytes) => self.said(no, &bytes),
                Note::Drained => {
                    self.drained += 1;
                    self.ledger.cover.note("drained");
                }
                note => self.attend_garden(&note),
            }
        }
    }

    fn place_holder(&mut self, no: LinkNo) {
        if self.actors.len() <= no {
            self.place(no, Actor::Nobody);
        }
    }

    fn pace(&mut self, no: LinkNo) -> u64 {
        match &self.actors[no] {
            Actor::Client(client) if client.pace == Pace::Slow => {
                range(&mut self.prng, 1, 60) * 1_000_000
            }
            _ => hop(&mut self.prng),
        }
    }

    /// A server's kernel decides on a connection.
    fn connect(&mut self, no: LinkNo) {
        let Side::Server(address) = self.engine.links[no].side.clone() else { return };
        let pool = pool_of(&address);
        let server = Server::new(pool, &mut self.prng);
        self.place(no, Actor::Server(Box::new(server)));
        match generation_of(&address).map(|generation| self.garden.connect(generation)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => {
                self.ledger.refusals.push((self.engine.now, pool));
                return self.soon(Event::Refused(no));
            }
            Some(Err(why)) => return self.engine.blame(why),
        }
        match self.prng.below(40) {
            0..=2 => {
                self.ledger.cover.note("connect refused");
                self.ledger.refusals.push((self.engine.now, pool));
                self.soon(Event::Refused(no));
            }
            3 => {
                self.ledger.cover.note("connect never ends");
                self.ledger.refusals.push((self.engine.now, pool));
            }
            _ => self.soon(Event::Connected(no)),
        }
    }

    fn said(&mut self, no: LinkNo, bytes: &[u8]) {
        let Actor::Server(server) = &mut self.actors[no] else { return };
        let heard = server.hear(no, bytes, self.engine.now, &self.engine.links, &mut self.ledger);
        if let Err(why) = heard {
            self.engine.blame(format!("server on link {no}: {why}"));
        }
    }

    /// The peer reads some of what lies in its kernel's buffer, or finds the end of it.
    fn read(&mut self, no: LinkNo) {
        self.due[no].read = false;
        if self.engine.links[no].is_peer_gone {
            return;
        }
        let waiting = self.engine.links[no].down.queue.len();
        let mut size = piece(&mut self.prng, waiting);
        if let Actor::Client(client) = &self.actors[no] {
            match client.pace {
                Pace::Brisk => {}
                Pace::Slow => size = size.min(500),
                Pace::Stops(at) if client.read >= at => {
                    self.ledger.cover.note("client stopped reading");
                    return;
                }
                Pace::Stops(at) => {
                    size = size.min(usize::try_from(at - client.read).unwrap_or(usize::MAX));
                }
            }
        }
        let bytes = self.engine.peer_reads(no, size);
        self.engine.trace(|| {
            let down = &self.engine.links[no].down;
            let (left, ends) = (down.queue.len(), (down.is_ended, down.is_reset));
            format!("link {no}: the peer reads {} bytes, {left} left, {ends:?}", bytes.len())
        });
        if bytes.is_empty() {
            self.hear_end(no);
            return;
        }
        self.hear(no, &bytes);
        let down = &self.engine.links[no].down;
        if down.queue.is_empty() && (down.is_ended || down.is_reset) {
            self.engine.notes.push(Note::Flowed(no));
        }
        self.soon(Event::Speak(no));
    }

    fn hear(&mut self, no: LinkNo, bytes: &[u8]) {
        let (now, links) = (self.engine.now, &self.engine.links);
        let heard = match &mut self.actors[no] {
            Actor::Client(client) => client.hear(bytes, now, &links[no], links, &mut self.ledger),
            Actor::Server(server) => {
                server.read(bytes, now, &mut self.prng, &mut self.ledger);
                Ok(())
            }
            Actor::Nobody => Ok(()),
        };
        if let Err(why) = heard {
            self.engine.blame(format!("link {no}: {why}"));
        }
        if let Actor::Server(server) = &self.actors[no]
            && let Some(patience) = server.patience
            && server.is_idle()
        {
            let read = server.read;
            self.at(now.0 + patience, Event::Tire(no, read));
        }
    }

    fn hear_end(&mut self, no: LinkNo) {
        let down = &self.engine.links[no].down;
        let (is_reset, is_ended) = (down.is_reset, down.is_ended);
        if !is_reset && !is_ended || self.due[no].is_end_heard {
            return;
        }
        self.due[no].is_end_heard = true;
        let heard = match &mut self.actors[no] {
            Actor::Client(client) if is_reset => {
                client.hear_reset();
                Ok(())
            }
            Actor::Client(client) => client.hear_end(self.engine.now, &mut self.ledger),
            Actor::Server(server) => {
                server.mouth.push(Say::Leave(Leave::Close));
                Ok(())
            }
            Actor::Nobody => Ok(()),
        };
        if let Err(why) = heard {
            self.engine.blame(format!("link {no}: {why}"));
        }
        self.soon(Event::Speak(no));
    }

    fn tire(&mut self, no: LinkNo, read: u64) {
        let Actor::Server(server) = &mut self.actors[no] else { return };
        if server.read == read && server.is_idle() && !self.engine.links[no].is_peer_gone {
            self.ledger.cover.note("server closes an idle connection");
            server.mouth.push(Say::Leave(Leave::Close));
            self.speak(no);
        }
    }

    /// Says the next thing of a script, if its time has come.
    fn speak(&mut self, no: LinkNo) {
        let now = self.engine.now;
        if self.engine.links[no].is_peer_gone || self.engine.links[no].phase == Phase::Connecting {
            return;
        }
        loop {
            let Some(say) = self.mouth(no).and_then(|mouth| mouth.says.front().cloned()) else {
                return;
            };
            match say {
                Say::Pause(span) => {
                    let until = Instant(now.0.saturating_add(span));
                    self.replace_front(no, Say::Until(until));
                }
                Say::Until(until) if until > now => {
                    return self.at(until.0, Event::Speak(no));
                }
                Say::Until(_) => self.skip(no),
                Say::Await(gate) => {
                    let Actor::Client(client) = &self.actors[no] else { return };
                    if client.is_open(gate, now) {
                        self.skip(no);
                        continue;
                    }
                    return self.wait(no, gate);
                }
                Say::Bytes(bytes) if bytes.is_empty() => self.skip(no),
                Say::Bytes(bytes) => {
                    let size = piece(&mut self.prng, bytes.len());
                    let taken = self.engine.peer_writes(no, &bytes[..size], false);
                    if let Some(mouth) = self.mouth(no) {
                        mouth.advance(taken);
                    }
                    if taken == size {
                        self.soon(Event::Speak(no));
                    }
                    return;
                }
                Say::Glued(bytes, glue) => {
                    let link = &mut self.engine.links[no];
                    link.glue = Some(link.up.left + (link.up.queue.len() + glue) as u64);
                    self.engine.peer_writes(no, &bytes, true);
                    self.skip(no);
                }
                Say::Leave(how) => {
                    self.skip(no);
                    self.leave(no, how);
                }
            }
        }
    }

    fn wait(&mut self, no: LinkNo, gate: super::mouth::Gate) {
        use super::mouth::Gate;
        if let Gate::Continue { index, until: None } = gate {
            // Patience for 100 is a second, as curl's.
            let until = Instant(self.engine.now.0 + 1_000_000_000);
            let gate = Gate::Continue { index, until: Some(until) };
            self.replace_front(no, Say::Await(gate));
            self.at(until.0, Event::Speak(no));
        }
    }

    fn mouth(&mut self, no: LinkNo) -> Option<&mut Mouth> {
        match self.actors.get_mut(no)? {
            Actor::Client(client) => Some(&mut client.mouth),
            Actor::Server(server) => Some(&mut server.mouth),
            Actor::Nobody => None,
        }
    }

    fn replace_front(&mut self, no: LinkNo, say: Say) {
        if let Some(front) = self.mouth(no).and_then(|mouth| mouth.says.front_mut()) {
            *front = say;
        }
    }

    fn skip(&mut self, no: LinkNo) {
        if let Some(mouth) = self.mouth(no) {
            mouth.says.pop_front();
        }
    }

    pub(super) fn leave(&mut self, no: LinkNo, how: Leave) {
        let now = self.engine.now;
        if let Actor::Client(client) = &mut self.actors[no]
            && !client.saw_fin
            && !client.saw_reset
        {
            client.left.get_or_insert((now, how));
        }
        self.engine.trace(|| format!("link {no}: the peer leaves by {how:?}"));
        match how {
            Leave::Fin => self.engine.peer_ends(no),
            Leave::Close => self.engine.peer_closes(no),
            Leave::Reset => self.engine.peer_resets(no),
        }
    }

    /// All is over: nothing may be left open, and nobody unanswered.
    fn judge(&mut self) {
        let open: Vec<LinkNo> = self.engine.open().collect();
        if let Some(no) = open.first() {
            let link = &self.engine.links[*no];
            let what = format!("link {no} ({:?}, {:?}) was never ended", link.side, link.phase);
            return self.engine.blame(what);
        }
        if self.ledger.drained_at.is_some() != (self.drained == 1) {
            return self.engine.blame(format!("Drained {} times", self.drained));
        }
        let rest = self.engine.machine.rest().and_then(|()| self.garden.rest());
        if let Err(why) = rest.and_then(|()| verdict::check_log(&self.engine.log, &self.ledger)) {
            return self.engine.blame(why);
        }
        for (no, actor) in self.actors.iter().enumerate() {
            let Actor::Client(client) = actor else { continue };
            let link = &self.engine.links[no];
            let judged = verdict::conclude(client, link, &self.engine.links, &mut self.ledger);
            if let Err(why) = judged {
                return self.engine.blame(format!("client on link {no}: {why}"));
            }
        }
    }
}
