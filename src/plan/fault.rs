//! What is wrong with a configuration: a list, because an operator who repairs one fault at a time
//! reloads once a fault.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// One complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Bytes of the text; empty at its end when something is missing from the whole file.
    pub span: Range<usize>,
    /// Of the key, such as `pool.shop.upstream.idle_timeout`; empty for a fault of the syntax.
    pub path: String,
    pub what: String,
    /// What to write instead. Never empty.
    pub hint: String,
    pub nature: Nature,
    /// The pool that alone has it: without this pool the rest of the file may hold.
    pub pool: Option<String>,
}

/// How far a fault can be trusted when the text could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// The text is not TOML.
    Syntax,
    /// What stands there is wrong, whatever else the file holds.
    Here,
    /// Wrong only if the whole file was read: something is missing, or stands in a table that it
    /// may not have been written in.
    Whole,
}

/// The list while it grows.
#[derive(Debug, Default)]
pub struct Faults {
    list: Vec<Fault>,
    /// Whose faults are found now.
    pool: Option<String>,
}

impl Faults {
    /// More would not be read by anybody; a file of eight megabytes could hold a million.
    pub const COUNT_MAX: usize = 1000;

    /// `what` and `hint` are made only while there is room for them.
    pub fn add(
        &mut self,
        nature: Nature,
        span: &Range<usize>,
        path: &str,
        tell: impl FnOnce() -> (String, String),
    ) {
        if self.list.len() >= Self::COUNT_MAX {
            return;
        }
        let (what, hint) = tell();
        debug_assert!(!hint.is_empty(), "{path}: {what}: a fault without a remedy");
        let pool = self.pool.clone();
        self.list.push(Fault { span: span.clone(), path: path.into(), what, hint, nature, pool });
    }

    /// What `find` complains about is a matter of this pool alone.
    pub fn within<T>(&mut self, pool: &str, find: impl FnOnce(&mut Self) -> T) -> T {
        self.pool = Some(pool.into());
        let found = find(self);
        self.pool = None;
        found
    }

    /// What is wrong with this pool alone.
    pub fn of<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Fault> {
        self.list.iter().filter(move |fault| fault.pool.as_deref() == Some(pool))
    }

    /// Whether one concerns more than a single pool, or was not kept for want of room.
    pub fn are_beyond_pools(&self) -> bool {
        self.list.len() >= Self::COUNT_MAX || self.list.iter().any(|fault| fault.pool.is_none())
    }

    pub fn push(&mut self, fault: Fault) {
        if self.list.len() < Self::COUNT_MAX {
            self.list.push(fault);
        }
    }

    /// By position; `None` when there is nothing to complain about.
    pub fn finish(mut self) -> Option<Vec<Fault>> {
        if self.list.iter().any(|fault| fault.nature == Nature::Syntax) {
            self.list.retain(|fault| fault.nature != Nature::Whole);
        }
        self.list.sort_by_key(|fault| (fault.span.start, fault.span.end));
        if self.list.is_empty() { None } else { Some(self.list) }
    }
}

/// The candidate that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer names are not typed by hand.
    const SIZE_MAX: usize = 64;
    let size = word.chars().count();
    if size == 0 || size > SIZE_MAX {
        return None;
    }
    let near = size / 3 + 1;
    candidates
        .filter(|candidate| {
            let other = candidate.chars().count();
            other <= SIZE_MAX && other.abs_diff(size) <= near
        })
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(apart, candidate)| apart <= near && apart < candidate.chars().count())
        .min_by_key(|&(apart, _)| apart)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one to the other,
/// letter case aside (the optimal string alignment distance).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().map(|letter| letter.to_ascii_lowercase()).collect();
    let to: Vec<char> = to.chars().map(|letter| letter.to_ascii_lowercase()).collect();
    let width = to.len() + 1;
    let mut costs = alloc::vec![0; (from.len() + 1) * width];
    for row in 0..=from.len() {
        for column in 0..=to.len() {
            costs[row * width + column] = if row == 0 || column == 0 {
                row + column
            } else {
                let here = |up: usize, left: usize| costs[(row - up) * width + column - left];
                let differs = usize::from(from[row - 1] != to[column - 1]);
                let mut least = (here(1, 0) + 1).min(here(0, 1) + 1).min(here(1, 1) + differs);
                if row > 1
                    && column > 1
                    && from[row - 1] == to[column - 2]
                    && from[row - 2] == to[column - 1]
                {
                    least = least.min(here(2, 2) + 1);
                }
                least
            };
        }
    }
    costs[costs.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        for (from, to, apart) in [
            ("", "", 0),
            ("abc", "", 3),
            ("engine", "Engine", 0),
            ("engnie", "engine", 1),
            ("kitten", "sitting", 3),
            ("größe", "grösse", 2),
        ] {
            assert_eq!(distance(from, to), apart, "{from} {to}");
            assert_eq!(distance(to, from), apart, "{to} {from}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let words = ["engine", "threads", "user", "a"];
        assert_eq!(nearest("treads", words.into_iter()), Some("threads"));
        assert_eq!(nearest("uesr", words.into_iter()), Some("user"));
        for far in ["colour", "", "b"] {
            assert_eq!(nearest(far, words.into_iter()), None, "{far}");
        }
    }

    #[test]
    fn a_missing_thing_is_not_reported_when_the_text_could_not_be_read() {
        let mut faults = Faults::default();
        for (nature, at) in [(Nature::Whole, 1), (Nature::Here, 9), (Nature::Syntax, 5)] {
            faults.add(nature, &(at..at), "", || ("what".into(), "hint".into()));
        }
        let left: Vec<_> = faults.finish().unwrap().iter().map(|fault| fault.span.start).collect();
        assert_eq!(left, [5, 9]);
    }

    #[test]
    fn the_list_has_an_end() {
        let mut faults = Faults::default();
        for _ in 0..=Faults::COUNT_MAX {
            faults.add(Nature::Here, &(0..0), "", || ("what".into(), "hint".into()));
        }
        assert_eq!(faults.finish().unwrap().len(), Faults::COUNT_MAX);
    }
}
