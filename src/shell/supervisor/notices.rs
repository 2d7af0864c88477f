//! What workers say of themselves: lines of sd_notify(3), and our own beside them. Of a worker
//! nothing is believed but what concerns itself.

use crate::machine::pool::seam::Report;
use crate::sys::family;
use crate::sys::notices::{Heard, Letter, Notices};

/// Messages taken in one turn of the supervisor.
const LETTERS_PER_TURN: usize = 64;
/// Lines of one message that are looked at.
const LINES_MAX: usize = 32;
/// Of a status or a reason, for people.
const TEXT_SIZE_MAX: usize = 256;

/// One thing that a worker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `READY=1`
    Ready,
    /// `STATUS=...`, for people.
    Status(String),
    /// What the pool's machine is to hear, and the reason the worker gave; empty when it gave none.
    Report(Report, String),
}

/// All that workers said, up to a bound: for each notice the key of the worker. `workers` are the
/// process ids of those that live; what others say is dropped.
pub fn read<K: Copy>(notices: &Notices, workers: &[(K, i32)]) -> Vec<(K, Notice)> {
    let mut all = Vec::new();
    for _ in 0..LETTERS_PER_TURN {
        match notices.read() {
            Ok(None) => break,
            Ok(Some(Heard::Unfit)) => {
                tracing::debug!("a notice was dropped: it is too long or has no sender");
            }
            Ok(Some(Heard::Letter(Letter { text, pid, uid }))) => {
                if let Some(key) = whose(pid, workers) {
                    all.extend(parse(&text).into_iter().map(|said| (key, said)));
                } else {
                    tracing::debug!(
                        "a notice of process {pid} (user {uid}) was dropped: it is of no worker"
                    );
                }
            }
            Err(error) => {
                tracing::warn!("reading what workers say (NOTIFY_SOCKET): {error}");
                break;
            }
        }
    }
    all
}

/// The worker that a process is or belongs to.
fn whose<K: Copy>(pid: i32, workers: &[(K, i32)]) -> Option<K> {
    let found = workers.iter().find(|(_, main)| *main == pid);
    let found = found.or_else(|| workers.iter().find(|(_, main)| family::is_of(pid, *main)));
    found.map(|(key, _)| *key).filter(|_| pid > 0)
}

/// The notices in one message, in the order written. Lines that mean nothing to us, `RELOADING=1`
/// and `MAINPID=` among them, are passed over.
pub fn parse(text: &[u8]) -> Vec<Notice> {
    let text = String::from_utf8_lossy(text);
    text.lines().take(LINES_MAX).filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Notice> {
    let (name, value) = line.split_once('=')?;
    let report = |report| Some(Notice::Report(report, shown(value)));
    match (name, value) {
        ("READY", "1") => Some(Notice::Ready),
        ("STOPPING", "1") => Some(Notice::Report(Report::Stopping, String::new())),
        ("STATUS", _) => Some(Notice::Status(shown(value))),
        ("WATCHDOG", "trigger") => {
            Some(Notice::Report(Report::Unhealthy, "WATCHDOG=trigger".to_owned()))
        }
        ("X_LYCHGATE_RECYCLE", _) => report(Report::Recycle),
        ("X_LYCHGATE_UNHEALTHY", _) => report(Report::Unhealthy),
        _ => None,
    }
}

/// Cut, and without control characters, which would drive a terminal.
fn shown(value: &str) -> String {
    let value = value.trim();
    let value = &value[..value.floor_char_boundary(TEXT_SIZE_MAX)];
    value.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn known_lines_are_understood_and_others_passed_over() {
        let text = b"MAINPID=1\nREADY=1\nSTATUS= 3 of \x1b[31m4\nRELOADING=1\nREADY=0\nnonsense\n\
                     WATCHDOG=1\nWATCHDOG=trigger\nX_LYCHGATE_RECYCLE=leak\n\
                     X_LYCHGATE_UNHEALTHY=\nSTOPPING=1\n\xff=\xff";
        let expected = [
            Notice::Ready,
            Notice::Status("3 of [31m4".into()),
            Notice::Report(Report::Unhealthy, "WATCHDOG=trigger".into()),
            Notice::Report(Report::Recycle, "leak".into()),
            Notice::Report(Report::Unhealthy, String::new()),
            Notice::Report(Report::Stopping, String::new()),
        ];
        assert_eq!(parse(text), expected);
        let long = format!("STATUS={}", "é".repeat(TEXT_SIZE_MAX));
        assert_eq!(parse(long.as_bytes()), [Notice::Status("é".repeat(TEXT_SIZE_MAX / 2))]);
        assert_eq!(parse("READY=1\n".repeat(99).as_bytes()).len(), LINES_MAX);
        assert!(parse(b"").is_empty());
    }

    #[test]
    fn only_workers_are_heard_all_of_them_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let notices = Notices::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let ourselves = std::process::id().cast_signed();
        sender.send_to(b"READY=1", &path).unwrap();
        assert!(read::<u8>(&notices, &[]).is_empty());
        sender.send_to(b"READY=1", &path).unwrap();
        sender.send_to(b"STATUS=up", &path).unwrap();
        // No process has a number so high (proc(5), pid_max).
        let workers = [('a', i32::MAX), ('b', ourselves)];
        let heard = read(&notices, &workers);
        assert_eq!(heard, [('b', Notice::Ready), ('b', Notice::Status("up".into()))]);
        assert_eq!(whose(0, &workers), None);
        assert_eq!(whose(1, &workers), None);
    }
}
