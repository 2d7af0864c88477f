//! Requests that workers lose: who gets them next, and how often.

use super::*;

#[test]
fn what_a_dying_worker_lost_twice_goes_to_another() {
    let mut bed = Bed::new(|garden| garden.slots = 1);
    bed.open(PLACE, 0, 1);
    bed.open(OTHER, 1, 1);
    let (other, client) = (bed.client(), bed.client());
    let busy = connection(&bed.ask(other, ASKED));
    bed.step(Input::Connected { id: busy });
    let link = connection(&bed.ask(client, ASKED));
    bed.step(Input::Connected { id: link });
    // Its connections are closed, and the socket that it listens on is not yet.
    let link = connection(&bed.step(Input::Broken { id: link }));
    bed.step(Input::Connected { id: link });
    assert!(bed.said(link).starts_with("GET /x"));
    let effects = bed.step(Input::Broken { id: link });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Connect { .. })), "{effects:?}");
    assert_eq!((bed.executing(PLACE), bed.executing(OTHER), bed.gate.waiting()), (0, 1, 1));
    let link = connection(&bed.step(Input::Received { id: busy, bytes: ANSWER }));
    assert_eq!((bed.executing(PLACE), bed.executing(OTHER)), (0, 1));
    bed.step(Input::Connected { id: link });
    bed.step(Input::Broken { id: link });
    assert!(bed.said(client).contains("502 worker-lost"), "two workers have lost it");
    assert_eq!((bed.executing(PLACE), bed.executing(OTHER), bed.gate.waiting()), (0, 0, 0));
}

#[test]
fn what_a_lone_worker_will_not_answer_is_sent_three_times_at_most() {
    let mut bed = Bed::new(|garden| garden.slots = 1);
    bed.open(PLACE, 0, 1);
    let client = bed.client();
    let mut link = connection(&bed.ask(client, ASKED));
    bed.step(Input::Connected { id: link });
    link = connection(&bed.step(Input::Broken { id: link }));
    bed.step(Input::Connected { id: link });
    bed.step(Input::Broken { id: link });
    assert_eq!(bed.gate.waiting(), 1);
    link = connection(&bed.pass(Duration::from_millis(30)));
    bed.step(Input::Connected { id: link });
    bed.step(Input::Broken { id: link });
    assert!(bed.said(client).contains("502 worker-lost"), "{}", bed.said(client));
    assert_eq!((bed.executing(PLACE), bed.gate.waiting()), (0, 0));
}

#[test]
fn a_short_pause_does_not_hide_the_end_of_a_long_one() {
    let mut bed = Bed::new(|garden| garden.slots = 1);
    bed.open(PLACE, 0, 1);
    bed.open(OTHER, 1, 1);
    let clients = [bed.client(), bed.client()];
    // One refuses, and is passed over for a second.
    let refused = connection(&bed.ask(clients[0], ASKED));
    let link = connection(&bed.step(Input::Refused { id: refused }));
    bed.step(Input::Connected { id: link });
    // The other loses what it was given twice.
    let link = connection(&bed.step(Input::Broken { id: link }));
    bed.step(Input::Connected { id: link });
    bed.step(Input::Broken { id: link });
    assert_eq!(bed.gate.waiting(), 1);
    connection(&bed.pass(Duration::from_millis(30)));
    bed.ask(clients[1], ASKED);
    assert_eq!(bed.gate.waiting(), 1);
    connection(&bed.pass(Duration::from_millis(1_100)));
    assert_eq!((bed.executing(PLACE), bed.executing(OTHER), bed.gate.waiting()), (1, 1, 0));
}
