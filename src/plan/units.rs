//! Times and sizes as people write them: `"250ms"`, `"30s"`, `"20m"`, `"29h"`; `"64KiB"`,
//! `"512MiB"`. A bare number is refused, because half of its readers would guess another unit.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// Largest first, in milliseconds.
const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// Largest first, in bytes.
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `None` when `text` is not of the form digits, unit; saturates.
pub fn duration(text: &str) -> Option<Duration> {
    measure(text, &TIMES).map(Duration::from_millis)
}

/// Bytes. `None` when `text` is neither `0` nor of the form digits, unit; saturates.
pub fn size(text: &str) -> Option<u64> {
    if text == "0" { Some(0) } else { measure(text, &SIZES) }
}

/// Whole percents. `None` when `text` is not of the form digits, `%`; saturates.
pub fn percent(text: &str) -> Option<u64> {
    measure(text, &[("%", 1)])
}

/// Minutes since midnight, of a time of the day: `"03:00"`, with two digits each.
pub fn time_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let read = |digits: &str, end: u16| {
        let is_whole = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|number: &u16| is_whole && *number < end)
    };
    Some(read(hours, 24)? * 60 + read(minutes, 60)?)
}

/// In the largest unit that leaves a whole number; [`duration`] reads it back.
pub fn show_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(milliseconds, &TIMES)
}

/// In the largest unit that leaves a whole number; [`size`] reads it back.
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES)
}

/// What to write instead of something that [`duration`] refuses.
pub fn duration_hint(text: &str) -> String {
    const WORDS: [(&str, u64, &str); 9] = [
        ("", 1, "s"),
        ("msec", 1, "ms"),
        ("sec", 1, "s"),
        ("second", 1, "s"),
        ("min", 1, "m"),
        ("minute", 1, "m"),
        ("hour", 1, "h"),
        ("d", 24, "h"),
        ("day", 24, "h"),
    ];
    repair(text, &WORDS).filter(|repaired| duration(repaired).is_some()).map_or_else(
        || "write a whole number and a unit (ms, s, m, h), such as \"30s\"".into(),
        |repaired| format!("write \"{repaired}\""),
    )
}

/// What to write instead of something that is neither a duration nor "off".
pub fn optional_hint(text: &str) -> String {
    if ["none", "never", "no", "false", "infinite", "0"].contains(&text.trim()) {
        return "write \"off\"".into();
    }
    duration_hint(text) + ", or \"off\""
}

/// What to write instead of something that [`percent`] refuses.
pub fn percent_hint(text: &str) -> String {
    let digits = text.trim().trim_end_matches('%').trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return "write a whole number and a percent sign, such as \"10%\"".into();
    }
    format!("write \"{digits}%\"")
}

/// What to write instead of something that [`size`] refuses.
pub fn size_hint(text: &str) -> String {
    const WORDS: [(&str, u64, &str); 10] = [
        ("", 1, "B"),
        ("byte", 1, "B"),
        ("k", 1, "KiB"),
        ("kb", 1, "KiB"),
        ("m", 1, "MiB"),
        ("mb", 1, "MiB"),
        ("g", 1, "GiB"),
        ("gb", 1, "GiB"),
        ("t", 1, "TiB"),
        ("tb", 1, "TiB"),
    ];
    repair(text, &WORDS).and_then(|repaired| size(&repaired)).map_or_else(
        || "write a whole number and a unit (B, KiB, MiB, GiB, TiB), such as \"64KiB\"".into(),
        |bytes| format!("write \"{}\"", show_size(bytes)),
    )
}

fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, unit) = split(text);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    if digits.is_empty() {
        return None;
    }
    Some(saturating_decimal(digits).saturating_mul(*factor))
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let (unit, factor) = units
        .iter()
        .find(|(_, factor)| amount > 0 && amount.is_multiple_of(*factor))
        .unwrap_or(&units[units.len() - 1]);
    format!("{}{unit}", amount / factor)
}

/// Digits and a unit, from digits and something that means one in other programs.
fn repair(text: &str, words: &[(&str, u64, &str)]) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let (digits, rest) = split(&lower);
    let word = rest.trim();
    let singular = word.strip_suffix('s').filter(|singular| !singular.is_empty());
    let exact = |wanted: &str| words.iter().find(|(name, ..)| *name == wanted);
    let own = words.iter().find(|(_, _, unit)| unit.eq_ignore_ascii_case(word));
    let (factor, unit) = match (own, exact(word), singular.and_then(exact)) {
        (Some((_, _, unit)), _, _) => (1, unit),
        (None, Some((_, factor, unit)), _) | (None, None, Some((_, factor, unit))) => {
            (*factor, unit)
        }
        (None, None, None) => return None,
    };
    if digits.is_empty() {
        return None;
    }
    let amount = saturating_decimal(digits).saturating_mul(factor);
    Some(format!("{amount}{unit}"))
}

fn split(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn saturating_decimal(digits: &str) -> u64 {
    crate::base::ascii::decimal(digits.as_bytes()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        for (text, milliseconds) in
            [("0s", 0), ("250ms", 250), ("30s", 30_000), ("20m", 1_200_000), ("29h", 104_400_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "s", "30", "1.5s", "-1s", "+1s", " 1s", "1 s", "1S", "1h30m", "1d", "٣s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for text in ["1ms", "1500ms", "90s", "2m", "720h", "0ms"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(duration("99999999999999999999h"), Some(Duration::from_millis(u64::MAX)));
    }

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes) in [("0", 0), ("1B", 1), ("64KiB", 65_536), ("2TiB", 2 << 40)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "1", "00", "64KB", "64K", "64kib", "-1B", "KiB", "1.5MiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        for text in ["1B", "1000B", "64KiB", "1025KiB", "3GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }

    #[test]
    fn percentages_and_times_of_the_day_are_read() {
        for (text, whole) in [("0%", Some(0)), ("10%", Some(10)), ("10", None), ("%", None)] {
            assert_eq!(percent(text), whole, "{text}");
        }
        for (text, minutes) in [("00:00", 0), ("03:05", 185), ("23:59", 1439)] {
            assert_eq!(time_of_day(text), Some(minutes), "{text}");
        }
        for bad in ["", ":", "3:00", "24:00", "12:60", "12:5", "+1:00", "12:00:00", "noon"] {
            assert_eq!(time_of_day(bad), None, "{bad}");
        }
        assert_eq!(percent_hint("10 %"), "write \"10%\"");
        assert!(percent_hint("half").contains("such as"));
        assert_eq!(optional_hint("never"), "write \"off\"");
        assert_eq!(optional_hint("2d"), "write \"48h\", or \"off\"");
    }

    #[test]
    fn hints_are_what_was_meant() {
        for (text, hint) in [
            ("30", "write \"30s\""),
            ("30 sec", "write \"30s\""),
            ("5 Minutes", "write \"5m\""),
            ("2d", "write \"48h\""),
            ("10MS", "write \"10ms\""),
        ] {
            assert_eq!(duration_hint(text), hint, "{text}");
        }
        for (text, hint) in [
            ("65536", "write \"64KiB\""),
            ("64k", "write \"64KiB\""),
            ("1 MB", "write \"1MiB\""),
            ("512mib", "write \"512MiB\""),
            ("10 bytes", "write \"10B\""),
        ] {
            assert_eq!(size_hint(text), hint, "{text}");
        }
        for nonsense in ["", "soon", "1.5s", "-3s", "1h30m"] {
            assert!(duration_hint(nonsense).contains("such as"), "{nonsense}");
            assert!(size_hint(nonsense).contains("such as"), "{nonsense}");
        }
    }
}
