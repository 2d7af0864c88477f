//! Endings, and who hears of them.

use super::*;
use socket2::SockRef;
use std::io::ErrorKind;
use std::net::Shutdown;

#[test]
fn each_direction_ends_by_itself() {
    both(|rig| {
        let (mut client, id) = rig.client();
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        rig.until_heard(Completion::Ended { id });
        assert_eq!(rig.received[&id], b"request");
        rig.send(id, b"answer");
        rig.engine.end(id, Ending::Shutdown);
        rig.settle();
        assert_eq!(read_all(&mut client).unwrap(), b"answer");
        assert_eq!(rig.heard, [Completion::Ended { id }]);
        rig.engine.end(id, Ending::Now);
        rig.until_heard(Completion::Closed { id, unsent: 0 });
    });
}

#[test]
fn after_our_shutdown_reading_goes_on() {
    both(|rig| {
        let (mut client, id) = rig.client();
        rig.engine.end(id, Ending::Shutdown);
        rig.settle();
        assert_eq!(read_all(&mut client).unwrap(), b"");
        client.write_all(b"still talking").unwrap();
        assert_eq!(rig.until_received(id, 13), b"still talking");
        drop(client);
        rig.until_heard(Completion::Ended { id });
    });
}

#[test]
fn what_is_sent_before_an_ending_is_written_before_it() {
    both(|rig| {
        for how in [Ending::Shutdown, Ending::Flushed, Ending::Now] {
            let (mut client, id) = rig.client();
            rig.send(id, b"farewell");
            rig.engine.end(id, how);
            rig.send(id, b"too late");
            rig.settle();
            assert_eq!(read_all(&mut client).unwrap(), b"farewell", "{how:?}");
            rig.engine.end(id, Ending::Now);
            rig.until_heard(Completion::Closed { id, unsent: 8 });
        }
    });
}

#[test]
fn a_reset_is_seen_as_one_by_the_client() {
    both(|rig| {
        let (mut client, id) = rig.client();
        rig.send(id, b"half an ans");
        rig.turn(0);
        rig.engine.end(id, Ending::Reset);
        rig.until_heard(Completion::Closed { id, unsent: 0 });
        let error = read_all(&mut client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_by_the_client_breaks_the_socket() {
    both(|rig| {
        let (client, id) = rig.client();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        rig.until_heard(Completion::Broken { id });
        rig.send(id, b"to nobody");
        rig.until_heard(Completion::Unwritable { id });
        rig.engine.end(id, Ending::Flushed);
        rig.until_heard(Completion::Closed { id, unsent: 9 });
        assert_eq!(rig.heard.len(), 3, "each is told once: {:?}", rig.heard);
    });
}

#[test]
fn a_flushed_ending_waits_for_its_backlog_and_a_hard_one_drops_it() {
    both(|rig| {
        const SIZE: usize = 12 * 1024 * 1024;
        let (mut patient, patient_id) = rig.client();
        let (mut dropped, dropped_id) = rig.client();
        let bytes = pattern(SIZE);
        for id in [patient_id, dropped_id] {
            rig.send(id, &bytes);
            rig.engine.end(id, Ending::Flushed);
        }
        rig.settle();
        assert!(rig.backlogs[&patient_id] > 0 && rig.backlogs[&dropped_id] > 0);
        assert_eq!(rig.heard, []);
        rig.engine.end(dropped_id, Ending::Now);
        let is_closed = |rig: &Rig| matches!(rig.heard[..], [Completion::Closed { .. }]);
        rig.until(is_closed);
        let reader = std::thread::spawn(move || read_all(&mut dropped).map(|bytes| bytes.len()));
        let Completion::Closed { id, unsent } = rig.heard[0] else { panic!() };
        assert_eq!(id, dropped_id);
        assert_eq!(reader.join().unwrap().unwrap() + unsent, SIZE);
        let reader = std::thread::spawn(move || read_all(&mut patient).unwrap());
        rig.until_heard(Completion::Closed { id: patient_id, unsent: 0 });
        assert!(reader.join().unwrap() == bytes, "bytes were lost or reordered");
    });
}

#[test]
fn a_broken_client_ends_a_flushed_ending() {
    both(|rig| {
        let (client, id) = rig.client();
        rig.send(id, &pattern(12 * 1024 * 1024));
        rig.engine.end(id, Ending::Flushed);
        rig.settle();
        assert!(rig.backlogs[&id] > 0);
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        rig.until(|rig| matches!(rig.heard[..], [Completion::Closed { unsent: 1.., .. }]));
    });
}

#[test]
fn names_are_used_again_and_late_words_reach_nobody() {
    both(|rig| {
        let (mut client, id) = rig.client();
        client.write_all(b"old").unwrap();
        rig.until_received(id, 3);
        rig.engine.end(id, Ending::Now);
        rig.until_heard(Completion::Closed { id, unsent: 0 });
        rig.indices = id.index;
        let (mut client, again) = rig.client();
        rig.indices = again.index + 100;
        let again_name = SocketId { generation: again.generation, ..id };
        assert_eq!(again_name, again);
        // The old name has another generation only if we say so: orders for a stale one are void.
        let stale = SocketId { generation: id.generation + 1, ..id };
        rig.send(stale, b"stale");
        rig.engine.end(stale, Ending::Now);
        rig.engine.hold(stale);
        rig.send(again, b"new");
        rig.settle();
        assert_eq!(read_exactly(&mut client, 3), b"new");
        client.write_all(b"alive").unwrap();
        assert_eq!(rig.until_received(again, 5), b"alive");
    });
}
