//! What somebody reads who started lychgate for the first time.

use std::io::{Write, stdout};

/// Says what was done and what to try, on standard output.
pub(super) fn greet(addresses: &[String]) {
    let address = addresses.first().map_or("127.0.0.1:8080", String::as_str);
    let program = std::env::args().next().unwrap_or_else(|| "lychgate".to_owned());
    // Nobody may be reading.
    let _ = writeln!(
        stdout().lock(),
        "
lychgate serves http://{address}/

It started two processes: a supervisor, which keeps the others alive, and a listener, which
took http://{address}/ over from it without its privileges. A third, a demonstration
application, starts when the first request comes; the listener relays to it over a UNIX socket. Try:

  curl http://{address}/
  curl -i -d 'hello' http://{address}/echo
  wrk -t1 -c64 -d10s http://{address}/

and in another terminal, to see what it does and to replace the application under load:

  {program} status
  {program} workers
  {program} recycle demo

Your own application: write a file like config/quickstart.toml, then `{program} run FILE`.
Control-C ends it.
"
    );
}
