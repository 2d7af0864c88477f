//! What a child is given, seen from inside the child.

use super::*;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::os::fd::AsFd;
use std::time::Duration;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn wait(child: &Child) -> Ended {
    let mut ready = Vec::new();
    let watched = [(child.as_fd(), crate::sys::poll::Interest::Read)];
    crate::sys::poll::wait(&watched, Some(Duration::from_secs(20)), &mut ready).unwrap();
    child.try_wait().unwrap().expect("the child ends")
}

fn launch<'a>(argv: &'a [String], output: BorrowedFd<'a>) -> Launch<'a> {
    Launch {
        program: Program::Named { path: "/nowhere:/usr/bin:/bin".into() },
        argv,
        environment: &[],
        directory: None,
        stdout: output,
        stderr: output,
        third: None,
        identity: None,
        open_files: None,
        umask: None,
        leads_group: true,
        entrance: None,
        ends_with_parent: true,
        wants_listen_pid: false,
    }
}

fn outcome(child: &Child, mut out: PipeReader, into: PipeWriter) -> (String, Ended) {
    drop(into);
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    (text, wait(child))
}

#[test]
fn a_child_has_what_it_is_given_and_nothing_else() {
    // Not closed on exec: must be kept from the child all the same.
    let stray = File::open("/dev/null").unwrap();
    nix::fcntl::fcntl(&stray, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let third = File::open("/dev/null").unwrap();
    // No pipes in it: the shell's own ends would be seen for a moment.
    let script = "echo $A $LISTEN_PID $$; pwd; umask; ulimit -n; ps -o pgid= -p $$; \
                  grep SigBlk /proc/self/status; ls /proc/$$/fd; exit 7";
    let (out, into) = pipe().unwrap();
    let argv = words(&["sh", "-c", script]);
    let environment = [("A".to_string(), "b c".to_string())];
    let mut launch = launch(&argv, into.as_fd());
    launch.environment = &environment;
    launch.third = Some(third.as_fd());
    launch.directory = Some("/usr");
    launch.umask = Some(0o027);
    launch.open_files = Some(crate::sys::rlimit::Limit { soft: 100, hard: 200 });
    launch.wants_listen_pid = true;
    let child = launch.start().unwrap();
    let (text, ended) = outcome(&child, out, into);
    let lines: Vec<&str> = text.lines().collect();
    let pid = lines[0].split(' ').nth(3).expect("pid");
    assert_eq!(lines[0], format!("b c {pid} {pid}"));
    assert_eq!(lines[1..4], ["/usr", "0027", "100"]);
    assert_eq!(lines[4].trim(), pid, "leads its group");
    assert_eq!(lines[5], "SigBlk:\t0000000000000000");
    assert_eq!(lines[6..], ["0", "1", "2", "3"]);
    assert_eq!(ended, Ended::Exit(7));
}

#[test]
fn an_identity_is_taken_on_without_capabilities() {
    if !crate::sys::identity::is_root() {
        eprintln_skip("an_identity_is_taken_on_without_capabilities needs root");
        return;
    }
    let nobody = crate::sys::identity::Identity::named("nobody").unwrap().unwrap();
    let (out, into) = pipe().unwrap();
    let argv = words(&["sh", "-c", "id -u; grep Cap /proc/$$/status"]);
    let mut launch = launch(&argv, into.as_fd());
    launch.identity = Some(&nobody);
    let (text, _) = outcome(&launch.start().unwrap(), out, into);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(nobody.uid.to_string().as_str()));
    for line in lines.filter(|line| !line.starts_with("CapBnd")) {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
}

fn eprintln_skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

#[test]
fn a_failure_names_the_step() {
    let step = |argv: &[&str], directory: Option<&'static str>| {
        let (_out, into) = pipe().unwrap();
        let argv = words(argv);
        let mut launch = launch(&argv, into.as_fd());
        launch.directory = directory;
        launch.start().unwrap_err()
    };
    let missing = step(&["no-such-program"], None);
    assert_eq!((missing.step, missing.errno), ("execute it", Errno::ENOENT));
    let denied = step(&["/etc/passwd"], None);
    assert_eq!((denied.step, denied.errno), ("execute it", Errno::EACCES));
    let folder = step(&["true"], Some("/no/such/folder"));
    assert_eq!((folder.step, folder.errno), ("change to its folder", Errno::ENOENT));
    let zero = step(&["true", "a\0b"], None);
    assert_eq!(zero.errno, Errno::EINVAL);
}

#[test]
fn a_whole_group_ends_by_signal() {
    let (mut out, into) = pipe().unwrap();
    let argv = words(&["sh", "-c", "sleep 600 & echo; wait"]);
    let child = launch(&argv, into.as_fd()).start().unwrap();
    drop(into);
    out.read_exact(&mut [0]).unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    assert_eq!(wait(&child), Ended::Signal(Signal::SIGKILL));
    // The pipe's other end was held by the grandchild too.
    out.read_to_end(&mut Vec::new()).unwrap();
}
