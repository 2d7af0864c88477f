//! Which engines a test runs under.

use std::env;
use std::io::{self, Write};
use std::sync::OnceLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Auto,
    Uring,
    Epoll,
}

impl Engine {
    /// As `server.engine` has it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Runs a test body under each engine in turn: both, or the one named by `LYCHGATE_TEST_ENGINE`.
pub(crate) fn each(test: impl Fn(Engine)) {
    for engine in engines() {
        test(*engine);
    }
}

fn engines() -> &'static [Engine] {
    static ENGINES: OnceLock<Vec<Engine>> = OnceLock::new();
    ENGINES.get_or_init(|| match env::var("LYCHGATE_TEST_ENGINE").as_deref() {
        Ok("auto") => vec![Engine::Auto],
        Ok("uring") => vec![Engine::Uring],
        Ok("epoll") => vec![Engine::Epoll],
        Ok(other) => panic!("LYCHGATE_TEST_ENGINE={other}: want uring, epoll or auto"),
        Err(_) if has_uring() => vec![Engine::Uring, Engine::Epoll],
        Err(_) => vec![Engine::Epoll],
    })
}

/// Whether this kernel gives us a ring at all; said loudly, once, when it does not.
pub(crate) fn has_uring() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    // On a thread of its own: the end of a ring interrupts system calls of the thread that had it.
    let probe = || std::thread::spawn(|| io_uring::IoUring::new(4).map(drop)).join().unwrap();
    *HAS.get_or_init(|| match probe() {
        Ok(()) => true,
        Err(cause) => {
            note(&format!(
                "SKIPPED: every test of the uring engine: io_uring_setup: {cause}. Run where \
                 io_uring is allowed (kernel 6.1 or later, kernel.io_uring_disabled = 0, a seccomp \
                 profile that permits it)."
            ));
            false
        }
    })
}

/// A line past the test runner's capture, so that a skipped test is seen.
pub(crate) fn note(text: &str) {
    // Whoever closed stderr does not want to hear it.
    let _ = writeln!(io::stderr(), "{text}");
}
