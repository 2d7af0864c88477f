//! The listener process: takes its configuration and its sockets from the supervisor, gives up
//! every privilege, runs one thread of the data plane per core and speaks for them all.

use crate::base::id::DoorId;
use crate::plan::Plan;
use crate::shell::control::{
    self, AffinityKey, FRAME_SIZE_MAX, FromListener, RequestRow, ToListener,
};
use crate::shell::data::{Message, News, Report};
use crate::shell::listener::count::Count;
use crate::shell::listener::keep::{Keep, Standing, Succession};
use crate::shell::listener::listing::{Lists, parts};
use crate::shell::listener::roster::{Admission, Order, Roster};
use crate::shell::listener::start::{drop_privileges, read_page, read_plan};
use crate::shell::listener::threads::Threads;
use crate::shell::logs::{AccessLog, operational};
use crate::sys::identity::Identity;
use crate::sys::{clock, process, signal};
use crossbeam::channel::{Receiver, bounded, never, select, unbounded};
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

mod count;
mod keep;
mod listing;
mod roster;
mod start;
#[cfg(test)]
mod tests;
mod threads;

/// The control channel's number, by agreement with the supervisor.
const CONTROL: i32 = 3;
/// How long the access log may take to be written out at the end.
const LOG_LIMIT: Duration = Duration::from_secs(1);
/// After this much of a drain's limit in addition, threads that hang are given up.
const THREAD_LIMIT: Duration = Duration::from_millis(500);
/// Frames from the supervisor; `None` when it is gone.
type Frame = Option<(ToListener, Vec<OwnedFd>)>;

/// Runs the process to its end; the error is what stopped it.
pub fn run() -> Result<(), String> {
    operational::start();
    let say = |doing: &'static str| move |cause| format!("{doing}: {cause}");
    signal::ignore().map_err(|e| say("ignoring signals")(e.to_string()))?;
    let control = process::inherited(CONTROL).map_err(|e| {
        format!("taking the control channel: {e}. This command is for `lychgate run` only")
    })?;
    let control = Arc::new(control);
    let frames = read_frames(Arc::clone(&control))?;
    let log = AccessLog::start().map_err(|e| say("starting the access log")(e.to_string()))?;
    let outcome = Listener::begin(Arc::clone(&control), frames, log).and_then(Listener::serve);
    outcome.map_err(|why| {
        let told = control::tell(control.as_fd(), &FromListener::Failed { why: why.clone() });
        // The supervisor logs it. Where that is what has gone, nobody else would.
        if told.is_ok() { String::new() } else { why }
    })
}

/// A thread of its own, because threads' reports and the supervisor's frames are awaited together.
fn read_frames(control: Arc<OwnedFd>) -> Result<Receiver<Frame>, String> {
    let (frames, heard) = bounded(64);
    let read = move || {
        let mut buffer = vec![0; FRAME_SIZE_MAX];
        loop {
            let frame = control::hear(control.as_fd(), &mut buffer).unwrap_or_else(|error| {
                tracing::error!("reading from the supervisor: {error}. The listener drains");
                None
            });
            let is_last = frame.is_none();
            if frames.send(frame).is_err() || is_last {
                return;
            }
        }
    };
    Builder::new()
        .name("control".into())
        .spawn(read)
        .map_err(|error| format!("starting the control thread: {error}"))?;
    Ok(heard)
}

struct Listener {
    control: Arc<OwnedFd>,
    frames: Receiver<Frame>,
    /// For the next supervisor; `None` while it is awaited.
    keep: Option<Keep>,
    heirs: Receiver<Succession>,
    reports: Receiver<Report>,
    log: AccessLog,
    threads: Threads,
    started: u16,
    drained: u16,
    engine: Option<(&'static str, Option<String>)>,
    count: Count,
    roster: Roster,
    lists: Lists,
    /// In force; threads start with the first.
    plan: Arc<Plan>,
    /// Configured before all threads run; told when they do.
    revision: Option<u64>,
    /// Of the configuration in force.
    revision_in_force: u64,
}

impl Listener {
    /// Hears `Begin`, `Log` and the first `Configure`, drops privileges, starts the threads.
    fn begin(
        control: Arc<OwnedFd>,
        frames: Receiver<Frame>,
        log: AccessLog,
    ) -> Result<Self, String> {
        let mut opening: Option<(u16, Option<Identity>, AffinityKey)> = None;
        loop {
            let frame = frames.recv_timeout(Duration::from_secs(10));
            let Ok(Some((word, mut descriptors))) = frame else {
                return Err("waiting for the configuration: the supervisor is silent".into());
            };
            match (word, opening.take()) {
                (ToListener::Begin { threads, identity, affinity_key }, None) => {
                    opening = Some((threads, identity, affinity_key));
                }
                (ToListener::Log, begun) => {
                    log.redirect(descriptors.pop());
                    opening = begun;
                }
                (
                    ToListener::Configure { revision, name, doors },
                    Some((threads, identity, key)),
                ) => {
                    let (plan, doors) = read_plan(&name, descriptors, &doors)?;
                    drop_privileges(identity.as_ref(), &plan)?;
                    let mut listener = Self::new(control, frames, log, threads, &key, &plan)?;
                    listener.configure(revision, plan, &doors)?;
                    return Ok(listener);
                }
                (word, _) => return Err(format!("starting: unexpected {word:?}")),
            }
        }
    }

