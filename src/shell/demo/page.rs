//! What the demonstration application shows.

use super::Request;
use std::fmt::Write;

/// A page that explains what just happened.
pub(super) fn show(request: &Request) -> String {
    let pid = std::process::id();
    let place = |name: &str| std::env::var(name).unwrap_or_else(|_| "-".to_owned());
    let (pool, generation) = (place("LYCHGATE_POOL"), place("LYCHGATE_GENERATION"));
    let mut rows = String::new();
    for (name, value) in &request.fields {
        // Writing to a String cannot fail.
        let _ = writeln!(rows, "<tr><th>{}<td>{}", escape(name), escape(value));
    }
    format!(
        "<!doctype html>
<html lang=\"en\"><meta charset=\"utf-8\"><title>lychgate</title>
<style>body{{font:16px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}}
th{{text-align:left;padding-right:1em;vertical-align:top}}td{{font-family:monospace}}</style>
<h1>It works</h1>
<p>Your request <code>{method} {target}</code> was accepted and parsed by lychgate's listener
process and relayed to this application: process {pid}, pool <code>{pool}</code>, generation
{generation}. Kill it (<code>kill -9 {pid}</code>) and load this page again: the supervisor starts
the next generation at once.</p>
<h2>What arrived here</h2>
<p>The fields that begin with X- and <code>Forwarded</code> and <code>Via</code> were added on the
way.</p>
<table>
{rows}</table>
<h2>What else there is</h2>
<p><a href=\"/headers\">/headers</a>, <a href=\"/slow?ms=500\">/slow?ms=500</a>,
<a href=\"/stream\">/stream</a>, and POST to /echo.</p>
",
        method = escape(&request.method),
        target = escape(&request.target),
        pool = escape(&pool),
        generation = escape(&generation),
    )
}

/// The fields as they arrived, one a line.
pub(super) fn fields(request: &Request) -> String {
    request.fields.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name}: {value}");
        text
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
