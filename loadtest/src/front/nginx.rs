//! nginx as a front: one worker, upstream connections kept, streaming both ways.

use super::{Fields, Recipe, Terms, Upstream};
use crate::application::{nginx_command, preamble};
use crate::child::Child;
use crate::failure::Failure;
use crate::rig::Rig;

pub(crate) fn start(rig: &Rig, recipe: Recipe, port: u16, terms: &Terms) -> Result<Child, Failure> {
    let name = recipe.name();
    let text = format!("{}{}", preamble(rig, &name), servers(recipe, port, terms));
    let file = rig.write(&format!("{name}.conf"), text)?;
    Child::start(rig, &name, rig.cores.front, &nginx_command(rig, &file))
}

fn servers(recipe: Recipe, port: u16, terms: &Terms) -> String {
    let at = &terms.addresses;
    let (application, sink) = match recipe.upstream {
        Upstream::Tcp => (format!("127.0.0.1:{}", at.port), format!("127.0.0.1:{}", at.sink_port)),
        Upstream::Unix => {
            (format!("unix:{}", at.socket.display()), format!("unix:{}", at.sink_socket.display()))
        }
    };
    let upstream = |name: &str, server: &str| {
        format!(
            "  upstream {name} {{ server {server}; keepalive {}; \
             keepalive_requests 1000000000; keepalive_timeout {}s; }}\n",
            terms.idle, terms.idle_seconds
        )
    };
    // Setting any field in a location replaces nginx's own defaults, so Host stands in both.
    let fields = match recipe.fields {
        Fields::Plain => "",
        Fields::Added => ADDED,
    };
    format!(
        "{}{}  server {{\n    listen 127.0.0.1:{port} backlog=4096;\n    \
         proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    \
         proxy_set_header Host $http_host;\n{fields}    proxy_request_buffering off;\n    \
         proxy_max_temp_file_size 0;\n    \
         location / {{ proxy_pass http://application; }}\n    \
         location /sink {{ proxy_pass http://sink; }}\n  }}\n}}\n",
        upstream("application", &application),
        upstream("sink", &sink)
    )
}

const ADDED: &str = "    \
    proxy_set_header Via \"1.1 nginx\";\n    \
    proxy_set_header Forwarded \"for=$remote_addr;host=$http_host;proto=$scheme\";\n    \
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    \
    proxy_set_header X-Forwarded-Proto $scheme;\n    \
    proxy_set_header X-Forwarded-Host $http_host;\n    \
    proxy_set_header X-Request-Id $request_id;\n    \
    proxy_set_header X-Request-Start t=$msec;\n";
