//! The demonstration application, spoken to over a socket pair.

use super::*;

fn ask(request: &str) -> String {
    let (theirs, mut ours) = UnixStream::pair().unwrap();
    let server = std::thread::spawn(move || {
        let _ = converse(Stream::Unix(theirs));
    });
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    ours.write_all(request.as_bytes()).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    server.join().unwrap();
    answer
}

#[test]
fn requests_in_a_row_are_answered_in_a_row() {
    let answer = ask("GET /headers HTTP/1.1\r\nHost: a\r\nX-B: <c>\r\n\r\n\
         POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
         HEAD / HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
         GET / HTTP/1.1\r\nHost: a\r\nX-B: <c>\r\nConnection: close\r\n\r\n\
         GET /headers HTTP/1.1\r\nHost: never\r\n\r\n");
    let heads: Vec<&str> = answer.matches("HTTP/1.1 200 OK").collect();
    assert_eq!(heads.len(), 4, "{answer}");
    assert!(answer.contains("Host: a\nX-B: <c>\n") && answer.contains("\r\n\r\nhello"));
    assert!(answer.contains("HTTP/1.1 404 Not Found") && !answer.contains("never"));
    assert!(answer.contains("<td>&lt;c&gt;") && answer.contains("Connection: close"));
}

#[test]
fn a_chunked_body_comes_back_chunked() {
    let answer = ask(
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\
         \r\n4;x=y\r\nwiki\r\n5\r\npedia\r\n0\r\nT: v\r\n\r\n\
         GET /nowhere HTTP/1.0\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("4\r\nwiki\r\n5\r\npedia\r\n0\r\n\r\n"), "{answer}");
    assert!(answer.contains("404") && answer.ends_with("not found\n"));
}

#[test]
fn nonsense_ends_the_connection() {
    for bad in ["GET\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "GET / HT"] {
        assert_eq!(ask(bad), "");
    }
    let short = ask("POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort");
    assert!(short.ends_with("\r\n\r\nshort"), "{short}");
}
