//! The last lines that a worker wrote: kept past its death, because they are what says why it died.

use std::collections::VecDeque;

/// Lines kept.
const LINES_MAX: usize = 20;
/// Bytes of all kept lines together.
const SIZE_MAX: usize = 4096;

/// The end of one stream of a worker's output, bounded in lines and in bytes.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    size: usize,
}

impl Tail {
    /// Adds a line without its end, cleaned of control characters. Blank lines say nothing and are
    /// not kept.
    pub fn push(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let line = &line[..line.floor_char_boundary(SIZE_MAX)];
        self.size += line.len();
        self.lines.push_back(line.to_owned());
        while self.lines.len() > LINES_MAX || self.size > SIZE_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.size -= oldest.len();
        }
    }

    /// Oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// What a worker said last: on standard error, where reasons stand, else on standard output. A
/// busy access log on the one does not push the reasons on the other out.
pub fn last_words(error: &Tail, output: &Tail) -> Vec<String> {
    if error.is_empty() { output.lines() } else { error.lines() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_stay_within_both_limits() {
        let mut tail = Tail::default();
        for number in 0..50 {
            tail.push(&format!("line {number}"));
            tail.push(" \t");
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!((lines[0].as_str(), lines[19].as_str()), ("line 30", "line 49"));
        // Cut between letters, and the older lines make room.
        tail.push(&"é".repeat(SIZE_MAX));
        assert_eq!(tail.lines(), ["é".repeat(SIZE_MAX / 2)]);
        tail.push(&"x".repeat(SIZE_MAX - 2));
        tail.push("yz");
        assert_eq!(tail.lines().iter().map(String::len).collect::<Vec<_>>(), [SIZE_MAX - 2, 2]);
    }

    #[test]
    fn standard_error_has_the_last_word() {
        let (mut error, mut output) = (Tail::default(), Tail::default());
        assert!(last_words(&error, &output).is_empty());
        output.push("GET / 200");
        assert_eq!(last_words(&error, &output), ["GET / 200"]);
        error.push("Traceback");
        assert_eq!(last_words(&error, &output), ["Traceback"]);
    }
}
