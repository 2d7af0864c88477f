//! The document as written: every key and value with the place where it stands, nothing decided.
//! The shell fills it from the TOML parser; [`super::check`] reads it.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// A value and the bytes of the text it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub span: Range<usize>,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Text(String),
    /// Saturated, so that a number too long for it is still out of every range.
    Integer(i128),
    Float,
    Flag(bool),
    Moment,
    List(Vec<Value>),
    Table(Table),
}

/// Keys in the order of the file, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Of the name.
    pub span: Range<usize>,
    pub value: Value,
}

impl Table {
    pub const EMPTY: &Self = &Self { entries: Vec::new() };

    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

impl Kind {
    /// With its article, for "expected a list, found a string".
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float => "a float",
            Self::Flag(_) => "a boolean",
            Self::Moment => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}