    /// Starts the threads.
    fn new(
        control: Arc<OwnedFd>,
        frames: Receiver<Frame>,
        log: AccessLog,
        threads: u16,
        key: &AffinityKey,
        plan: &Arc<Plan>,
    ) -> Result<Self, String> {
        let (reports_in, reports) = unbounded();
        let threads = Threads::start(threads, plan, key, &log, &reports_in)?;
        let keep = Keep::new(control.as_fd())?;
        Ok(Self {
            control,
            frames,
            keep: Some(keep),
            heirs: never(),
            reports,
            log,
            roster: Roster::new(threads.count()),
            threads,
            started: 0,
            drained: 0,
            engine: None,
            count: Count::default(),
            lists: Lists::default(),
            plan: Arc::clone(plan),
            revision: None,
            revision_in_force: 0,
        })
    }

    fn serve(mut self) -> Result<(), String> {
        loop {
            select! {
                recv(self.frames) -> frame => match frame.ok().flatten() {
                    Some((ToListener::Stop, _)) => {
                        self.finish();
                        return Ok(());
                    }
                    Some((ToListener::Drain { limit_ms }, _)) => {
                        return self.drain(Duration::from_millis(limit_ms));
                    }
                    Some((word, descriptors)) => self.obey(word, descriptors)?,
                    None if self.keep.as_ref().is_some_and(Keep::has_heir) => {
                        tracing::error!(
                            "listening: the supervisor is gone. Serving on until another comes"
                        );
                        self.await_heir()?;
                    }
                    None => {
                        tracing::error!(
                            "listening: the supervisor is gone. Finishing what runs, then ending"
                        );
                        let limit = self.plan.server.shutdown_limit;
                        return self.drain(limit);
                    }
                },
                recv(self.heirs) -> succession => match succession {
                    Ok((connection, keep)) => self.succeed(connection, keep)?,
                    Err(_) => return Err("waiting for a supervisor: the thread is gone".into()),
                },
                recv(self.reports) -> report => self.hear(report.ok())?,
            }
        }
    }

    fn await_heir(&mut self) -> Result<(), String> {
        self.frames = never();
        if let Some(keep) = self.keep.take() {
            self.heirs = keep.wait()?;
        }
        Ok(())
    }

    /// A new supervisor has come. If it goes again at once, the next one is awaited.
    fn succeed(&mut self, connection: OwnedFd, keep: Keep) -> Result<(), String> {
        let threads = u16::try_from(self.threads.count()).unwrap_or(u16::MAX);
        let standing = Standing { threads, revision: self.revision_in_force };
        let told = keep.hand_over(connection.as_fd(), standing);
        (self.keep, self.heirs) = (Some(keep), never());
        if let Err(error) = told {
            tracing::warn!("handing over to a supervisor: {error}. Waiting for another");
            return self.await_heir();
        }
        tracing::info!("listening: another supervisor has come");
        (self.control, self.frames) = keep::succeed(connection)?;
        Ok(())
    }

