//! Names of things that come and go: an index with a generation, so that a late word about a
//! thing that has gone is never taken for one about its successor in the same place.

/// A connection of the listener, to a client or to a server. Machine and engine share the name;
/// the machine gives it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketId {
    pub index: u32,
    /// Only the low 24 bits are kept by engines.
    pub generation: u32,
}

/// An accepted connection that the machine has not named yet; counts up, wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival(pub u32);

/// A listening address, for the life of the supervisor: never renumbered by a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DoorId(pub u16);

/// A pool's place in the plan in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolIndex(pub u16);

/// A server's place in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerIndex(pub u16);
