//! Rows from all threads put together, and cut into frames.

use crate::shell::control::{FRAME_SIZE_MAX, RequestRow};
use crate::shell::data::keep_oldest;
use serde::Serialize;
use std::collections::VecDeque;

/// Lists under way; who asks for more loses the oldest.
const LISTS_MAX: usize = 16;
/// What a frame has beside its rows.
const FRAME_MARGIN: usize = 1024;

/// Lists that some threads have not answered yet.
#[derive(Debug, Default)]
pub(super) struct Lists(VecDeque<List>);

#[derive(Debug)]
struct List {
    token: u64,
    awaited: usize,
    rows: Vec<RequestRow>,
}

impl Lists {
    pub(super) fn begin(&mut self, token: u64, threads: usize) {
        if self.0.len() == LISTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(List { token, awaited: threads, rows: Vec::new() });
    }

    /// The whole list, oldest first, when the last thread has answered.
    pub(super) fn add(&mut self, token: u64, rows: Vec<RequestRow>) -> Option<Vec<RequestRow>> {
        let at = self.0.iter().position(|list| list.token == token)?;
        let list = &mut self.0[at];
        list.rows.extend(rows);
        keep_oldest(&mut list.rows);
        list.awaited -= 1;
        if list.awaited > 0 {
            return None;
        }
        self.0.remove(at).map(|list| list.rows)
    }
}

/// As many rows together as fit into a frame; at least one part, the last may be empty.
pub(super) fn parts<T: Serialize>(rows: Vec<T>) -> Vec<Vec<T>> {
    let mut parts = vec![Vec::new()];
    let mut size = FRAME_MARGIN;
    for row in rows {
        // What cannot be said is left out by whoever sends it.
        let own = serde_json::to_vec(&row).map_or(0, |bytes| bytes.len() + 1);
        size += own;
        if size > FRAME_SIZE_MAX {
            parts.push(Vec::new());
            size = FRAME_MARGIN + own;
        }
        parts.last_mut().expect("at least one part").push(row);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::control::ROWS_MAX;

    fn row(elapsed_ms: u64) -> RequestRow {
        RequestRow {
            id: "0123456789abcdef".into(),
            pool: "shop".into(),
            worker: None,
            client: "127.0.0.1:5000".into(),
            method: "GET".into(),
            host: "shop.example".into(),
            target: "/".into(),
            state: "waiting".into(),
            elapsed_ms,
        }
    }

    #[test]
    fn the_threads_rows_are_put_together_oldest_first() {
        let mut lists = Lists::default();
        lists.begin(7, 2);
        lists.begin(8, 1);
        assert_eq!(lists.add(7, vec![row(3), row(9)]), None);
        assert_eq!(lists.add(9, vec![row(1)]), None, "nobody asked");
        assert_eq!(lists.add(8, Vec::new()), Some(Vec::new()));
        assert_eq!(lists.add(7, vec![row(5)]), Some(vec![row(9), row(5), row(3)]));
        assert_eq!(lists.add(7, vec![row(5)]), None, "answered twice");
    }

    #[test]
    fn lists_are_bounded_in_number_and_length() {
        let mut lists = Lists::default();
        (0..=LISTS_MAX as u64).for_each(|token| lists.begin(token, 1));
        assert_eq!(lists.add(0, Vec::new()), None);
        let crowd = (0..ROWS_MAX as u64 + 5).map(row).collect();
        let rows = lists.add(1, crowd).unwrap();
        assert_eq!(rows.len(), ROWS_MAX);
        assert_eq!(rows[ROWS_MAX - 1].elapsed_ms, 5, "the youngest are cut");
    }

    #[test]
    fn every_part_fits_into_a_frame() {
        let rows: Vec<_> = (0..1000).map(row).collect();
        let parts = parts(rows.clone());
        assert!(parts.len() > 2 && parts.len() < 10);
        for part in &parts {
            let size = serde_json::to_vec(part).unwrap().len();
            assert!(size + FRAME_MARGIN / 2 < FRAME_SIZE_MAX, "{size}");
        }
        assert_eq!(parts.concat(), rows);
        assert_eq!(super::parts(Vec::<u8>::new()), [Vec::<u8>::new()]);
    }
}