    fn obey(&mut self, word: ToListener, mut descriptors: Vec<OwnedFd>) -> Result<(), String> {
        match word {
            ToListener::Log => self.log.redirect(descriptors.pop()),
            ToListener::Configure { revision, name, doors } => {
                let (plan, doors) = read_plan(&name, descriptors, &doors)?;
                operational::set_level(plan.server.log.level);
                self.configure(revision, plan, &doors)?;
            }
            ToListener::Open { sockets } => {
                if sockets.len() != descriptors.len() {
                    return Err("opening doors: sockets are missing from the message".into());
                }
                for ((door, thread), socket) in sockets.into_iter().zip(descriptors) {
                    if let Some(keep) = &mut self.keep {
                        keep.open(door, thread, &socket)?;
                    }
                    self.threads.tell(thread, Message::Open { door: DoorId(door), socket })?;
                }
            }
            ToListener::Keep { name } => {
                if let Some(keep) = &mut self.keep
                    && let Err(why) = keep.keep(name, descriptors)
                {
                    tracing::warn!("{why}");
                }
            }
            ToListener::Release { name } => {
                if let Some(keep) = &mut self.keep {
                    keep.release(&name);
                }
            }
            ToListener::Shut { door } => {
                if let Some(keep) = &mut self.keep {
                    keep.shut(door);
                }
                self.threads.tell_all(|| Message::Shut { door: DoorId(door) })?;
            }
            ToListener::Count => {
                self.count.begin(self.threads.count(), self.log.loss());
                self.threads.tell_all(|| Message::Count)?;
            }
            ToListener::Measure => self.measure()?,
            ToListener::List { token, pool, older_ms } => {
                self.lists.begin(token, self.threads.count());
                let older = Duration::from_millis(older_ms);
                self.threads.tell_all(|| Message::List { token, pool: pool.clone(), older })?;
            }
            ToListener::Page { pool } => {
                let page = read_page(descriptors.pop())?;
                let news = News::Paged { pool, page };
                self.threads.tell_all(|| Message::News(news.clone()))?;
            }
            word => return self.arrange(word),
        }
        Ok(())
    }

    /// Hears of workers, and of what is to be done with requests.
    fn arrange(&mut self, word: ToListener) -> Result<(), String> {
        let (now, mut out) = (clock::now(), Vec::new());
        match word {
            ToListener::Admit { pool, worker, address, slots, requests_max, delivered } => {
                let address = control::parse_address(&address)
                    .ok_or_else(|| format!("admitting a worker: {address} is no address"))?;
                let admission = Admission { worker, address, slots, requests_max, delivered };
                self.roster.admit(&pool, admission, &mut out);
            }
            ToListener::Retire { pool, worker } => {
                self.roster.retire(now, &pool, worker, &mut out);
            }
            ToListener::Dismiss { pool, worker } => {
                self.roster.dismiss(now, &pool, worker, &mut out);
            }
            ToListener::Stand { pool, standing, may_grow } => {
                self.roster.stand(now, &pool, standing.into(), may_grow, &mut out);
            }
            word => return Err(format!("unexpected {word:?}")),
        }
        self.carry_out(out)
    }

    fn carry_out(&self, orders: Vec<Order>) -> Result<(), String> {
        orders.into_iter().try_for_each(|order| match order {
            Order::Tell(news) => self.threads.tell_all(|| Message::News(news.clone())),
            Order::Grant { pool, grant } => {
                self.threads.tell(grant.ticket.thread, Message::Granted { pool, grant })
            }
            Order::Say(word) => self.say(&word),
        })
    }

    fn measure(&mut self) -> Result<(), String> {
        let mut out = Vec::new();
        let mut parts = parts(self.roster.measure(clock::now(), &mut out));
        let last = parts.pop().unwrap_or_default();
        for pools in parts {
            self.say(&FromListener::Measured { pools, is_last: false })?;
        }
        self.say(&FromListener::Measured { pools: last, is_last: true })?;
        self.carry_out(out)
    }

    fn list(&self, token: u64, rows: Vec<RequestRow>) -> Result<(), String> {
        let mut parts = parts(rows);
        let last = parts.pop().unwrap_or_default();
        for rows in parts {
            self.say(&FromListener::Listed { token, rows, is_last: false })?;
        }
        self.say(&FromListener::Listed { token, rows: last, is_last: true })
    }

    fn configure(
        &mut self,
        revision: u64,
        plan: Arc<Plan>,
        doors: &Arc<[DoorId]>,
    ) -> Result<(), String> {
        let gates = self.roster.plan(&plan);
        self.threads.tell_all(|| Message::Plan {
            plan: Arc::clone(&plan),
            doors: Arc::clone(doors),
            gates: Arc::clone(&gates),
        })?;
        if let Some(keep) = &mut self.keep {
            keep.configure(&plan, doors);
        }
        self.plan = plan;
        (self.revision, self.revision_in_force) = (Some(revision), revision);
        let mut out = Vec::new();
        self.roster.pump_all(clock::now(), &mut out);
        self.carry_out(out)?;
        self.answer()
    }

