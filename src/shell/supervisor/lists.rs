//! Questions that are on their way to the listener and back: about requests, and whether all that
//! was said before has come into force. It may be slow, die or say more than it should: each ends
//! within its limit.

use crate::base::time::Instant;
use crate::shell::api::{Answer, Asked};
use crate::shell::control::{ROWS_MAX, RequestRow};
use crate::shell::view::{Outcome, Requests};
use std::collections::BTreeMap;
use std::time::Duration;

/// For the listener; shorter than the API's own patience.
const LIMIT: Duration = Duration::from_secs(2);
/// Questions at once; the API has no more connections.
const LISTS_MAX: usize = 32;

/// What was asked and not yet answered whole, by token.
#[derive(Debug, Default)]
pub(super) struct Lists {
    open: BTreeMap<u64, List>,
    tokens: u64,
}

#[derive(Debug)]
struct List {
    asked: Asked,
    aim: Aim,
    deadline: Instant,
}

#[derive(Debug)]
enum Aim {
    Rows(Vec<RequestRow>),
    /// That the listener does what it was told before; this is said then. What is said is true
    /// without it, for the next listener will be told the same.
    Fence(Outcome),
}

impl Lists {
    /// The token under which the listener is to answer; `None`: too many wait already, and this
    /// one is answered.
    pub(super) fn open(&mut self, now: Instant, asked: Asked) -> Option<u64> {
        self.insert(now, asked, Aim::Rows(Vec::new()))
    }

    /// As `open`, of a question whose rows nobody wants.
    pub(super) fn fence(&mut self, now: Instant, asked: Asked, outcome: Outcome) -> Option<u64> {
        self.insert(now, asked, Aim::Fence(outcome))
    }

    fn insert(&mut self, now: Instant, asked: Asked, aim: Aim) -> Option<u64> {
        self.open.retain(|_, list| !list.asked.is_given_up());
        if self.open.len() >= LISTS_MAX {
            end(asked, aim, "too many ask at once");
            return None;
        }
        self.tokens += 1;
        let list = List { asked, aim, deadline: now + LIMIT };
        self.open.insert(self.tokens, list);
        Some(self.tokens)
    }

    pub(super) fn hear(&mut self, token: u64, rows: Vec<RequestRow>, is_last: bool) {
        let Some(list) = self.open.get_mut(&token) else { return };
        if let Aim::Rows(all) = &mut list.aim {
            let room = ROWS_MAX - all.len();
            all.extend(rows.into_iter().take(room));
        }
        if is_last && let Some(List { asked, aim, .. }) = self.open.remove(&token) {
            asked.answer(match aim {
                Aim::Rows(rows) => {
                    let is_cut = rows.len() == ROWS_MAX;
                    Answer::Requests(Requests { rows, is_cut })
                }
                Aim::Fence(outcome) => Answer::Done(outcome),
            });
        }
    }

    /// Ends those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let late: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, list)| now >= list.deadline)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.give_up(token, &format!("the listener did not answer within {LIMIT:?}"));
        }
    }

    /// The listener is gone, and with it whoever would answer.
    pub(super) fn lose(&mut self) {
        while let Some(token) = self.open.keys().next().copied() {
            self.give_up(token, "the listener died meanwhile. Ask again");
        }
    }

    fn give_up(&mut self, token: u64, why: &str) {
        if let Some(list) = self.open.remove(&token) {
            end(list.asked, list.aim, why);
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.open.values().map(|list| list.deadline).fold(Instant::NEVER, Instant::min)
    }
}

