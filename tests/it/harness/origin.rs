//! A scripted application: a listening socket, a thread a connection, a script that says what
//! each does. It records what it saw; the test asserts.

use super::clock::{PATIENCE, wait_until};
use super::message::{Body, Message, Reader};
use super::port::Port;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

type Script = dyn Fn(&mut Conversation) + Send + Sync;

#[derive(Debug)]
pub(crate) struct Origin {
    /// As a pool's `servers` has it.
    pub(crate) address: String,
    listener: Socket,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ending: AtomicBool,
    /// Connections accepted so far.
    accepted: AtomicUsize,
    /// Connections whose script has ended.
    ended: AtomicUsize,
    seen: Mutex<Vec<Message>>,
    /// By the number of their conversation.
    sockets: Mutex<Vec<(usize, Socket)>>,
    faults: Mutex<Vec<String>>,
}

/// One connection from the gate.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) reader: Reader<Socket>,
    /// Counts from 1, over all connections of the origin.
    pub(crate) number: usize,
    shared: Arc<Shared>,
}

impl Origin {
    /// On a loopback port of the kernel's choice.
    pub(crate) fn start(script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Self {
        Self::listen(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into(), script)
    }

    /// On a port that is claimed already, so that it can be away and come back.
    pub(crate) fn start_at(
        port: &Port,
        script: impl Fn(&mut Conversation) + Send + Sync + 'static,
    ) -> Self {
        Self::listen(&port.address().parse::<SocketAddr>().unwrap().into(), script)
    }

    /// On a UNIX socket that anybody may connect to.
    pub(crate) fn start_unix(
        path: &Path,
        script: impl Fn(&mut Conversation) + Send + Sync + 'static,
    ) -> Self {
        let origin = Self::listen(&SockAddr::unix(path).unwrap(), script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        origin
    }

    /// Answers every request with 200 and `text`, kept alive.
    pub(crate) fn saying(text: &'static str) -> Self {
        Self::start(move |peer| while peer.request().is_some() && peer.answer(text) {})
    }

    fn listen(
        address: &SockAddr,
        script: impl Fn(&mut Conversation) + Send + Sync + 'static,
    ) -> Self {
        let listener = Socket::new(address.domain(), Type::STREAM, None).unwrap();
        listener.set_reuse_address(true).unwrap();
        listener.bind(address).unwrap();
        listener.listen(1024).unwrap();
        let address = match listener.local_addr().unwrap() {
            bound if bound.domain() == Domain::IPV4 => bound.as_socket().unwrap().to_string(),
            bound => format!("unix:{}", bound.as_pathname().unwrap().display()),
        };
        let shared = Arc::new(Shared::default());
        let accepting = {
            let (listener, shared) = (listener.try_clone().unwrap(), Arc::clone(&shared));
            let script: Arc<Script> = Arc::new(script);
            thread::spawn(move || accept(&listener, &shared, &script))
        };
        Self { address, listener, shared, accepting: Some(accepting) }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Waits until `count` connections are over.
    pub(crate) fn wait_ended(&self, count: usize) {
        let what = format!("{count} connections to {} ended", self.address);
        wait_until(&what, || self.shared.ended.load(Ordering::SeqCst) >= count);
    }

    /// Every request whose head was read, in order of arrival.
    pub(crate) fn seen(&self) -> Vec<Message> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|request| request.target().to_owned()).collect()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        // Wakes the accept with an error; scripts wake because their sockets are shut down.
        let _ = self.listener.shutdown(Shutdown::Both);
        self.accepting.take().unwrap().join().unwrap();
        let faults = self.shared.faults.lock().unwrap();
        assert!(faults.is_empty() || thread::panicking(), "in an origin's script: {faults:?}");
    }
}

fn accept(listener: &Socket, shared: &Arc<Shared>, script: &Arc<Script>) {
    let mut threads = Vec::new();
    while let Ok((socket, _)) = listener.accept() {
        if shared.ending.load(Ordering::SeqCst) {
            break;
        }
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        shared.sockets.lock().unwrap().push((number, socket.try_clone().unwrap()));
        let reader = Reader::new(socket);
        let mut peer = Conversation { reader, number, shared: Arc::clone(shared) };
        let script = Arc::clone(script);
        threads.push(thread::spawn(move || peer.play(&*script)));
    }
    for (_, socket) in shared.sockets.lock().unwrap().iter() {
        // Most have been closed by the gate already.
        let _ = socket.shutdown(Shutdown::Both);
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

impl Conversation {
    fn play(&mut self, script: &Script) {
        if let Err(fault) = panic::catch_unwind(AssertUnwindSafe(|| script(self))) {
            let text = fault.downcast_ref::<String>().cloned();
            let text = text.or_else(|| fault.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            // A test that ends takes its origins with it; what they say then is no fault.
            if !self.shared.ending.load(Ordering::SeqCst) {
                self.shared.faults.lock().unwrap().push(text.unwrap_or_default());
            }
        }
        let _ = self.reader.stream.shutdown(Shutdown::Both);
        self.shared.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// The next request with its whole body; `None` when the gate ended the connection.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut request = self.head()?;
        request.body = self.reader.body(request.framing(Body::Length(0))).ok()?;
        let mut seen = self.shared.seen.lock().unwrap();
        // The record made of the head becomes that of the whole.
        if let Some(record) = seen.iter_mut().rev().find(|record| record.line == request.line) {
            record.body.clone_from(&request.body);
        }
        Some(request)
    }

    /// The next request's head; the body is still to be read.
    pub(crate) fn head(&mut self) -> Option<Message> {
        let request = self.reader.head().ok().flatten()?;
        self.shared.seen.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// `false` when the gate is not there to hear it.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.try_send(bytes).is_ok()
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.stream.write_all(bytes.as_ref())
    }

    /// 200 with a text.
    pub(crate) fn answer(&mut self, text: &str) -> bool {
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
    }

    /// Waits for the gate to end the connection.
    pub(crate) fn wait_end(&mut self) {
        // A reset is an end too.
        let _ = self.reader.rest();
    }

    /// Ends our direction and waits until the gate has ended its own.
    pub(crate) fn end_first(&mut self) {
        self.reader.stream.shutdown(Shutdown::Write).unwrap();
        self.wait_end();
    }

    /// Leaves with a TCP reset.
    pub(crate) fn reset(&mut self) {
        self.reader.stream.set_linger(Some(Duration::ZERO)).unwrap();
        // Closing is what resets, and the record of sockets holds a duplicate.
        self.shared.sockets.lock().unwrap().retain(|(number, _)| *number != self.number);
        let spare = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        drop(std::mem::replace(&mut self.reader.stream, spare));
    }
}
