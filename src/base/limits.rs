//! Every maximum of the product that is not the operator's to set, and the relations between them.

/// Connections of one listener thread, to clients and to servers together.
pub const SOCKETS_MAX: u32 = 1 << 20;
/// Fields in one head: the ceiling of `header_count`.
pub const HEADER_COUNT_MAX: usize = 256;
/// The ceiling of `head_size`.
pub const HEAD_SIZE_MAX: usize = 256 * 1024;
/// A request's method; the longest registered one has 17 characters.
pub const METHOD_SIZE_MAX: usize = 64;
/// Options that the `Connection` fields of one head name together.
pub const CONNECTION_OPTIONS_MAX: usize = 32;
/// The head of a server's response: an application is trusted no more than a client.
pub const RESPONSE_HEAD_SIZE_MAX: usize = 64 * 1024;
/// Digits of a chunk size and its extensions, together, in one chunk header.
pub const CHUNK_HEADER_SIZE_MAX: u32 = 4 * 1024;
/// All trailer fields of one message together.
pub const TRAILER_SIZE_MAX: u32 = 16 * 1024;
/// Bytes that a client may send ahead (pipelining) while a request runs, before reading stops.
pub const AHEAD_SIZE_MAX: usize = 64 * 1024;
/// Interim (1xx) responses to one request.
pub const INTERIM_COUNT_MAX: u32 = 16;
/// Path of a UNIX socket: `sun_path` less its final zero (unix(7)).
pub const UNIX_PATH_MAX: usize = 107;
/// The configuration file.
pub const CONFIG_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// The body of a pool's 503.
pub const ERROR_PAGE_SIZE_MAX: u64 = 64 * 1024;
pub const LISTENERS_MAX: usize = 256;
pub const SITES_MAX: usize = 10_000;
pub const ROUTES_MAX: usize = 60_000;
pub const POOLS_MAX: usize = 4_096;
pub const SERVERS_MAX: usize = 256;
/// Workers of one garden.
pub const WORKERS_MAX: usize = 128;
/// Workers of one garden that the listener knows, those that drain included.
pub const PLACES_MAX: usize = 320;
pub const THREADS_MAX: usize = 256;
/// Listener threads' access log, not yet taken by the writer; more is dropped and counted.
pub const LOG_BACKLOG_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(RESPONSE_HEAD_SIZE_MAX <= HEAD_SIZE_MAX);
const _: () = assert!(AHEAD_SIZE_MAX <= HEAD_SIZE_MAX);
const _: () = assert!(POOLS_MAX <= u16::MAX as usize);
const _: () = assert!(PLACES_MAX > 2 * WORKERS_MAX);
const _: () = assert!(LISTENERS_MAX <= u16::MAX as usize);
