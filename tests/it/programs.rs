//! Before and behind the gate: programs that people use. nginx, Python's http.server, gunicorn and
//! a WebSocket library as applications; curl and that library as clients.

use crate::harness::clock::wait_for;
use crate::harness::engine::{Engine, each};
use crate::harness::gate::Gate;
use crate::harness::origin::Origin;
use crate::harness::port::Port;
use crate::harness::recipe::Recipe;
use crate::harness::spawn::{self, Ring};
use crate::harness::{client, program};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A program that serves until dropped.
struct Server {
    child: Child,
    directory: TempDir,
}

impl Server {
    fn start(mut command: Command, directory: TempDir) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        spawn::prepare(&mut command, Ring::Allowed);
        Self { child: command.spawn().unwrap(), directory }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn wait_listening(address: &str) {
    wait_for(&format!("{address} listens"), || client::connect(address).ok());
}

/// nginx, in one process, on a port and on a UNIX socket, with a file of 8 MiB at `/big`.
fn nginx(test: &str) -> Option<(Server, Port)> {
    let program = program::find("nginx", test)?;
    let (directory, port) = (place(), Port::claim());
    let at = directory.path().display().to_string();
    fs::write(directory.path().join("big"), big()).unwrap();
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let text = format!(
        "daemon off; master_process off; {user} pid {at}/pid; error_log {at}/error.log;
         events {{ worker_connections 512; }}
         http {{ access_log off; client_max_body_size 0; keepalive_timeout 60s;
           client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;
           uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;
           server {{ listen {}; listen unix:{at}/nginx.sock; root {at};
             location = /hello {{ return 200 \"hello $http_x_forwarded_for\"; }}
             location = /gone {{ return 204; }}
             location = /moved {{ return 302 /hello; }}
             location = /put {{ proxy_pass http://unix:{at}/nginx.sock:/size; }}
             location = /size {{ return 200 \"$http_content_length\"; }} }} }}",
        port.address()
    );
    fs::write(directory.path().join("nginx.conf"), text).unwrap();
    let mut command = Command::new(program);
    command.arg("-p").arg(directory.path()).arg("-c").arg(directory.path().join("nginx.conf"));
    let server = Server::start(command, directory);
    wait_listening(&port.address());
    let socket = server.directory.path().join("nginx.sock");
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    Some((server, port))
}

/// Not compressible to a period: each line has its number.
fn big() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 << 20);
    for number in 0_u64.. {
        if bytes.len() >= 8 << 20 {
            break;
        }
        writeln!(bytes, "line {number}").unwrap();
    }
    bytes
}

/// Both ways to the same nginx.
fn before_nginx(engine: Engine, test: &str) -> Option<[(Gate, Server); 2]> {
    let mut gates = Vec::new();
    for is_unix in [false, true] {
        let (server, port) = nginx(test)?;
        let socket = format!("unix:{}/nginx.sock", server.directory.path().display());
        let address = if is_unix { socket } else { port.address() };
        let gate = Recipe::new(engine).site("/", "app").servers("app", &[&address], "").start();
        gates.push((gate, server));
    }
    gates.try_into().ok()
}

fn curl(program: &Path, args: &[&str]) -> Output {
    let output = Command::new(program)
        .args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn nginx_as_application_answers_through_tcp_and_unix() {
    const TEST: &str = "nginx_as_application_answers_through_tcp_and_unix";
    each(|engine| {
        for (gate, _server) in before_nginx(engine, TEST).into_iter().flatten() {
            let mut client = gate.client();
            assert_eq!(client.get("/hello").text(), "hello 127.0.0.1");
            assert_eq!(client.get("/gone").status(), 204);
            assert_eq!(
                client.get("/moved").field("location").unwrap().rsplit('/').next(),
                Some("hello")
            );
            assert_eq!(client.get("/nothing").status(), 404);
            assert!(client.get("/big").body == big());
            client.send("GET /big HTTP/1.1\r\nHost: a\r\nRange: bytes=1000000-1000009\r\n\r\n");
            let part = client.answer();
            assert_eq!(part.status(), 206);
            assert_eq!(part.body, &big()[1_000_000..1_000_010]);
            assert_eq!(client.post("/put", &vec![b'x'; 100_000]).text(), "100000");
            assert_eq!(client.get("/hello").text(), "hello 127.0.0.1");
        }
    });
}

#[test]
fn curl_finds_nothing_odd_before_nginx() {
    const TEST: &str = "curl_finds_nothing_odd_before_nginx";
    each(|engine| {
        let Some(program) = program::find("curl", TEST) else { return };
        for (gate, server) in before_nginx(engine, TEST).into_iter().flatten() {
            let url = |path: &str| format!("http://{}{path}", gate.address);
            let into = server.directory.path().join("got");
            let into = into.to_str().unwrap();
            curl(&program, &["-o", into, &url("/big")]);
            assert!(fs::read(into).unwrap() == big(), "the file differs");
            assert_eq!(text(&curl(&program, &["-0", &url("/hello")])), "hello 127.0.0.1");
            assert!(text(&curl(&program, &["-I", &url("/big")])).contains("Content-Length: "));
            let (one, three) = (url("/hello"), url("/hello"));
            let thrice = curl(&program, &["-w", "%{num_connects} ", &one, &url("/gone"), &three]);
            assert_eq!(text(&thrice), "hello 127.0.0.11 0 hello 127.0.0.10 ", "one connection");
        }
    });
}

/// An application that echoes and believes in `Expect: 100-continue`.
fn echo() -> Origin {
    use crate::harness::message::Body;
    Origin::start(|peer| {
        while let Some(request) = peer.head() {
            if request.field("expect").is_some() {
                peer.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            let Ok(body) = peer.reader.body(request.framing(Body::Length(0))) else { return };
            let size = body.len();
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
            peer.send(body);
        }
    })
}

#[test]
fn curl_uploads_in_every_way_it_knows() {
    const TEST: &str = "curl_uploads_in_every_way_it_knows";
    each(|engine| {
        let Some(program) = program::find("curl", TEST) else { return };
        let directory = place();
        let file = directory.path().join("file");
        fs::write(&file, big()).unwrap();
        let origin = echo();
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let url = format!("http://{}/", gate.address);
        let data = format!("@{}", file.display());
        let path = file.to_str().unwrap();
        let ways: [&[&str]; 5] = [
            &["--data-binary", &data],
            &["--data-binary", &data, "-H", "Expect: 100-continue"],
            &["--data-binary", &data, "-H", "Transfer-Encoding: chunked"],
            &["--data-binary", &data, "-H", "Expect:"],
            &["-T", path],
        ];
        for way in ways {
            let output = curl(&program, &[way, &[url.as_str()]].concat());
            assert!(output.stdout == big(), "{way:?} came back with {} bytes", output.stdout.len());
        }
        let waited = origin.seen().iter().filter(|seen| seen.field("expect").is_some()).count();
        assert!(waited >= 1, "curl waited for nobody");
    });
}

#[test]
fn pythons_http_server_as_a_command() {
    const TEST: &str = "pythons_http_server_as_a_command";
    each(|engine| {
        let Some(python) = program::python("http.server", TEST) else { return };
        let directory = place();
        fs::write(directory.path().join("big"), big()).unwrap();
        let pool = format!(
            "[pool.files]\ncommand = [{python:?}, \"-m\", \"http.server\", \"{{port}}\", \"--bind\", \
             \"127.0.0.1\"]\nbind = \"port\"\nworking_directory = {:?}\n\
             ready = {{ path = \"/\", timeout = \"5s\" }}\n",
            directory.path().display().to_string()
        );
        let gate = Recipe::new(engine).with_our_identity().site("/", "files").text(&pool).start();
        gate.wait_served("/");
        let mut client = gate.client();
        // It speaks HTTP/1.0 and closes; our client must not notice.
        assert!(client.get("/big").body == big());
        assert!(client.get("/").text().contains("big"));
        assert_eq!(client.get("/missing").status(), 404);
    });
}

#[test]
fn gunicorn_as_a_command_in_three_ways() {
    const TEST: &str = "gunicorn_as_a_command_in_three_ways";
    each(|engine| {
        let Some(python) = program::python("gunicorn", TEST) else { return };
        let scripts = program::script("");
        for (bind, arguments) in [
            ("port", "\"--bind\", \"127.0.0.1:{port}\","),
            ("unix", "\"--umask\", \"0\", \"--bind\", \"unix:{socket}\","),
            ("fd", ""),
        ] {
            let pool = format!(
                "[pool.app]\nbind = \"{bind}\"\ncommand = [{python:?}, \"-m\", \"gunicorn\", {arguments} \
                 \"--chdir\", {scripts:?}, \"--worker-tmp-dir\", \"/dev/shm\", \"wsgi:app\"]\n"
            );
            let gate = Recipe::new(engine)
                .with_our_identity()
                .site("/", "app")
                .text(&pool)
                .text("environment = { PYTHONDONTWRITEBYTECODE = \"1\" }")
                .start();
            gate.wait_served("/");
            let answer = gate.client().post("/", &vec![b'x'; 200_000]);
            assert!(answer.text().starts_with("from 127.0.0.1: xxx"), "{bind}");
            assert_eq!(answer.body.len(), 200_016, "{bind}");
        }
    });
}

fn websocket(python: &str, mode: &str, argument: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(program::script("websocket.py")).args([mode, argument]);
    command
}

/// An echo server, and the gate before it.
fn before_websocket(engine: Engine, python: &str, limit: &str) -> (Gate, Server) {
    let directory = place();
    let file = directory.path().join("port");
    let command = websocket(python, "serve", file.to_str().unwrap());
    let server = Server::start(command, directory);
    let port = wait_for("the WebSocket server", || fs::read_to_string(&file).ok());
    let address = format!("127.0.0.1:{port}");
    let recipe = Recipe::new(engine).limit(limit).site("/", "app");
    (recipe.servers("app", &[&address], "").start(), server)
}

fn expect_word(mut command: Command, word: &str) {
    spawn::prepare(&mut command, Ring::Allowed);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), word, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_websocket_library_talks_through_the_gate() {
    const TEST: &str = "a_websocket_library_talks_through_the_gate";
    each(|engine| {
        let Some(python) = program::python("websockets", TEST) else { return };
        let (gate, _server) = before_websocket(engine, &python, "");
        let uri = format!("ws://{}/chat", gate.address);
        expect_word(websocket(&python, "ask", &uri), "all well");
    });
}

#[test]
fn an_idle_websocket_is_cut_off() {
    const TEST: &str = "an_idle_websocket_is_cut_off";
    each(|engine| {
        let Some(python) = program::python("websockets", TEST) else { return };
        let (gate, _server) = before_websocket(engine, &python, "idle_timeout = \"500ms\"");
        let uri = format!("ws://{}/chat", gate.address);
        expect_word(websocket(&python, "idle", &uri), "cut off");
    });
}
