//! Where supervisor and command line find each other when nobody says where.

use crate::sys::identity;
use std::path::PathBuf;

/// The control socket of a supervisor that was told no other: below `/run` for root, else below
/// `$XDG_RUNTIME_DIR`, else in a folder for temporary files that bears our user's number.
pub fn default_control() -> PathBuf {
    const NAME: &str = "lychgate/control.sock";
    if identity::is_root() {
        return PathBuf::from("/run").join(NAME);
    }
    let private = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match private.filter(|folder| folder.is_absolute()) {
        Some(folder) => folder.join(NAME),
        None => PathBuf::from(format!("/tmp/lychgate-{}/control.sock", identity::own_uid())),
    }
}
