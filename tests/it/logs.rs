//! The access log says what happened, from the gate's own facts, whatever else goes wrong.

use crate::harness::clock::{wait_for, wait_until};
use crate::harness::engine::each;
use crate::harness::origin::Origin;
use crate::harness::recipe::Recipe;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const JSON: &str = "access = \"{dir}/access.json\"\nformat = \"json\"";

#[test]
fn a_json_line_tells_who_asked_for_what_and_how_it_went() {
    each(|engine| {
        let origin =
            Origin::start(|peer| while peer.request().is_some() && peer.answer("hello") {});
        let gate = Recipe::relaying(engine, &[&origin]).log(JSON).start();
        let mut client = gate.client();
        client.send(
            "POST /a?b HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: te\"st\r\nReferer: /from\r\n\
             Content-Length: 3\r\n\r\nabc",
        );
        assert_eq!(client.answer().text(), "hello");
        let line = &gate.wait_access(1)[0];
        for (key, value) in [
            ("client", "127.0.0.1"),
            ("host", "shop.example"),
            ("method", "POST"),
            ("target", "/a?b"),
            ("pool", "app"),
            ("server", origin.address.as_str()),
            ("agent", "te\"st"),
            ("referer", "/from"),
        ] {
            assert_eq!(line[key], value, "{key} in {line}");
        }
        assert_eq!((&line["status"], &line["bytes_in"]), (&200.into(), &3.into()), "{line}");
        assert!(line["bytes_out"].as_u64().unwrap() > 5, "{line}");
        let (whole, upstream) = (&line["duration_us"], &line["upstream_us"]);
        assert!(whole.as_u64().unwrap() >= upstream.as_u64().unwrap(), "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(line.get("reason").is_none(), "{line}");
    });
}

#[test]
fn refusals_are_logged_with_their_reason() {
    each(|engine| {
        let gate = Recipe::new(engine)
            .log(JSON)
            .site("/shop", "shop")
            .servers("shop", &["127.0.0.1:9"], "")
            .start();
        for (request, status, reason) in [
            ("GET /shop HTTP/1.1\r\nHost: a\r\n\r\n", 502, "upstream-connect"),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404, "no-route"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400, "bad-request"),
        ] {
            let mut client = gate.client();
            client.send(request);
            assert_eq!(client.answer().status(), status);
            let line = wait_for(reason, || {
                gate.wait_access(0).into_iter().find(|line| line["reason"] == reason)
            });
            assert_eq!(line["status"], status, "{line}");
            assert_eq!(line["client"], "127.0.0.1", "{line}");
        }
    });
}

#[test]
fn a_client_that_left_is_logged_as_gone() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).log(JSON).start();
        let mut client = gate.client();
        client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_until("the origin has the request", || origin.seen().len() == 1);
        client.reset();
        let line = &gate.wait_access(1)[0];
        assert_eq!((&line["target"], &line["reason"]), (&"/left".into(), &"client-gone".into()));
        assert_eq!(line["status"], 499);
    });
}

#[test]
fn the_combined_format_is_what_log_readers_expect() {
    each(|engine| {
        let origin = Origin::saying("hello");
        let log = "access = \"{dir}/access.log\"\nformat = \"combined\"";
        let gate = Recipe::relaying(engine, &[&origin]).log(log).start();
        let mut client = gate.client();
        client.send("GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: curl/8\r\n\r\n");
        client.answer();
        let line = wait_for("a line", || {
            let text = fs::read_to_string(gate.path("access.log")).unwrap_or_default();
            text.ends_with('\n').then_some(text)
        });
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert!(line.contains(" +0000] \"GET /a HTTP/1.1\" 200 "), "{line}");
        assert!(line.ends_with(" \"-\" \"curl/8\"\n"), "{line}");
    });
}

#[test]
fn the_log_may_go_to_standard_output() {
    each(|engine| {
        let origin = Origin::saying("hello");
        let gate = Recipe::relaying(engine, &[&origin]).log("access = \"stdout\"").start();
        gate.get("/to-stdout");
        wait_until("the line on stdout", || {
            gate.output_text().contains("\"target\":\"/to-stdout\"")
        });
    });
}

#[test]
fn sigusr1_opens_the_file_anew_and_no_line_is_lost() {
    each(|engine| {
        let origin = Origin::saying("hello");
        let gate = Recipe::relaying(engine, &[&origin]).log(JSON).start();
        let mut client = gate.client();
        client.get("/before");
        gate.wait_access(1);
        fs::rename(gate.path("access.json"), gate.path("rotated.json")).unwrap();
        gate.signal(Signal::SIGUSR1);
        wait_until("a new file", || gate.path("access.json").exists());
        client.get("/after");
        let count = |name: &str| {
            let text = fs::read_to_string(gate.path(name)).unwrap_or_default();
            text.lines().count()
        };
        // What was on its way when the file changed may still end in the old one.
        wait_until("both lines", || count("access.json") + count("rotated.json") == 2);
        wait_until("lines go to the new file", || {
            client.get("/more");
            count("access.json") > 0
        });
        let mode = fs::metadata(gate.path("access.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "the log is not for everybody: {mode:o}");
    });
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    each(|engine| {
        let origin = Origin::saying("hello");
        let gate = Recipe::relaying(engine, &[&origin]).log("access = \"/dev/full\"").start();
        let mut client = gate.client();
        for _ in 0..200 {
            assert_eq!(client.get("/").text(), "hello");
        }
        gate.wait_log(&["access log"]);
        assert_eq!(client.get("/").text(), "hello");
    });
}

#[test]
fn every_request_of_a_busy_time_has_its_line() {
    each(|engine| {
        let origin = Origin::saying("hello");
        let gate = Recipe::relaying(engine, &[&origin]).threads(2).log(JSON).start();
        std::thread::scope(|scope| {
            for client in 0..8 {
                let gate = &gate;
                scope.spawn(move || {
                    let mut connection = gate.client();
                    for number in 0..250 {
                        connection.get(&format!("/{client}/{number}"));
                    }
                });
            }
        });
        let mut targets: Vec<String> = gate
            .wait_access(2000)
            .iter()
            .map(|line| line["target"].as_str().unwrap().to_owned())
            .collect();
        targets.sort();
        targets.dedup();
        assert_eq!(targets.len(), 2000);
    });
}

#[test]
fn sigusr2_shows_the_counters() {
    each(|engine| {
        let origin = Origin::saying("hello");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        for _ in 0..7 {
            gate.get("/");
        }
        gate.signal(Signal::SIGUSR2);
        let line = gate.wait_log(&["\"enters\"", "\"requests\""]);
        let json = &line[line.find('{').unwrap()..=line.rfind('}').unwrap()];
        let counters: serde_json::Value = serde_json::from_str(json).unwrap();
        assert!(contains(&counters, "requests", 7), "{line}");
    });
}

/// Whether this number stands under this key, at whatever depth.
fn contains(value: &serde_json::Value, key: &str, number: u64) -> bool {
    match value {
        serde_json::Value::Object(fields) => fields.iter().any(|(name, value)| {
            (name == key && value.as_u64() == Some(number)) || contains(value, key, number)
        }),
        serde_json::Value::Array(values) => values.iter().any(|value| contains(value, key, number)),
        _ => false,
    }
}
