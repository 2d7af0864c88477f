//! HAProxy as a front: one thread, connections to the application shared by all clients.

use super::{Fields, Recipe, Terms, Upstream};
use crate::child::Child;
use crate::failure::Failure;
use crate::rig::Rig;
use crate::tools;

pub(crate) fn start(rig: &Rig, recipe: Recipe, port: u16, terms: &Terms) -> Result<Child, Failure> {
    let name = recipe.name();
    let file = rig.write(&format!("{name}.cfg"), configuration(recipe, port, terms))?;
    let file = file.display().to_string();
    let command = [&tools::path("haproxy"), "-db", "-f", &file].map(String::from);
    Child::start(rig, &name, rig.cores.front, &command)
}

fn configuration(recipe: Recipe, port: u16, terms: &Terms) -> String {
    let at = &terms.addresses;
    let (application, sink) = match recipe.upstream {
        Upstream::Tcp => (format!("127.0.0.1:{}", at.port), format!("127.0.0.1:{}", at.sink_port)),
        Upstream::Unix => {
            (format!("unix@{}", at.socket.display()), format!("unix@{}", at.sink_socket.display()))
        }
    };
    let fields = match recipe.fields {
        Fields::Plain => "",
        Fields::Added => ADDED,
    };
    // HAProxy wants two descriptors for each of maxconn, which is more than the limit may allow; the
    // loads here never use as many, so the limit is taken as it is. By itself it would also stop to keep
    // upstream connections once a quarter of the descriptors is used, as ten thousand clients do.
    format!(
        "global\n  nbthread 1\n  maxconn 15000\n  no strict-limits\n  \
         tune.pool-low-fd-ratio 90\n  tune.pool-high-fd-ratio 95\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  \
         timeout server 60s\n  timeout http-keep-alive 300s\n  option http-keep-alive\n  \
         http-reuse always\n\
         frontend front\n  bind 127.0.0.1:{port} backlog 4096\n  maxconn 15000\n{fields}  \
         use_backend sink if {{ path_beg /sink }}\n  default_backend application\n\
         backend application\n  server one {application} pool-max-conn {idle} pool-purge-delay {keep}s\n\
         backend sink\n  server one {sink} pool-max-conn {idle} pool-purge-delay {keep}s\n",
        idle = terms.idle,
        keep = terms.idle_seconds
    )
}

const ADDED: &str = "  option forwardfor\n  unique-id-format %[uuid()]\n  \
    unique-id-header X-Request-Id\n  \
    http-request set-header Via \"1.1 haproxy\"\n  \
    http-request set-header Forwarded \"for=%[src];host=%[req.hdr(host)];proto=http\"\n  \
    http-request set-header X-Forwarded-Proto http\n  \
    http-request set-header X-Forwarded-Host %[req.hdr(host)]\n  \
    http-request set-header X-Request-Start t=%[date(0,us)]\n";
