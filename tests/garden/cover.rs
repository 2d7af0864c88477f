//! What the runs really met, counted: a situation that no longer occurs is a test that silently
//! stopped testing.

use std::collections::BTreeMap;
use std::fmt;

/// Times each situation occurred: what happened, and in which circumstances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cover(BTreeMap<(&'static str, &'static str), u64>);

impl Cover {
    pub(crate) fn note(&mut self, what: &'static str) {
        self.note_in(what, "");
    }

    pub(crate) fn note_in(&mut self, what: &'static str, circumstances: &'static str) {
        *self.0.entry((what, circumstances)).or_insert(0) += 1;
    }

    pub(crate) fn absorb(&mut self, other: &Self) {
        for (situation, count) in &other.0 {
            *self.0.entry(*situation).or_insert(0) += count;
        }
    }

    pub(crate) fn has(&self, what: &'static str, circumstances: &'static str) -> bool {
        self.0.contains_key(&(what, circumstances))
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((what, circumstances), count) in &self.0 {
            writeln!(f, "{count:>10}  {what} {circumstances}")?;
        }
        Ok(())
    }
}
