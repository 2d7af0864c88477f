//! What an operator reads when a measurement could not be made: doing what, to what, cause, remedy.

use std::fmt::{self, Display};

#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Names what was being done when a cause came up: `.map_err(while_doing("reading /proc/1/stat"))`.
pub(crate) fn while_doing<E: Display>(what: impl Into<String>) -> impl FnOnce(E) -> Failure {
    let what = what.into();
    move |cause| Failure(format!("{what}: {cause}"))
}
