//! Just enough of HTTP/1.1 to know where an answer ends: a status line, Content-Length, a body.
//!
//! The application of a run frames every answer by length, so an answer framed otherwise is an
//! error of the front and told as such.

/// More than any front of a run adds.
const HEAD_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Answer {
    head: Vec<u8>,
    body: Option<Body>,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    status: u16,
    left: u64,
}

impl Answer {
    /// Takes what was received. `Some(status)` = the answer is complete, and this is ready for the
    /// next one; bytes beyond the end are an error, since nobody asked for them.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<u16>, &'static str> {
        if self.body.is_none() {
            let Some(rest) = self.feed_head(bytes)? else { return Ok(None) };
            bytes = rest;
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        let count = bytes.len() as u64;
        if count > body.left {
            return Err("bytes beyond the end of the answer");
        }
        body.left -= count;
        if body.left > 0 {
            return Ok(None);
        }
        let status = body.status;
        self.head.clear();
        self.body = None;
        Ok(Some(status))
    }

    /// What of `bytes` is behind the head, once the head is whole.
    fn feed_head<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
            let fits = self.head.len() <= HEAD_MAX;
            return if fits { Ok(None) } else { Err("an endless head") };
        };
        let head = std::str::from_utf8(&self.head[..end]).map_err(|_| "a head that is no text")?;
        let status = status(head).ok_or("no status line")?;
        let left = length(head).ok_or("no Content-Length")?;
        self.body = Some(Body { status, left });
        Ok(Some(&bytes[end + 4 - before..]))
    }
}

/// Of a status line at the start of `head`.
pub(crate) fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

/// The first Content-Length of a head.
pub(crate) fn length(head: &str) -> Option<u64> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::Answer;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-LENGTH: 5\r\n\r\nhello";

    #[test]
    fn every_split_ends_at_the_same_byte() {
        for at in 1..WHOLE.len() {
            let mut answer = Answer::default();
            assert_eq!(answer.feed(&WHOLE[..at]), Ok(None), "split at {at}");
            assert_eq!(answer.feed(&WHOLE[at..]), Ok(Some(200)), "split at {at}");
            assert_eq!(answer.feed(WHOLE), Ok(Some(200)), "again after {at}");
        }
    }

    #[test]
    fn what_is_no_framed_answer_is_refused() {
        assert!(Answer::default().feed(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Answer::default().feed(b"hello\r\n\r\n").is_err());
        assert!(Answer::default().feed(&[WHOLE, b"!"].concat()).is_err());
        assert!(Answer::default().feed(&vec![b'a'; 20_000]).is_err());
        let empty = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(Answer::default().feed(empty), Ok(Some(304)));
    }
}
