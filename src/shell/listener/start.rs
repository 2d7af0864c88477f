//! What the listener process does before it serves: the configuration read, limits raised,
//! privileges given up.

use crate::base::id::DoorId;
use crate::base::limits::{CONFIG_SIZE_MAX, ERROR_PAGE_SIZE_MAX};
use crate::plan::Plan;
use crate::shell::config;
use crate::sys::identity::Identity;
use crate::sys::{identity, memfd, rlimit};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Descriptors beside one for each connection: two for each thread's engine, sockets, logs ...
const SPARE_DESCRIPTORS: u64 = 1024;

/// The same text through the same code as in the supervisor, so the same plan.
pub(super) fn read_plan(
    name: &str,
    mut descriptors: Vec<OwnedFd>,
    doors: &[u16],
) -> Result<(Arc<Plan>, Arc<[DoorId]>), String> {
    let Some(descriptor) = descriptors.pop() else {
        return Err("configuring: the message brought no text".into());
    };
    let text = memfd::read(descriptor, CONFIG_SIZE_MAX)
        .map_err(|error| format!("reading the configuration: {error}"))?;
    // What is wrong with single pools was told by the supervisor.
    let (plan, _) = config::salvage(&text, name).map_err(|report| report.to_string())?;
    if plan.listeners.len() != doors.len() {
        return Err("configuring: the doors are not those of the text".into());
    }
    Ok((Arc::new(plan), doors.iter().map(|door| DoorId(*door)).collect()))
}

/// The body of a pool's 503; none: the built-in one.
pub(super) fn read_page(descriptor: Option<OwnedFd>) -> Result<Option<Arc<[u8]>>, String> {
    let page = descriptor.map(|descriptor| memfd::read_bytes(descriptor, ERROR_PAGE_SIZE_MAX));
    let page = page.transpose().map_err(|error| format!("reading an error page: {error}"))?;
    Ok(page.map(Arc::from))
}

/// Limits first, while there is the privilege to raise them.
pub(super) fn drop_privileges(identity: Option<&Identity>, plan: &Plan) -> Result<(), String> {
    // A connection relayed has two descriptors, its own and the server's.
    let wanted = 2 * u64::from(plan.server.connections_max) + SPARE_DESCRIPTORS;
    let files = rlimit::raise_open_files(wanted)
        .map_err(|error| format!("raising the limit on open files: {error}"))?;
    if files < wanted {
        tracing::warn!(
            "raising the limit on open files to {wanted}, for server.max_connections = {}: \
             the hard limit is {files}. Raise it (LimitNOFILE= in the unit) or lower the setting",
            plan.server.connections_max
        );
    }
    if let Err(error) = rlimit::raise_locked_memory() {
        tracing::debug!("raising the limit on locked memory: {error}");
    }
    if let Some(identity) = identity {
        identity
            .assume()
            .map_err(|error| format!("taking on the identity of uid {}: {error}", identity.uid))?;
    }
    identity::renounce_privileges().map_err(|error| format!("renouncing new privileges: {error}"))
}
