//! The listener process: takes its configuration and its sockets from the supervisor, gives up
//! every privilege, runs one thread of the data plane per core and speaks for them all.

use crate::base::id::{DoorId, ServerIndex};
use crate::base::limits::CONFIG_SIZE_MAX;
use crate::base::time::nanos;
use crate::machine::listener::Shared;
use crate::plan::Plan;
use crate::shell::config;
use crate::shell::control::{self, FRAME_SIZE_MAX, FromListener, ToListener};
use crate::shell::data::{self, Message, Report, Settings};
use crate::shell::listener::count::Count;
use crate::shell::logs::{AccessLog, operational};
use crate::sys::identity::Identity;
use crate::sys::{clock, identity, memfd, process, rlimit, signal};
use crossbeam::channel::{Receiver, Sender, bounded, never, select, unbounded};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

mod count;

/// The control channel's number, by agreement with the supervisor.
const CONTROL: i32 = 3;
/// How long the access log may take to be written out at the end.
const LOG_LIMIT: Duration = Duration::from_secs(1);
/// After this much of a drain's limit in addition, threads that hang are given up.
const THREAD_LIMIT: Duration = Duration::from_millis(500);
/// Descriptors beside one for each connection: two for each thread's engine, sockets, logs ...
const SPARE_DESCRIPTORS: u64 = 1024;

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

struct Thread {
    messages: Sender<Message>,
    /// Written after each message.
    wake: OwnedFd,
}

struct Listener {
    control: Arc<OwnedFd>,
    frames: Receiver<Frame>,
    reports: Receiver<Report>,
    log: AccessLog,
    threads: Vec<Thread>,
    started: u16,
    drained: u16,
    engine: Option<(&'static str, Option<String>)>,
    count: Count,
    /// In force; threads start with the first.
    plan: Arc<Plan>,
    /// Configured before all threads run; told when they do.
    revision: Option<u64>,
}

impl Listener {
    /// Hears `Begin`, `Log` and the first `Configure`, drops privileges, starts the threads.
    fn begin(
        control: Arc<OwnedFd>,
        frames: Receiver<Frame>,
        log: AccessLog,
    ) -> Result<Self, String> {
        let mut opening: Option<(u16, Option<Identity>)> = None;
        loop {
            let frame = frames.recv_timeout(Duration::from_secs(10));
            let Ok(Some((word, mut descriptors))) = frame else {
                return Err("waiting for the configuration: the supervisor is silent".into());
            };
            match (word, opening.take()) {
                (ToListener::Begin { threads, identity }, None) => {
                    opening = Some((threads, identity));
                }
                (ToListener::Log, begun) => {
                    log.redirect(descriptors.pop());
                    opening = begun;
                }
                (ToListener::Configure { revision, name, doors }, Some((threads, identity))) => {
                    let (plan, doors) = read_plan(&name, descriptors, &doors)?;
                    drop_privileges(identity.as_ref(), &plan)?;
                    let (reports_in, reports) = unbounded();
                    let started = start_threads(threads, &plan, &log, &reports_in)?;
                    let mut listener = Self {
                        control,
                        frames,
                        reports,
                        log,
                        threads: started,
                        started: 0,
                        drained: 0,
                        engine: None,
                        count: Count::default(),
                        plan: Arc::clone(&plan),
                        revision: None,
                    };
                    listener.configure(revision, plan, &doors)?;
                    return Ok(listener);
                }
                (word, _) => return Err(format!("starting: unexpected {word:?}")),
            }
        }
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
                    None => {
                        tracing::error!(
                            "listening: the supervisor is gone. Finishing what runs, then ending"
                        );
                        let limit = self.plan.server.shutdown_limit;
                        return self.drain(limit);
                    }
                },
                recv(self.reports) -> report => self.hear(report.ok())?,
            }
        }
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
                    self.tell(thread, Message::Open { door: DoorId(door), socket })?;
                }
            }
            ToListener::Shut { door } => {
                self.tell_all(|| Message::Shut { door: DoorId(door) })?;
            }
            ToListener::Served { pool, address } => {
                let address = address.as_deref().and_then(control::parse_address);
                let server = ServerIndex(0);
                self.tell_all(|| Message::Served {
                    pool: pool.clone(),
                    server,
                    address: address.clone(),
                })?;
            }
            ToListener::Count => {
                self.count.begin(self.threads.len(), self.log.loss());
                self.tell_all(|| Message::Count)?;
            }
            word => {
                return Err(format!("unexpected {word:?}"));
            }
        }
        Ok(())
    }

    fn configure(
        &mut self,
        revision: u64,
        plan: Arc<Plan>,
        doors: &Arc<[DoorId]>,
    ) -> Result<(), String> {
        let gates: Arc<[_]> = plan.pools.iter().map(|_| None).collect();
        self.tell_all(|| Message::Plan {
            plan: Arc::clone(&plan),
            doors: Arc::clone(doors),
            gates: Arc::clone(&gates),
        })?;
        self.plan = plan;
        self.revision = Some(revision);
        self.answer()
    }

    /// Once all threads run, what is configured is in force.
    fn answer(&mut self) -> Result<(), String> {
        if usize::from(self.started) < self.threads.len() {
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
                let others = (0..).zip(&self.threads).filter(|(thread, _)| *thread != checker);
                others.map(|(thread, _)| thread).try_for_each(|thread| {
                    let (pool, address) = (pool.clone(), address.clone());
                    self.tell(thread, Message::Judged { pool, address, is_well })
                })
            }
            Some(Report::Counters { thread, tally, engine }) => {
                match self.count.add(thread, &tally, &engine) {
                    Some(json) => self.say(&FromListener::Counters { json }),
                    None => Ok(()),
                }
            }
            None => Err("all threads ended".into()),
        }
    }

    fn drain(mut self, limit: Duration) -> Result<(), String> {
        self.tell_all(|| Message::Drain)?;
        let deadline = clock::now() + limit;
        let mut frames = self.frames.clone();
        while usize::from(self.drained) < self.threads.len() {
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
        let _ = self.tell_all(|| Message::Stop);
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
            // The frame reader sees that the supervisor is gone, and the listener drains.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            told => told.map_err(|error| format!("telling the supervisor: {error}")),
        }
    }

    fn tell(&self, thread: u16, message: Message) -> Result<(), String> {
        let Some(thread) = self.threads.get(usize::from(thread)) else {
            return Err(format!("a message is for thread {thread}, which does not exist"));
        };
        // A thread that ended has said why, or is about to.
        let _ = thread.messages.send(message);
        process::ring(&thread.wake).map_err(|error| format!("waking a thread: {error}"))
    }

    fn tell_all(&self, message: impl Fn() -> Message) -> Result<(), String> {
        (0..).zip(&self.threads).try_for_each(|(thread, _)| self.tell(thread, message()))
    }
}

