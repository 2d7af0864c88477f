//! One io_uring: making it, pushing, entering, reaping. Knows nothing of sockets.

use crate::sys::engine::Counters;
use crate::sys::errno::{Error, errno_of};
use io_uring::{IoUring, Probe, opcode, squeue};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Submission queue; the completion queue has [`COMPLETIONS_PER_SUBMISSION`] times as many.
pub(super) const SUBMISSIONS: u32 = 256;
const COMPLETIONS_PER_SUBMISSION: u32 = 16;
/// Halving for want of locked memory ends here.
const SUBMISSIONS_MIN: u32 = 32;
/// Enters in a row that may report a full completion queue before we call it stuck.
const BUSY_MAX: u32 = 64;

/// From the kernel's include/uapi/linux/io_uring.h.
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: libc::c_ulong = 20;

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct EventsArg {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_us: u32,
    timeout: u64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// A completion, copied out of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cqe {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// How long an enter may sleep.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// Not at all.
    No,
    /// Until a completion is there.
    Long,
    /// Until then, but no longer than this.
    AtMost(Duration),
}

pub(super) struct Ring {
    uring: IoUring,
    /// What stands for the ring in an enter: its registered index, or its descriptor.
    handle: i32,
    handle_flags: u32,
    /// Reaped and not yet looked at.
    pub(super) reaped: Vec<Cqe>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring for the calling thread alone, smaller if locked memory does not suffice.
    pub(super) fn make(submissions: u32) -> Result<Self, Error> {
        let uring = build(submissions)?;
        check_operations(&uring)?;
        // A punted operation runs in a kernel thread; we submit none that should be. If it happens
        // all the same, a crowd of threads must not come of it. Refusal leaves the default cap.
        let _ = uring.submitter().register_iowq_max_workers(&mut [2, 2]);
        let (handle, handle_flags) = register(&uring);
        Ok(Self { uring, handle, handle_flags, reaped: Vec::new() })
    }

    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.uring.submitter()
    }

    /// Queues an operation; when the queue is full, what is there is submitted first.
    ///
    /// The caller keeps everything that the entry points to alive and in place until the
    /// completion, or, for a send that never sleeps, until the enter that submits it is over.
    pub(super) fn push(
        &mut self,
        entry: &squeue::Entry,
        counters: &mut Counters,
    ) -> Result<(), Error> {
        counters.submissions += 1;
        loop {
            // SAFETY: what the entry points to is kept by the caller, as stated above.
            let pushed = unsafe { self.uring.submission().push(entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.enter(Wait::No, counters)?;
        }
    }

    /// Submits all that is queued, waits, and reaps.
    pub(super) fn enter(&mut self, wait: Wait, counters: &mut Counters) -> Result<(), Error> {
        let mut wait = wait;
        for _ in 0..BUSY_MAX {
            counters.enters += 1;
            let outcome = self.enter_once(wait);
            self.reap(counters);
            match outcome {
                // A signal or the timeout cut the wait short: the turn is over, as always.
                Ok(()) | Err(Errno::EINTR | Errno::ETIME) => {
                    if self.uring.submission().is_empty() {
                        return Ok(());
                    }
                    // The kernel stopped early for want of memory for a request; go on with the
                    // rest, without sleeping on what was to be submitted.
                    wait = Wait::No;
                }
                // Overflown completions must be reaped before more is submitted (io_uring_enter(2)).
                Err(Errno::EBUSY | Errno::EAGAIN) => wait = Wait::No,
                Err(errno) => return Err(Error::new("io_uring_enter", errno)),
            }
        }
        Err(Error::new("io_uring_enter", Errno::EBUSY))
    }

    fn enter_once(&mut self, wait: Wait) -> Result<(), Errno> {
        let queued = self.uring.submission().len();
        let queued = u32::try_from(queued).expect("no more than the queue's size");
        let (count, timeout) = match wait {
            Wait::No => (0, None),
            Wait::Long => (1, None),
            Wait::AtMost(limit) => (1, Some(limit)),
        };
        let timeout = timeout.map(io_uring::types::Timespec::from);
        let argument = EventsArg {
            sigmask: 0,
            sigmask_size: 0,
            min_wait_us: 0,
            timeout: timeout.as_ref().map_or(0, |timeout| (&raw const *timeout).addr() as u64),
        };
        // Deferred work runs only in an enter that asks for events, so each one does.
        let flags = ENTER_GETEVENTS | ENTER_EXT_ARG | self.handle_flags;
        // SAFETY: the argument and the time it points to live during the call; the entries that
        // the kernel reads from the queue were vouched for when pushed.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.handle,
                queued,
                count,
                flags,
                &raw const argument,
                size_of::<EventsArg>(),
            )
        };
        if outcome < 0 { Err(Errno::last()) } else { Ok(()) }
    }

    fn reap(&mut self, counters: &mut Counters) {
        let before = self.reaped.len();
        self.reaped.extend(self.uring.completion().map(|entry| Cqe {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        counters.completions += (self.reaped.len() - before) as u64;
    }
}

fn build(submissions: u32) -> Result<IoUring, Error> {
    let mut submissions = submissions;
    let mut without_array = true;
    loop {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(submissions * COMPLETIONS_PER_SUBMISSION)
            .dontfork();
        if without_array {
            builder.setup_no_sqarray();
        }
        match builder.build(submissions).map_err(|error| errno_of(&error)) {
            Ok(ring) => return Ok(ring),
            // A kernel before 6.6 does not know the flag.
            Err(Errno::EINVAL) if without_array => without_array = false,
            Err(Errno::ENOMEM) if submissions > SUBMISSIONS_MIN => submissions /= 2,
            Err(errno) => return Err(explain(errno)),
        }
    }
}

/// Why there is no ring, and what the operator can do about it.
fn explain(errno: Errno) -> Error {
    let remedy = match errno {
        Errno::ENOSYS => {
            "The kernel was built without io_uring: take engine = \"epoll\" or \"auto\".".to_owned()
        }
        Errno::EINVAL => {
            "The kernel is too old, io_uring needs 6.1: take engine = \"epoll\" or \"auto\"."
                .to_owned()
        }
        Errno::EPERM | Errno::EACCES => explain_permission(),
        Errno::ENOMEM => {
            let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
            format!(
                "The limit on locked memory (RLIMIT_MEMLOCK) is {limit} bytes: raise it to 1 MiB a thread \
                 (LimitMEMLOCK= in the unit, or ulimit -l)."
            )
        }
        _ => String::new(),
    };
    Error::new("io_uring_setup", errno).with_remedy(remedy)
}

fn explain_permission() -> String {
    const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";
    match fs::read_to_string(SWITCH).as_deref().map(str::trim) {
        Ok(value @ ("1" | "2")) => format!(
            "The administrator turned io_uring off (kernel.io_uring_disabled = {value}): set it to 0, \
             or take engine = \"epoll\" or \"auto\"."
        ),
        _ => "A seccomp filter refuses io_uring, as container runtimes do by default: allow it in the \
              container's profile, or take engine = \"epoll\" or \"auto\"."
            .to_owned(),
    }
}

/// Every operation that we submit, asked for one by one: a filter may let only some through.
fn check_operations(ring: &IoUring) -> Result<(), Error> {
    const NEEDED: [(u8, &str); 8] = [
        (opcode::Recv::CODE, "IORING_OP_RECV"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
        (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
        (opcode::AcceptMulti::CODE, "IORING_OP_ACCEPT"),
        (opcode::Connect::CODE, "IORING_OP_CONNECT"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::Nop::CODE, "IORING_OP_NOP"),
    ];
    let mut probe = Probe::new();
    let asked = ring.submitter().register_probe(&mut probe);
    asked.map_err(Error::by("io_uring_register IORING_REGISTER_PROBE"))?;
    for (code, name) in NEEDED {
        if !probe.is_supported(code) {
            return Err(Error::new(name, Errno::EOPNOTSUPP)
                .with_remedy("The kernel lacks it: take engine = \"epoll\" or \"auto\"."));
        }
    }
    let params = ring.params();
    if !(params.is_feature_nodrop()
        && params.is_feature_ext_arg()
        && params.is_feature_skip_cqe_on_success())
    {
        return Err(explain(Errno::EINVAL));
    }
    Ok(())
}

/// Registers the ring with its thread, which saves a descriptor look-up in each enter.
fn register(ring: &IoUring) -> (i32, u32) {
    let descriptor = ring.as_raw_fd();
    let data = u64::try_from(descriptor).expect("an open descriptor is not negative");
    let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data };
    // SAFETY: the update is one well-formed entry that lives during the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            descriptor,
            REGISTER_RING_FDS,
            &raw mut update,
            1,
        )
    };
    match i32::try_from(update.offset) {
        Ok(index) if outcome == 1 => (index, ENTER_REGISTERED_RING),
        // A thread may register 16 rings; without, it works as well, a little dearer.
        _ => (descriptor, 0),
    }
}
