//! What a simulation really went through, counted: a situation that no longer occurs is a test
//! that silently stopped testing.

use std::collections::BTreeMap;
use std::fmt;

/// Times each situation occurred.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cover(BTreeMap<&'static str, u64>);

impl Cover {
    pub(crate) fn note(&mut self, situation: &'static str) {
        *self.0.entry(situation).or_insert(0) += 1;
    }

    pub(crate) fn count(&self, situation: &str) -> u64 {
        self.0.get(situation).copied().unwrap_or(0)
    }

    pub(crate) fn absorb(&mut self, other: &Self) {
        for (situation, count) in &other.0 {
            *self.0.entry(situation).or_insert(0) += count;
        }
    }

    /// Those of `wanted` that never occurred.
    pub(crate) fn missing<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted.iter().copied().filter(|situation| self.count(situation) == 0).collect()
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (situation, count) in &self.0 {
            writeln!(f, "{count:>10}  {situation}")?;
        }
        Ok(())
    }
}
