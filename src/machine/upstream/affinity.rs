//! Which slot of a garden a client belongs to: by a cookie that we signed, or by a value of its own.

use crate::base::ascii::push_decimal;
use alloc::vec::Vec;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of the signature that the cookie carries: 128 bits, in hexadecimal.
const TAG_SIZE: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";

fn mac(key: &[u8; 32], pool: &str, slot: u16) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any size");
    mac.update(&slot.to_be_bytes());
    mac.update(pool.as_bytes());
    mac
}

/// Appends the value of the cookie that pins to a slot: `SLOT-SIGNATURE`.
pub fn push_value(out: &mut Vec<u8>, key: &[u8; 32], pool: &str, slot: u16) {
    push_decimal(out, u64::from(slot));
    out.push(b'-');
    for byte in &mac(key, pool, slot).finalize().into_bytes()[..TAG_SIZE] {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// The slot that a cookie's value pins to, if we signed it for this pool.
pub fn slot_of(value: &[u8], key: &[u8; 32], pool: &str) -> Option<u16> {
    let dash = value.iter().position(|byte| *byte == b'-').filter(|size| *size <= 3)?;
    let (digits, hex) = (&value[..dash], &value[dash + 1..]);
    // As we write it and in no other way: one slot has one value.
    let is_number = digits.iter().all(u8::is_ascii_digit)
        && (digits == b"0" || digits.first().is_some_and(|digit| *digit != b'0'));
    if !is_number || hex.len() != 2 * TAG_SIZE {
        return None;
    }
    let slot = digits.iter().fold(0, |slot, digit| slot * 10 + u16::from(digit - b'0'));
    let mut tag = [0; TAG_SIZE];
    for (byte, pair) in tag.iter_mut().zip(hex.chunks(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    // In constant time.
    mac(key, pool, slot).verify_truncated_left(&tag).ok().map(|()| slot)
}

fn nibble(digit: u8) -> Option<u8> {
    HEX.iter().position(|known| *known == digit).and_then(|place| u8::try_from(place).ok())
}

/// The values of a cookie in one `Cookie` field (RFC 6265 section 4.2.1).
pub fn cookies<'a>(field: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    field.split(|byte| *byte == b';').filter_map(move |pair| {
        let pair = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(pair.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(pair))
    })
}

/// The one of the slots that a value belongs to: when slots come or go, only the values of those
/// move (rendezvous hashing). `None` = there is no slot.
pub fn rendezvous(value: &[u8], slots: impl Iterator<Item = u16>) -> Option<u16> {
    let hash = value.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    slots.max_by_key(|slot| {
        let seed = hash ^ u64::from(*slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (crate::base::prng::Prng::new(seed).draw(), *slot)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(key: &[u8; 32], pool: &str, slot: u16) -> Vec<u8> {
        let mut value = Vec::new();
        push_value(&mut value, key, pool, slot);
        value
    }

    #[test]
    fn only_what_was_signed_for_this_pool_counts() {
        let key = [7; 32];
        for slot in [0, 1, 9, 10, 127] {
            let cookie = value(&key, "shop", slot);
            assert_eq!(slot_of(&cookie, &key, "shop"), Some(slot));
            assert_eq!(slot_of(&cookie, &key, "sho"), None);
            assert_eq!(slot_of(&cookie, &[8; 32], "shop"), None);
            for place in 0..cookie.len() {
                let mut forged = cookie.clone();
                forged[place] ^= 1;
                assert_eq!(slot_of(&forged, &key, "shop"), None, "byte {place}");
            }
            assert_eq!(slot_of(&cookie[..cookie.len() - 2], &key, "shop"), None);
            assert_eq!(slot_of(&[b"0", &cookie[..]].concat(), &key, "shop"), None);
        }
        for nonsense in [&b""[..], b"-", b"1", b"1-", b"99999-00", b"+1-00000000000000000000"] {
            assert_eq!(slot_of(nonsense, &key, "shop"), None);
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let found = |field: &'static [u8]| cookies(field, "lych").collect::<Vec<_>>();
        assert_eq!(found(b"a=b; lych=1; lychee=2; xlych=3; lych=\"4\""), [b"1", b"4"]);
        assert_eq!(found(b"lych; =lych; ;lych ="), [b""; 0]);
    }

    #[test]
    fn only_the_clients_of_a_slot_that_goes_move() {
        let of = |value: u32, slots: &[u16]| {
            rendezvous(&value.to_be_bytes(), slots.iter().copied()).unwrap()
        };
        let mut counts = [0; 4];
        for value in 0..4_000 {
            let before = of(value, &[0, 1, 2, 3]);
            counts[usize::from(before)] += 1;
            let after = of(value, &[3, 0, 1]);
            assert!(before == 2 || before == after, "{value} moved from {before} to {after}");
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert_eq!(rendezvous(b"x", core::iter::empty()), None);
    }
}
