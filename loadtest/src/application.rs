//! The application behind every front: an nginx that answers from memory or by sendfile, on TCP and
//! on a UNIX socket, so that it is never what limits; and for uploads the sink.

use crate::child::Child;
use crate::failure::{Failure, while_doing};
use crate::rig::Rig;
use crate::sink::Sink;
use crate::tools;
use std::fs;
use std::path::{Path, PathBuf};

/// Served from files, for the runs with bodies.
pub(crate) const BODIES: [(&str, usize); 2] = [("64k", 64 << 10), ("1m", 1 << 20)];
/// What an answer from memory holds: 13 bytes.
const GREETING: &str = "Hello, World!";

#[derive(Debug)]
pub(crate) struct Application {
    child: Child,
    pub(crate) addresses: Addresses,
    /// Kept for its threads, which end with it.
    _sink: Sink,
}

/// Where fronts find what they relay to.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) port: u16,
    pub(crate) socket: PathBuf,
    pub(crate) sink_port: u16,
    pub(crate) sink_socket: PathBuf,
}

impl Application {
    pub(crate) fn start(rig: &Rig) -> Result<Self, Failure> {
        let sink = Sink::start(&rig.path("sink.socket"))?;
        let addresses = Addresses {
            port: rig.port()?,
            socket: rig.path("application.socket"),
            sink_port: sink.port,
            sink_socket: rig.path("sink.socket"),
        };
        let listens = format!(
            "listen 127.0.0.1:{} backlog=4096; listen unix:{} backlog=4096;",
            addresses.port,
            addresses.socket.display()
        );
        let mut child = launch(rig, "application", rig.cores.load, &listens)?;
        crate::probe::until_answering(&mut child, addresses.port)?;
        Ok(Self { child, addresses, _sink: sink })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }
}

/// An nginx that answers by itself; also measured as the bare application, on the front's CPU.
pub(crate) fn launch(rig: &Rig, name: &str, core: usize, listens: &str) -> Result<Child, Failure> {
    let bodies = write_bodies(rig)?;
    let text = format!(
        "{}\n  server {{ {listens}\n    root {};\n    \
         location = / {{ default_type text/plain; return 200 \"{GREETING}\"; }}\n  }}\n}}\n",
        preamble(rig, name),
        bodies.display()
    );
    let file = rig.write(&format!("{name}.conf"), text)?;
    Child::start(rig, name, core, &nginx_command(rig, &file))
}

/// What all nginx instances of a run share: one worker, no logs, connections that live for ever.
pub(crate) fn preamble(rig: &Rig, name: &str) -> String {
    let folder = rig.folder().display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary =
        kinds.map(|kind| format!("  {kind}_temp_path {folder}/{name}.{kind};\n")).concat();
    format!(
        "daemon off;\nworker_processes 1;\npid {folder}/{name}.pid;\n\
         error_log stderr error;\nevents {{ worker_connections 19000; }}\nhttp {{\n  \
         access_log off;\n  sendfile on;\n  keepalive_requests 1000000000;\n  \
         keepalive_timeout 300s;\n  client_max_body_size 0;\n{temporary}"
    )
}

pub(crate) fn nginx_command(rig: &Rig, file: &Path) -> Vec<String> {
    let folder = rig.folder().display().to_string();
    let file = file.display().to_string();
    [&tools::path("nginx"), "-p", &folder, "-e", "stderr", "-c", &file].map(String::from).to_vec()
}

fn write_bodies(rig: &Rig) -> Result<PathBuf, Failure> {
    let folder = rig.path("bodies");
    fs::create_dir_all(&folder).map_err(while_doing(format!("creating {}", folder.display())))?;
    for (name, size) in BODIES {
        rig.write(&format!("bodies/{name}"), vec![b'x'; size])?;
    }
    Ok(folder)
}
