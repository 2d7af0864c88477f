//! From the document as written to a [`Plan`], or to every fault in it at once.

mod command;
mod garden;
mod name;
mod pool;
mod section;
mod server;
mod site;

use super::Plan;
use super::fault::{Fault, Faults, Nature};
use super::raw::Table;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use section::Section;

/// A plan, and what is wrong with the pools that it leaves out as [`super::Source::Invalid`].
#[derive(Debug)]
pub struct Checked {
    pub plan: Plan,
    /// In the order of the file.
    pub faults: Vec<Fault>,
}

/// `document` is the whole file and `size` its bytes; `syntax` is what the parser could not read
/// of it. Faults are in the order of the file; where one concerns more than a single pool, there is
/// no plan.
pub fn check(document: &Table, size: usize, syntax: Vec<Fault>) -> Result<Checked, Vec<Fault>> {
    let mut faults = Faults::default();
    for fault in syntax {
        faults.push(fault);
    }
    let file = Section::open("", String::new(), size..size, document, &mut faults);
    let server = server::server(&file.section("server", &mut faults), &mut faults);
    let listeners = server::listeners(&file, &mut faults);
    let pools = pool::pools(&file, &mut faults);
    let sites = site::sites(&file, &listeners, &pools.names, &mut faults);
    let is_refused = faults.are_beyond_pools();
    let faults = faults.finish().unwrap_or_default();
    if is_refused && !faults.is_empty() {
        return Err(faults);
    }
    let plan = Plan { server, listeners: listeners.list, sites, pools: pools.list };
    Ok(Checked { plan, faults })
}

/// Whether there are more of a thing than the product allows; if so, that is a fault.
fn is_over(
    count: usize,
    max: usize,
    section: &Section<'_>,
    name: &str,
    faults: &mut Faults,
) -> bool {
    if count > max {
        section.refuse(name, Nature::Here, faults, || {
            (format!("{count} of them are too many"), format!("write at most {max}"))
        });
    }
    count > max
}
