//! Text of others, shown to people: what would move a terminal's cursor, colour it or reorder a
//! line is written out instead.

use crate::http::date::Civil;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal would obey this character instead of showing it: controls, invisible
/// characters, and those that change the direction of a line.
pub fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// `text` with every hidden character as `\u{…}`, and backslashes doubled only where that could
/// be confused with one.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            letter if is_hidden(letter) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// Unix time in milliseconds as RFC 3339 in UTC, such as `2026-11-21T13:15:14.123Z`.
pub fn iso(time_ms: u64) -> String {
    const YEAR_9999_END: u64 = 253_402_300_799_999;
    let time_ms = time_ms.min(YEAR_9999_END);
    let mut out = Vec::with_capacity(24);
    Civil::from_unix(time_ms / 1000).push_iso(&mut out, time_ms % 1000);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_by_people_and_programs() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(1_795_266_914_123), "2026-11-21T13:15:14.123Z");
        assert_eq!(iso(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(shown("GET /ä?b=\\c"), "GET /ä?b=\\c");
        assert_eq!(shown("\u{1b}[2J\\\u{9b}1m"), "\\u{1b}[2J\\\\\\u{9b}1m");
        assert_eq!(shown("a\nb\tc\u{7f}"), "a\\u{a}b\\u{9}c\\u{7f}");
        assert_eq!(shown("\u{202e}gpj"), "\\u{202e}gpj");
        for letter in (0..=0x10_ffff).filter_map(char::from_u32) {
            let text = String::from(letter);
            let was_changed = shown(&text) != text;
            assert_eq!(was_changed, is_hidden(letter));
            assert!(!shown(&text).chars().any(is_hidden));
        }
    }
}
