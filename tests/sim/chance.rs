//! Draws that scripts are made of.

use lychgate::base::prng::Prng;

/// A number of `low..=high`.
pub(crate) fn range(prng: &mut Prng, low: u64, high: u64) -> u64 {
    low + prng.below(high - low + 1)
}

pub(crate) fn one_of<T: Copy>(prng: &mut Prng, choices: &[T]) -> T {
    choices[size(prng, choices.len() - 1)]
}

/// A number of `0..=high`.
pub(crate) fn size(prng: &mut Prng, high: usize) -> usize {
    usize::try_from(prng.below(high as u64 + 1)).unwrap_or(0)
}

/// True so many times in a hundred.
pub(crate) fn percent(prng: &mut Prng, times: u64) -> bool {
    prng.below(100) < times
}

/// A size as bodies have it: mostly small, now and then beyond every buffer.
pub(crate) fn body_size(prng: &mut Prng) -> usize {
    match prng.below(200) {
        0 => size(prng, 300_000),
        1..=15 => size(prng, 40_000),
        16..=60 => size(prng, 6_000),
        61..=80 => 0,
        _ => size(prng, 400),
    }
}

/// How far something is away, in nanoseconds: mostly near, sometimes noticeably far.
pub(crate) fn hop(prng: &mut Prng) -> u64 {
    let micros = match prng.below(12) {
        0..=5 => range(prng, 1, 60),
        6..=9 => range(prng, 50, 900),
        10 => range(prng, 1_000, 5_000),
        _ => range(prng, 5_000, 40_000),
    };
    micros * 1_000
}

/// How much of `len` bytes comes at once: all, a byte, or anything between.
pub(crate) fn piece(prng: &mut Prng, len: usize) -> usize {
    match prng.below(10) {
        0..=5 => len,
        6 => 1.min(len),
        _ => 1 + size(prng, len.saturating_sub(1)),
    }
}

/// The byte of a body at a place: a body that was cut, shifted or mixed with another shows.
pub(crate) fn pattern(salt: u32, at: u64) -> u8 {
    let letter = (u64::from(salt) * 31 + at * 7 + at / 251 * 13) % 26;
    b'a' + u8::try_from(letter).unwrap_or(0)
}

pub(crate) fn body(salt: u32, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| pattern(salt, at)).collect()
}

/// Whether these bytes are those of the body from a place on.
pub(crate) fn is_body(salt: u32, from: u64, bytes: &[u8]) -> bool {
    bytes.iter().zip(from..).all(|(byte, at)| *byte == pattern(salt, at))
}
