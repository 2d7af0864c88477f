//! `lychgate check FILE`: whether a configuration would be taken.

use crate::plan::Plan;
use crate::shell::config::{self, Loaded};
use std::io::{self, Write};
use std::path::Path;

/// The exit code: 0 when the file holds, 1 when it does not or could not be read. A summary goes
/// to `out`, faults to `err`.
pub fn check(path: &Path, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    match config::load(path) {
        Ok(Loaded { complaint: Some(report), .. }) | Err(report) => {
            told(&write!(err, "{report}"), 1)
        }
        Ok(loaded) => told(&writeln!(out, "{}: ok: {}", path.display(), summary(&loaded.plan)), 0),
    }
}

/// Nobody may be reading; the verdict of a good file is lost then, so it must not look good.
fn told(written: &io::Result<()>, code: u8) -> u8 {
    if written.is_ok() { code } else { 1 }
}

fn summary(plan: &Plan) -> String {
    let count =
        |count: usize, thing: &str| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
    let [listeners, sites, pools] = [
        count(plan.listeners.len(), "listener"),
        count(plan.sites.len(), "site"),
        count(plan.pools.len(), "pool"),
    ];
    format!("{listeners}, {sites}, {pools}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_and_the_words_say_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        std::fs::write(&path, config::QUICKSTART).unwrap();
        assert_eq!(check(&path, &mut out, &mut err), 0);
        assert!(
            String::from_utf8(out).unwrap().ends_with("a.toml: ok: 1 listener, 1 site, 1 pool\n")
        );
        assert!(err.is_empty());

        let mut out = Vec::new();
        std::fs::write(&path, "listen = 1").unwrap();
        assert_eq!(check(&path, &mut out, &mut err), 1);
        assert!(String::from_utf8(err).unwrap().contains("a.toml:1:10: listen: expected a list"));
        assert!(out.is_empty());

        let missing = directory.path().join("none.toml");
        assert_eq!(check(&missing, &mut Vec::new(), &mut Vec::new()), 1);
    }

    #[test]
    fn a_verdict_that_nobody_got_is_not_good() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        std::fs::write(&path, config::QUICKSTART).unwrap();
        assert_eq!(check(&path, &mut [0_u8; 0].as_mut_slice(), &mut Vec::new()), 1);
    }
}
