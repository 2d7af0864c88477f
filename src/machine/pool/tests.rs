//! The pool, one situation at a time.
