//! Bytes: in order, whole, and no faster than they are taken.

use super::*;
use std::thread;

#[test]
fn what_is_forwarded_and_sent_in_a_turn_arrives_in_order() {
    both(|rig| {
        let (mut client, id) = rig.client();
        rig.is_echo = true;
        client.write_all(b"ping").unwrap();
        rig.settle();
        assert_eq!(read_exactly(&mut client, 4), b"ping");
        let (mut other, other_id) = rig.client();
        // Out of order in the arena, so that neighbours cannot be merged into one piece.
        rig.arena.extend_from_slice(b"tail-head-other");
        rig.engine.send(id, 5..10);
        rig.engine.send(other_id, 10..15);
        rig.engine.send(id, 0..4);
        rig.settle();
        assert_eq!(read_exactly(&mut client, 9), b"head-tail");
        assert_eq!(read_exactly(&mut other, 5), b"other");
        assert_eq!(rig.heard, [], "nothing is told of writes that succeed");
        assert!(rig.backlogs.is_empty());
    });
}

#[test]
fn more_pieces_than_one_call_takes_arrive_whole() {
    both(|rig| {
        let (mut client, id) = rig.client();
        let bytes = pattern(6000);
        rig.arena.clone_from(&bytes);
        for piece in 0..3000 {
            // Backwards in pairs, so that no two pieces in a row are neighbours.
            let start = (piece ^ 1) * 2;
            rig.engine.send(id, start..start + 2);
        }
        let expected: Vec<u8> =
            bytes.chunks(4).flat_map(|four| [four[2], four[3], four[0], four[1]]).collect();
        rig.settle();
        assert_eq!(read_exactly(&mut client, 6000), expected);
    });
}

#[test]
fn a_large_echo_keeps_its_bytes_with_back_pressure() {
    both(|rig| {
        const SIZE: usize = 48 * 1024 * 1024;
        let (mut client, id) = rig.client();
        rig.is_echo = true;
        let mut source = client.try_clone().unwrap();
        let writer = thread::spawn(move || {
            source.write_all(&pattern(SIZE)).unwrap();
            source.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let reader = thread::spawn(move || read_all(&mut client).unwrap());
        rig.until_heard(Completion::Ended { id });
        rig.engine.end(id, Ending::Flushed);
        rig.until_heard(Completion::Closed { id, unsent: 0 });
        writer.join().unwrap();
        assert!(reader.join().unwrap() == pattern(SIZE), "bytes were lost or reordered");
    });
}

#[test]
fn a_slow_reader_forms_a_backlog_that_is_told_until_it_is_gone() {
    both(|rig| {
        const SIZE: usize = 64 * 1024 * 1024;
        const STEP: usize = 1024 * 1024;
        let (mut client, id) = rig.client();
        let bytes = pattern(SIZE);
        let mut sent = 0;
        // Nobody reads yet: the kernel's buffers fill, then ours, and no further.
        while rig.backlogs.get(&id).copied().unwrap_or(0) == 0 {
            rig.send(id, &bytes[sent..sent + STEP]);
            sent += STEP;
            rig.turn(10);
        }
        assert!(rig.engine.counters().sends_short > 0);
        let reader = thread::spawn(move || read_exactly(&mut client, SIZE));
        while sent < SIZE {
            rig.until(|rig| rig.backlogs[&id] < STEP);
            rig.send(id, &bytes[sent..sent + STEP]);
            // What joins a backlog is not told; what goes at once never is.
            let backlog = rig.backlogs.get_mut(&id).unwrap();
            *backlog += if *backlog > 0 { STEP } else { 0 };
            sent += STEP;
            rig.turn(0);
        }
        rig.until(|rig| rig.backlogs[&id] == 0);
        assert!(reader.join().unwrap() == bytes, "bytes were lost or reordered");
        assert_eq!(rig.heard, []);
    });
}

#[test]
fn a_held_socket_delivers_nothing_until_it_is_wanted_again() {
    both(|rig| {
        let (mut client, id) = rig.client();
        for round in 0..3 {
            client.write_all(b"before").unwrap();
            assert_eq!(rig.until_received(id, 6), b"before", "round {round}");
            rig.engine.hold(id);
            client.write_all(b"while on hold, ").unwrap();
            rig.settle();
            client.write_all(b"and more").unwrap();
            rig.settle();
            assert!(!rig.received.contains_key(&id));
            rig.engine.recv(id);
            assert_eq!(rig.until_received(id, 23), b"while on hold, and more");
        }
    });
}

#[test]
fn the_end_is_told_after_what_came_before_it_even_on_hold() {
    both(|rig| {
        // The second socket had data while on hold before, which changes how it is read.
        for earlier in [&b""[..], b"earlier, "] {
            let (mut client, id) = rig.client();
            rig.engine.hold(id);
            client.write_all(earlier).unwrap();
            rig.settle();
            client.write_all(b"last words").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            rig.settle();
            assert!(rig.heard.is_empty() && rig.received.is_empty());
            rig.engine.recv(id);
            rig.until_heard(Completion::Ended { id });
            assert_eq!(rig.received[&id], [earlier, b"last words"].concat());
            rig.heard.clear();
            rig.received.clear();
        }
    });
}

#[test]
fn hold_within_a_turn_stops_what_the_turn_had_in_store() {
    both(|rig| {
        let (mut first, first_id) = rig.client();
        let (mut second, second_id) = rig.client();
        first.write_all(b"one").unwrap();
        second.write_all(b"two").unwrap();
        rig.engine.turn(&[], Some(Duration::from_secs(5))).unwrap();
        let mut told = Vec::new();
        while let Some(completion) = rig.engine.next() {
            if let Completion::Received { id, .. } = completion {
                told.push(id);
                rig.engine.hold(if id == first_id { second_id } else { first_id });
            }
        }
        rig.settle();
        assert_eq!(told.len(), 1, "the other was put on hold before its turn came");
        let other = if told[0] == first_id { second_id } else { first_id };
        rig.engine.recv(other);
        assert_eq!(rig.until_received(other, 3).len(), 3);
    });
}

#[test]
fn a_bulk_upload_arrives_whole_between_holds() {
    both(|rig| {
        const SIZE: usize = 8 * 1024 * 1024;
        let (client, id) = rig.client();
        let mut source = client.try_clone().unwrap();
        let writer = thread::spawn(move || source.write_all(&pattern(SIZE)).unwrap());
        while rig.received.get(&id).map_or(0, Vec::len) < SIZE {
            rig.turn(1000);
            rig.engine.hold(id);
            rig.turn(0);
            rig.engine.recv(id);
        }
        writer.join().unwrap();
        assert!(rig.received[&id] == pattern(SIZE), "bytes were lost or reordered");
    });
}
