//! The access log's way off the hot path: threads hand over batches of finished lines, one writer
//! writes them. A full disk or a slow pipe costs lines, never a request.

use crate::base::limits::LOG_BACKLOG_MAX;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, select, unbounded};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Batches on the way, over all threads.
const BATCHES_MAX: usize = 4096;
/// Empty batches kept for the senders.
const SPARES_MAX: usize = 256;
/// A batch that grew larger than this is not kept.
const SPARE_SIZE_MAX: usize = 64 * 1024;
/// How long the writer gathers lines while there is traffic; meanwhile no sender has to wake it.
const GATHERING: Duration = Duration::from_millis(50);
/// Written in one go.
const WRITE_SIZE: usize = 256 * 1024;
/// At most one warning about lost lines in this many gatherings: a minute.
const WARNING_PERIOD: u32 = 1200;

/// Counted by senders and writer, read by whoever shows counters.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes handed over and not yet written.
    backlog: AtomicUsize,
    dropped: AtomicU64,
    unwritten: AtomicU64,
}

/// Lines that did not reach the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// The writer was behind by [`LOG_BACKLOG_MAX`].
    pub dropped: u64,
    /// Writing them failed.
    pub unwritten: u64,
}

/// A thread's end of the access log.
#[derive(Debug)]
pub struct AccessSender {
    batches: Sender<Vec<u8>>,
    spares: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
}

impl AccessSender {
    /// An end that leads nowhere: every line is dropped and counted.
    pub fn nowhere() -> Self {
        Self { batches: bounded(0).0, spares: bounded(0).1, shared: Arc::default() }
    }

    /// Takes finished lines, leaving `lines` empty with the capacity of an earlier batch. Never
    /// blocks, and in a steady state never allocates: when the writer is behind by
    /// [`LOG_BACKLOG_MAX`], the lines are dropped and counted.
    pub fn submit(&mut self, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        let size = lines.len();
        let before = self.shared.backlog.fetch_add(size, Ordering::Relaxed);
        if before + size > LOG_BACKLOG_MAX {
            self.refuse(lines, size);
            return;
        }
        let spare = self.spares.try_recv().unwrap_or_default();
        let batch = std::mem::replace(lines, spare);
        if let Err(error) = self.batches.try_send(batch) {
            *lines = error.into_inner();
            self.refuse(lines, size);
        }
    }