/// The same text through the same code as in the supervisor, so the same plan.
fn read_plan(
    name: &str,
    mut descriptors: Vec<OwnedFd>,
    doors: &[u16],
) -> Result<(Arc<Plan>, Arc<[DoorId]>), String> {
    let Some(descriptor) = descriptors.pop() else {
        return Err("configuring: the message brought no text".into());
    };
    let text = memfd::read(descriptor, CONFIG_SIZE_MAX)
        .map_err(|error| format!("reading the configuration: {error}"))?;
    // What is wrong with single pools was told by the supervisor.
    let (plan, _) = config::salvage(&text, name).map_err(|report| report.to_string())?;
    if plan.listeners.len() != doors.len() {
        return Err("configuring: the doors are not those of the text".into());
    }
    Ok((Arc::new(plan), doors.iter().map(|door| DoorId(*door)).collect()))
}

/// Limits first, while there is the privilege to raise them.
fn drop_privileges(identity: Option<&Identity>, plan: &Plan) -> Result<(), String> {
    // A connection relayed has two descriptors, its own and the server's.
    let wanted = 2 * u64::from(plan.server.connections_max) + SPARE_DESCRIPTORS;
    let files = rlimit::raise_open_files(wanted)
        .map_err(|error| format!("raising the limit on open files: {error}"))?;
    if files < wanted {
        tracing::warn!(
            "raising the limit on open files to {wanted}, for server.max_connections = {}: \
             the hard limit is {files}. Raise it (LimitNOFILE= in the unit) or lower the setting",
            plan.server.connections_max
        );
    }
    if let Err(error) = rlimit::raise_locked_memory() {
        tracing::debug!("raising the limit on locked memory: {error}");
    }
    if let Some(identity) = identity {
        identity
            .assume()
            .map_err(|error| format!("taking on the identity of uid {}: {error}", identity.uid))?;
    }
    identity::renounce_privileges().map_err(|error| format!("renouncing new privileges: {error}"))
}

fn start_threads(
    threads: u16,
    plan: &Arc<Plan>,
    log: &AccessLog,
    reports: &Sender<Report>,
) -> Result<Vec<Thread>, String> {
    operational::set_level(plan.server.log.level);
    let shared = Arc::new(Shared::default());
    // Differs between processes and threads; no secret hangs on it.
    let seed = clock::wall_origin() ^ nanos(clock::now().since(crate::base::time::Instant(0)));
    (0..threads)
        .map(|thread| {
            let (messages, heard) = unbounded();
            let wake = process::event().map_err(|error| format!("making an eventfd: {error}"))?;
            let engine_wake =
                wake.try_clone().map_err(|error| format!("copying an eventfd: {error}"))?;
            let settings = Settings {
                thread,
                engine: plan.server.engine,
                seed: seed.wrapping_add(u64::from(thread).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                shared: Arc::clone(&shared),
                messages: heard,
                wake: engine_wake,
                log: log.sender(),
                reports: reports.clone(),
            };
            let body = move || run_thread(settings);
            Builder::new()
                .name(format!("data-{thread}"))
                .spawn(body)
                .map_err(|error| format!("starting data thread {thread}: {error}"))?;
            Ok(Thread { messages, wake })
        })
        .collect()
}

/// A panic of one thread ends the process: the supervisor starts a whole one, on the same sockets.
fn run_thread(settings: Settings) {
    let (thread, reports) = (settings.thread, settings.reports.clone());
    let body = std::panic::AssertUnwindSafe(|| data::run(settings));
    if std::panic::catch_unwind(body).is_err() {
        let why = "it panicked; the line before says where. Please report it".to_owned();
        let _ = reports.send(Report::Failed { thread, why });
    }
}
