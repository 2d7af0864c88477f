//! What somebody reads who started lychgate for the first time.

use std::io::{Write, stdout};

/// Says what was done and what to try, on standard output.
pub(super) fn greet(addresses: &[String]) {
    let address = addresses.first().map_or("127.0.0.1:8080", String::as_str);
    // Nobody may be reading.
    let _ = writeln!(
        stdout().lock(),
        "
lychgate serves http://{address}/

It started three processes: a supervisor, which keeps the others alive; a listener, which took
http://{address}/ over from it without its privileges; and a demonstration application,
to which the listener relays over a UNIX socket. Try:

  curl http://{address}/
  curl -i -d 'hello' http://{address}/echo
  wrk -t1 -c64 -d10s http://{address}/

Your own application: write a file like config/quickstart.toml, then `lychgate run FILE`.
Control-C ends it.
"
    );
}
