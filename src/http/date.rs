//! Dates as HTTP and its logs write them, from Unix time, in UTC.

use alloc::vec::Vec;

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
/// 9999-12-31T23:59:59Z: the last moment with a year of four digits; later ones read as this.
const UNIX_MAX: u64 = 253_402_300_799;

/// A moment of the proleptic Gregorian calendar, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    year: u64,
    /// 1 to 12.
    month: u64,
    day: u64,
    /// 0 = Thursday, the day of Unix time 0.
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub const fn from_unix(seconds: u64) -> Self {
        let seconds = if seconds > UNIX_MAX { UNIX_MAX } else { seconds };
        let days = seconds / 86_400;
        // Years that begin in March put the leap day last, so that the months have a formula.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
        Self {
            year,
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            weekday: (days % 7) as usize,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
    pub fn imf_fixdate(&self) -> [u8; 29] {
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        text[..3].copy_from_slice(DAYS[self.weekday]);
        text[5..7].copy_from_slice(&two(self.day));
        text[8..11].copy_from_slice(MONTHS[self.month_index()]);
        text[12..14].copy_from_slice(&two(self.year / 100));
        text[14..16].copy_from_slice(&two(self.year % 100));
        text[17..19].copy_from_slice(&two(self.hour));
        text[20..22].copy_from_slice(&two(self.minute));
        text[23..25].copy_from_slice(&two(self.second));
        text
    }

    /// `2026-11-21T08:28:33.123Z` (RFC 3339).
    pub fn push_iso(&self, out: &mut Vec<u8>, millis: u64) {
        out.extend_from_slice(&two(self.year / 100));
        out.extend_from_slice(&two(self.year % 100));
        for (before, number) in [
            (b'-', self.month),
            (b'-', self.day),
            (b'T', self.hour),
            (b':', self.minute),
            (b':', self.second),
        ] {
            out.push(before);
            out.extend_from_slice(&two(number));
        }
        out.push(b'.');
        out.push(digit(millis / 100));
        out.extend_from_slice(&two(millis % 100));
        out.push(b'Z');
    }

    /// `21/Nov/2026:08:28:33 +0000`, as the combined log format has it.
    pub fn push_combined(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&two(self.day));
        out.push(b'/');
        out.extend_from_slice(MONTHS[self.month_index()]);
        out.push(b'/');
        out.extend_from_slice(&two(self.year / 100));
        out.extend_from_slice(&two(self.year % 100));
        for number in [self.hour, self.minute, self.second] {
            out.push(b':');
            out.extend_from_slice(&two(number));
        }
        out.extend_from_slice(b" +0000");
    }

    #[expect(clippy::cast_possible_truncation, reason = "1 to 12")]
    const fn month_index(&self) -> usize {
        (self.month - 1) as usize
    }
}

const fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

const fn two(number: u64) -> [u8; 2] {
    [digit(number / 10), digit(number)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixdate(seconds: u64) -> [u8; 29] {
        Civil::from_unix(seconds).imf_fixdate()
    }

    #[test]
    fn known_moments() {
        assert_eq!(&fixdate(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&fixdate(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&fixdate(951_782_400), b"Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(&fixdate(4_107_542_399), b"Sun, 28 Feb 2100 23:59:59 GMT");
        assert_eq!(&fixdate(4_107_542_400), b"Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(&fixdate(u64::MAX), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut before = Civil::from_unix(0);
        for day in 1..60_000 {
            let civil = Civil::from_unix(day * 86_400);
            assert_eq!(civil.weekday, (before.weekday + 1) % 7);
            let is_next = (civil.day == before.day + 1 && civil.month == before.month)
                || (civil.day == 1 && civil.month == before.month % 12 + 1 && before.day >= 28);
            assert!(is_next, "{before:?} then {civil:?}");
            assert_eq!(civil.year, before.year + u64::from(civil.month < before.month));
            before = civil;
        }
    }
}
