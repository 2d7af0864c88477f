//! What draws everything that happens: a seed, or the bytes of a fuzzer and a seed after them.

use core::time::Duration;
use lychgate::base::prng::Prng;

#[derive(Debug)]
pub(crate) struct Dice {
    bytes: Vec<u8>,
    at: usize,
    prng: Prng,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(Vec::new(), seed)
    }

    pub(crate) fn of(bytes: Vec<u8>, seed: u64) -> Self {
        Self { bytes, at: 0, prng: Prng::new(seed) }
    }

    /// A number below `bound`, which must not be zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let Some(&[high, low]) = self.bytes.get(self.at..self.at + 2) else {
            return self.prng.below(bound);
        };
        self.at += 2;
        u64::from(u16::from_be_bytes([high, low])) % bound
    }

    /// A number of `low..=high`.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(crate) fn small(&mut self, low: u16, high: u16) -> u16 {
        u16::try_from(self.range(u64::from(low), u64::from(high))).unwrap_or(low)
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    pub(crate) fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.range(low, high))
    }

    /// So many times in a hundred a time, else none.
    pub(crate) fn maybe_ms(&mut self, times: u64, low: u64, high: u64) -> Option<Duration> {
        self.percent(times).then(|| self.ms(low, high))
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or(0)]
    }
}
