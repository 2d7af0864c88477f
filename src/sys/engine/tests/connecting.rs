//! Connecting: what succeeds, what is refused, what is given up.

use super::*;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};

#[test]
fn a_connection_talks_over_tcp_and_over_a_unix_socket() {
    both(|rig| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let id = rig.name();
        rig.engine.connect(id, &Address::Tcp(listener.local_addr().unwrap()));
        rig.until_heard(Completion::Connected { id });
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"early").unwrap();
        rig.settle();
        assert!(rig.received.is_empty(), "reading begins only when asked for");
        rig.engine.recv(id);
        assert_eq!(rig.until_received(id, 5), b"early");
        rig.send(id, b"hello");
        rig.settle();
        assert_eq!(read_exactly(&mut server, 5), b"hello");

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let id = rig.name();
        rig.engine.connect(id, &Address::Unix(path.to_str().unwrap().to_owned()));
        rig.until_heard(Completion::Connected { id });
        let (mut server, _) = listener.accept().unwrap();
        rig.engine.recv(id);
        server.write_all(b"local").unwrap();
        assert_eq!(rig.until_received(id, 5), b"local");
        drop(server);
        rig.until_heard(Completion::Ended { id });
        rig.engine.end(id, Ending::Now);
        rig.until_heard(Completion::Closed { id, unsent: 0 });
    });
}

#[test]
fn a_refused_connection_frees_its_name() {
    both(|rig| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = Address::Tcp(listener.local_addr().unwrap());
        drop(listener);
        let id = rig.name();
        let long = Address::Unix("/".repeat(200));
        let missing = Address::Unix("/nonexistent/app.sock".to_owned());
        for address in [&closed, &missing, &long, &closed] {
            rig.heard.clear();
            rig.engine.connect(id, address);
            rig.until_heard(Completion::Refused { id });
            assert_eq!(rig.heard.len(), 1);
        }
    });
}

#[test]
fn an_ending_that_crosses_a_refusal_is_told_as_a_close() {
    both(|rig| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = Address::Tcp(listener.local_addr().unwrap());
        drop(listener);
        let missing = Address::Unix("/nonexistent/app.sock".to_owned());
        for address in [closed, missing] {
            for is_early in [true, false] {
                let id = rig.name();
                rig.engine.connect(id, &address);
                if !is_early {
                    // The refusal is there, and not yet told.
                    rig.engine.turn(&[], Some(Duration::from_secs(5))).unwrap();
                }
                rig.engine.end(id, Ending::Now);
                rig.hear();
                rig.until_heard(Completion::Closed { id, unsent: 0 });
                rig.settle();
                assert_eq!(rig.heard.len(), 1);
                rig.heard.clear();
            }
        }
    });
}

#[test]
fn a_full_unix_queue_is_waited_for_until_given_up() {
    both(|rig| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let path = path.to_str().unwrap().to_owned();
        let listener = listen(&Address::Unix(path.clone()), 0, false).unwrap();
        let listener = UnixListener::from(listener);
        let _queued = UnixStream::connect(&path).unwrap();
        let (given_up, patient) = (rig.name(), rig.name());
        for id in [given_up, patient] {
            rig.engine.connect(id, &Address::Unix(path.clone()));
        }
        rig.settle();
        assert!(rig.heard.is_empty(), "{:?}", rig.heard);
        rig.engine.end(given_up, Ending::Now);
        rig.until_heard(Completion::Closed { id: given_up, unsent: 0 });
        let _first = listener.accept().unwrap();
        rig.until_heard(Completion::Connected { id: patient });
        let (mut server, _) = listener.accept().unwrap();
        rig.engine.recv(patient);
        server.write_all(b"hello").unwrap();
        assert_eq!(rig.until_received(patient, 5), b"hello");
    });
}

#[test]
fn a_server_that_goes_while_its_queue_is_waited_for_refuses() {
    both(|rig| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let path = path.to_str().unwrap().to_owned();
        let listener = listen(&Address::Unix(path.clone()), 0, false).unwrap();
        let _queued = UnixStream::connect(&path).unwrap();
        let id = rig.name();
        rig.engine.connect(id, &Address::Unix(path));
        rig.settle();
        assert!(rig.heard.is_empty(), "{:?}", rig.heard);
        drop(listener);
        rig.until_heard(Completion::Refused { id });
    });
}

#[test]
fn a_connection_in_the_making_can_be_given_up() {
    both(|rig| {
        // Loopback drops a SYN when the accept queue is full, so that a connect hangs.
        let listener = listen(&Address::Tcp(([127, 0, 0, 1], 0).into()), 0, false).unwrap();
        let address = local_address(&listener).unwrap();
        let filler = rig.name();
        rig.engine.connect(filler, &address);
        rig.until_heard(Completion::Connected { id: filler });
        let hanging: Vec<SocketId> = (0..3).map(|_| rig.name()).collect();
        for id in &hanging {
            rig.engine.connect(*id, &address);
        }
        rig.settle();
        for (id, how) in hanging.iter().zip([Ending::Now, Ending::Flushed, Ending::Reset]) {
            rig.engine.end(*id, how);
        }
        for id in hanging {
            rig.until_heard(Completion::Closed { id, unsent: 0 });
        }
    });
}
