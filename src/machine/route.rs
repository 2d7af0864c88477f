//! Door, host and path to a pool.