    fn refuse(&self, lines: &mut Vec<u8>, size: usize) {
        self.shared.backlog.fetch_sub(size, Ordering::Relaxed);
        self.shared.dropped.fetch_add(count_lines(lines), Ordering::Relaxed);
        lines.clear();
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// What the owner says to the writer.
#[derive(Debug)]
enum Word {
    Redirect(Option<File>),
    Finish(Sender<()>),
}

/// The access log of a process: one writer thread.
#[derive(Debug)]
pub struct AccessLog {
    words: Sender<Word>,
    batches: Sender<Vec<u8>>,
    spares: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
}

impl AccessLog {
    /// Starts the writer; it writes nowhere until [`AccessLog::redirect`].
    pub fn start() -> std::io::Result<Self> {
        let (words, words_in) = unbounded();
        let (batches, batches_in) = bounded(BATCHES_MAX);
        let (spares_out, spares) = bounded(SPARES_MAX);
        let shared: Arc<Shared> = Arc::default();
        let writer = Writer {
            words: words_in,
            batches: batches_in,
            spares: spares_out,
            shared: Arc::clone(&shared),
            sink: None,
            gathered: Vec::with_capacity(WRITE_SIZE),
            quiet_for: WARNING_PERIOD,
            warned: Loss::default(),
        };
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self { words, batches, spares, shared })
    }

    /// An end for one thread.
    pub fn sender(&self) -> AccessSender {
        AccessSender {
            batches: self.batches.clone(),
            spares: self.spares.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Lines go here from now on, those before to where they were meant for. `None`: nowhere.
    pub fn redirect(&self, sink: Option<OwnedFd>) {
        // The writer lives as long as this; if it panicked, the process is on its way out.
        let _ = self.words.send(Word::Redirect(sink.map(File::from)));
    }

    pub fn loss(&self) -> Loss {
        self.shared.loss()
    }

    /// Writes what is left, for at most `limit`. True when all is written.
    pub fn finish(self, limit: Duration) -> bool {
        let (done, wait) = bounded(1);
        let _ = self.words.send(Word::Finish(done));
        wait.recv_timeout(limit).is_ok()
    }
}

impl Shared {
    fn loss(&self) -> Loss {
        Loss {
            dropped: self.dropped.load(Ordering::Relaxed),
            unwritten: self.unwritten.load(Ordering::Relaxed),
        }
    }
}

struct Writer {
    words: Receiver<Word>,
    batches: Receiver<Vec<u8>>,
    spares: Sender<Vec<u8>>,
    shared: Arc<Shared>,
    sink: Option<File>,
    gathered: Vec<u8>,
    /// Gatherings since the last warning.
    quiet_for: u32,
    warned: Loss,
}

impl Writer {
    fn run(mut self) {
        let mut is_idle = true;
        loop {
            let word = if is_idle { self.wait_idle() } else { self.words.recv_timeout(GATHERING) };
            let word = match word {
                // Lines that were ahead of their log's opening are not for nowhere.
                Ok(Word::Redirect(sink)) if self.sink.is_none() => {
                    self.sink = sink;
                    Err(RecvTimeoutError::Timeout)
                }
                word => word,
            };
            let had_lines = !self.gathered.is_empty();
            is_idle = !self.take_all() && !had_lines;
            self.write();
            self.warn();
            match word {
                Ok(Word::Redirect(sink)) => self.sink = sink,
                Ok(Word::Finish(done)) => {
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Sleeps until a word or a batch; with loss to report, no longer than until then.
    fn wait_idle(&mut self) -> Result<Word, RecvTimeoutError> {
        let unsaid = if self.shared.loss() == self.warned { Duration::MAX } else { GATHERING };
        select! {
            recv(self.words) -> word => word.map_err(|_| RecvTimeoutError::Disconnected),
            recv(self.batches) -> batch => {
                if let Ok(batch) = batch {
                    self.gather(batch);
                }
                self.words.recv_timeout(GATHERING)
            }
            default(unsaid) => Err(RecvTimeoutError::Timeout),
        }
    }

    /// True when there was anything.
    fn take_all(&mut self) -> bool {
        let mut had_any = false;
        // Bounded, so that senders that never rest cannot keep the writer from its words.
        for _ in 0..BATCHES_MAX {
            let Ok(batch) = self.batches.try_recv() else { break };
            had_any = true;
            self.gather(batch);
        }
        had_any
    }

    fn gather(&mut self, mut batch: Vec<u8>) {
        if self.gathered.len() + batch.len() > WRITE_SIZE {
            self.write();
        }
        self.gathered.extend_from_slice(&batch);
        if batch.capacity() <= SPARE_SIZE_MAX {
            batch.clear();
            let _ = self.spares.try_send(batch);
        }
    }

    fn write(&mut self) {
        let size = self.gathered.len();
        if size == 0 {
            return;
        }
        if let Some(sink) = &mut self.sink {
            let lost = write_lines(sink, &self.gathered);
            self.shared.unwritten.fetch_add(lost, Ordering::Relaxed);
        }
        self.shared.backlog.fetch_sub(size, Ordering::Relaxed);
        self.gathered.clear();
        self.gathered.shrink_to(WRITE_SIZE);
    }

    fn warn(&mut self) {
        self.quiet_for = self.quiet_for.saturating_add(1);
        let loss = self.shared.loss();
        if loss == self.warned || self.quiet_for < WARNING_PERIOD {
            return;
        }
        let dropped = loss.dropped - self.warned.dropped;
        let unwritten = loss.unwritten - self.warned.unwritten;
        tracing::warn!(
            "writing the access log: {dropped} lines dropped because the writer was behind, \
             {unwritten} lost because writing failed. Look at the disk or pipe behind the log"
        );
        self.warned = loss;
        self.quiet_for = 0;
    }
}

/// Writes all; the number of lines that could not be written.
fn write_lines(sink: &mut File, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match sink.write(lines) {
            Ok(0) => return count_lines(lines),
            Ok(written) => lines = &lines[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return count_lines(lines),
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn finish(log: AccessLog) {
        assert!(log.finish(Duration::from_secs(20)));
    }

    #[test]
    fn lines_of_all_threads_arrive_and_a_reopened_log_gets_the_later_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        let log = AccessLog::start().unwrap();
        log.redirect(Some(File::create(&first).unwrap().into()));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut sender = log.sender();
                scope.spawn(move || {
                    for number in 0..500 {
                        sender.submit(&mut format!("{thread} {number}\n").into_bytes());
                    }
                });
            }
        });
        log.redirect(Some(File::create(&second).unwrap().into()));
        log.sender().submit(&mut b"late\n".to_vec());
        assert_eq!(log.loss(), Loss::default());
        finish(log);
        let text = std::fs::read_to_string(&first).unwrap();
        for thread in 0..4 {
            let own = text.lines().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            assert!(own.map(|n| n.parse::<u32>().unwrap()).eq(0..500), "in order");
        }
        let rest = text.lines().count() - 2000; // the late one may have overtaken the word
        let late = std::fs::read_to_string(&second).unwrap().lines().count();
        assert_eq!(rest + late, 1);
    }

    #[test]
    fn a_writer_that_is_stuck_costs_lines_but_nobody_waits() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let log = AccessLog::start().unwrap();
        log.redirect(Some(pipe.into()));
        let mut sender = log.sender();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let mut sent = 0u64;
        while log.loss().dropped == 0 {
            let mut lines = line.clone();
            sender.submit(&mut lines);
            assert!(lines.is_empty());
            sent += 1;
        }
        let behind = (sent - log.loss().dropped) * 1024;
        assert!(behind >= LOG_BACKLOG_MAX as u64, "dropped too early, at {behind}");
        assert!(behind <= LOG_BACKLOG_MAX as u64 + 2 * WRITE_SIZE as u64, "kept {behind}");
        let drain = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            count_lines(&text)
        });
        let dropped = log.loss().dropped;
        finish(log);
        assert_eq!(drain.join().unwrap(), sent - dropped);
    }

    #[test]
    fn a_full_disk_is_counted_and_buffers_come_back() {
        let log = AccessLog::start().unwrap();
        log.redirect(Some(File::options().write(true).open("/dev/full").unwrap().into()));
        let mut sender = log.sender();
        let mut lines = Vec::with_capacity(512);
        while log.loss().unwritten < 10 {
            lines.extend_from_slice(b"line\n");
            sender.submit(&mut lines);
            std::thread::yield_now();
        }
        while lines.capacity() == 0 {
            lines.extend_from_slice(b"line\n");
            sender.submit(&mut lines);
            std::thread::yield_now();
        }
        finish(log);
    }
}