/// Without the listener's word.
fn end(asked: Asked, aim: Aim, why: &str) {
    asked.answer(match aim {
        Aim::Rows(_) => Answer::Unavailable(why.to_owned()),
        Aim::Fence(outcome) => Answer::Done(outcome),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::api::Ask;
    use tokio::sync::oneshot::Receiver;

    const START: Instant = Instant(1_000_000_000);

    fn row(id: usize) -> RequestRow {
        RequestRow {
            id: id.to_string(),
            pool: "shop".into(),
            worker: None,
            client: "127.0.0.1".into(),
            method: "GET".into(),
            host: "x".into(),
            target: "/".into(),
            state: "waiting".into(),
            elapsed_ms: 1,
        }
    }

    fn open(lists: &mut Lists) -> (u64, Receiver<Answer>) {
        let (asked, answer) = Asked::new(Ask::Requests { pool: None, older_ms: 0 });
        (lists.open(START, asked).unwrap(), answer)
    }

    #[test]
    fn an_answer_in_pieces_is_put_together() {
        let mut lists = Lists::default();
        let (first, mut first_answer) = open(&mut lists);
        let (second, mut second_answer) = open(&mut lists);
        lists.hear(first, vec![row(1)], false);
        lists.hear(second, Vec::new(), true);
        lists.hear(first, vec![row(2)], true);
        lists.hear(first, vec![row(3)], true);
        let Answer::Requests(requests) = first_answer.try_recv().unwrap() else { panic!() };
        assert_eq!(requests, Requests { rows: vec![row(1), row(2)], is_cut: false });
        assert!(
            matches!(second_answer.try_recv().unwrap(), Answer::Requests(Requests { rows, .. }) if rows.is_empty())
        );
        assert_eq!(lists.deadline(), Instant::NEVER);
    }

    #[test]
    fn silence_and_death_are_answers_too() {
        let mut lists = Lists::default();
        let (_, mut late) = open(&mut lists);
        assert_eq!(lists.deadline(), START + LIMIT);
        lists.expire(START + LIMIT - Duration::from_nanos(1));
        assert_eq!(lists.open.len(), 1);
        lists.expire(START + LIMIT);
        assert!(matches!(late.try_recv().unwrap(), Answer::Unavailable(why) if why.contains("2s")));
        let (_, mut lost) = open(&mut lists);
        lists.lose();
        assert!(matches!(lost.try_recv().unwrap(), Answer::Unavailable(_)));
        assert!(lists.open.is_empty());
    }

    #[test]
    fn what_was_done_is_told_when_the_listener_does_it_too_or_cannot() {
        let mut lists = Lists::default();
        let outcome = || Outcome { text: "paused".into() };
        let fence = |lists: &mut Lists| {
            let (asked, answer) = Asked::new(Ask::Reload);
            (lists.fence(START, asked, outcome()).unwrap(), answer)
        };
        let is_done = |answer: &mut Receiver<Answer>| matches!(answer.try_recv(), Ok(Answer::Done(it)) if it == outcome());
        let (token, mut heard) = fence(&mut lists);
        assert!(heard.try_recv().is_err());
        lists.hear(token, vec![row(1)], false);
        assert!(heard.try_recv().is_err());
        lists.hear(token, Vec::new(), true);
        assert!(is_done(&mut heard));
        let (_, mut late) = fence(&mut lists);
        lists.expire(START + LIMIT);
        assert!(is_done(&mut late));
        let (_, mut lost) = fence(&mut lists);
        lists.lose();
        assert!(is_done(&mut lost));
    }

    #[test]
    fn neither_rows_nor_questions_grow_without_end() {
        let mut lists = Lists::default();
        let (token, mut answer) = open(&mut lists);
        for _ in 0..3 {
            lists.hear(token, (0..=ROWS_MAX / 2).map(row).collect(), false);
        }
        lists.hear(token, Vec::new(), true);
        let Answer::Requests(requests) = answer.try_recv().unwrap() else { panic!() };
        assert_eq!((requests.rows.len(), requests.is_cut), (ROWS_MAX, true));
        let waiting: Vec<_> = (0..LISTS_MAX).map(|_| open(&mut lists)).collect();
        let (asked, mut refused) = Asked::new(Ask::Requests { pool: None, older_ms: 0 });
        assert_eq!(lists.open(START, asked), None);
        assert!(matches!(refused.try_recv(), Ok(Answer::Unavailable(_))));
        drop(waiting);
        let (asked, _answer) = Asked::new(Ask::Requests { pool: None, older_ms: 0 });
        assert!(lists.open(START, asked).is_some());
        assert_eq!(lists.open.len(), 1);
    }
}