    /// Once all threads run, what is configured is in force.
    fn answer(&mut self) -> Result<(), String> {
        if usize::from(self.started) < self.threads.count() {
            return Ok(());
        }
        if let Some((engine, fallback)) = self.engine.take() {
            let engine = engine.to_owned();
            self.say(&FromListener::Started { engine, fallback, threads: self.started })?;
        }
        if let Some(revision) = self.revision.take() {
            self.say(&FromListener::Configured { revision })?;
        }
        Ok(())
    }

    fn hear(&mut self, report: Option<Report>) -> Result<(), String> {
        match report {
            Some(Report::Started { engine, fallback, .. }) => {
                self.started += 1;
                self.engine.get_or_insert((engine, fallback));
                self.answer()
            }
            Some(Report::Failed { thread, why }) => Err(format!("thread {thread}: {why}")),
            Some(Report::Drained { .. }) => {
                self.drained += 1;
                Ok(())
            }
            Some(Report::Judged { thread: checker, pool, address, is_well }) => {
                self.threads.tell_others(Some(checker), || {
                    let (pool, address) = (pool.clone(), address.clone());
                    Message::Judged { pool, address, is_well }
                })
            }
            Some(Report::Counters { thread, tally, engine }) => {
                match self.count.add(thread, &tally, &engine) {
                    Some(json) => self.say(&FromListener::Counters { json }),
                    None => Ok(()),
                }
            }
            Some(Report::Listed { token, rows }) => match self.lists.add(token, rows) {
                Some(rows) => self.list(token, rows),
                None => Ok(()),
            },
            Some(report) => self.note(report),
            None => Err("all threads ended".into()),
        }
    }

    /// Hears what happened to workers.
    fn note(&mut self, report: Report) -> Result<(), String> {
        let (now, mut out) = (clock::now(), Vec::new());
        match report {
            Report::Known { pool, place } => self.roster.known(now, &pool, place, &mut out),
            Report::Emptied { pool, place } => self.roster.emptied(&pool, place, &mut out),
            Report::Spent { pool, place } => self.roster.spent(&pool, place, &mut out),
            Report::Violated { pool, place } => self.roster.violated(&pool, place, &mut out),
            Report::Wanted { pool } => out.push(Order::Say(FromListener::Wanted { pool })),
            report => return Err(format!("unexpected {report:?}")),
        }
        self.carry_out(out)
    }

    fn drain(mut self, limit: Duration) -> Result<(), String> {
        if let Some(keep) = &mut self.keep {
            keep.close();
        }
        self.threads.tell_all(|| Message::Drain)?;
        let deadline = clock::now() + limit;
        let mut frames = self.frames.clone();
        while usize::from(self.drained) < self.threads.count() {
            let left = deadline.since(clock::now());
            if left.is_zero() {
                tracing::warn!(
                    "draining: connections still run after {limit:?} (server.shutdown_limit). \
                     They are cut"
                );
                break;
            }
            select! {
                recv(self.reports) -> report => self.hear(report.ok())?,
                recv(frames) -> frame => match frame {
                    Ok(Some((ToListener::Stop, _))) => break,
                    // What else was on its way concerns a listener that goes on.
                    Ok(Some(_)) => {}
                    // The supervisor is gone as well; what runs is still finished.
                    Ok(None) | Err(_) => frames = never(),
                },
                default(left) => {}
            }
        }
        self.finish();
        Ok(())
    }

    /// Ends the threads and writes out the log.
    fn finish(self) {
        // Threads that drained have ended and hear nothing.
        let _ = self.threads.tell_all(|| Message::Stop);
        let deadline = clock::now() + THREAD_LIMIT;
        let Self { reports, threads, log, control, .. } = self;
        drop(threads);
        // All senders of reports gone means all threads ended.
        while let Ok(_late) = reports.recv_timeout(deadline.since(clock::now())) {}
        if !log.finish(LOG_LIMIT) {
            tracing::warn!("writing out the access log: not done in {LOG_LIMIT:?}. Lines are lost");
        }
        let _ = control::tell(control.as_fd(), &FromListener::Drained);
    }

    fn say(&self, word: &FromListener) -> Result<(), String> {
        match control::tell(self.control.as_fd(), word) {
            // The frame reader sees that the supervisor is gone. Who comes after it asks anew.
            Err(error) if [BrokenPipe, ConnectionReset].contains(&error.kind()) => Ok(()),
            told => told.map_err(|error| format!("telling the supervisor: {error}")),
        }
    }
}
