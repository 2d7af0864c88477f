//! The whole server, asked over its socket, with a scripted supervisor behind it.
