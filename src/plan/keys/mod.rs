//! Every key of the configuration, once: its form, its bounds, what holds when it is absent, and a
//! line of documentation. `NAME` stands for the name of a pool. The checks, the reference in
//! docs/configuration.md and config/full.toml are held to this table.

mod front;
mod garden;
mod pool;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// From the top of the file, such as `server.limits.head_timeout`.
    pub path: &'static str,
    pub form: Form,
    pub absent: Absent,
    pub doc: &'static str,
}

/// What may stand there. Bounds are inclusive, and written as an operator would write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Duration {
        min: &'static str,
        max: &'static str,
    },
    /// A duration, or "off".
    Optional {
        min: &'static str,
        max: &'static str,
    },
    Size {
        min: &'static str,
        max: &'static str,
    },
    Integer {
        min: u32,
        max: u32,
    },
    /// "0%" to so many.
    Percent {
        max: u8,
    },
    Flag,
    /// One of `words`; those of `later` are understood and refused.
    Word {
        words: &'static [&'static str],
        later: &'static [&'static str],
    },
    Text,
    /// A list of strings, not empty.
    List,
    /// A list of strings; `[]` says that there are none.
    Series,
    /// A table of strings, with names of the operator's choosing.
    Map,
    Table,
    /// `[[name]]`
    Tables,
    /// Understood, and refused until it does something.
    Later,
}

/// What holds when a key is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// This value, as it would be written, a string without its quotes.
    Default(&'static str),
    /// Something that no value of the key can say.
    Means(&'static str),
    /// The key must be written.
    Fault,
}

/// The key `name` of the table `section` ("" = the top of the file).
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.within(section) == Some(name))
}

/// All keys of the table `section`, in the order of the documentation.
pub fn names(section: &'static str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| key.within(section))
}

/// A key of another table that has this name.
pub fn elsewhere(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        key.form != Form::Later && key.path.rsplit_once('.').is_some_and(|(_, last)| last == name)
    })
}

impl Key {
    /// The last word of the path, if the words before it are `section`.
    fn within(&self, section: &str) -> Option<&'static str> {
        let rest = self.path.strip_prefix(section)?;
        let name = if section.is_empty() { rest } else { rest.strip_prefix('.')? };
        (!name.contains('.')).then_some(name)
    }
}

const DEADLINE: Form = Form::Duration { min: "10ms", max: "720h" };

const fn key(path: &'static str, form: Form, absent: Absent, doc: &'static str) -> Key {
    Key { path, form, absent, doc }
}

const fn table(path: &'static str, doc: &'static str) -> Key {
    key(path, Form::Table, Absent::Means("the defaults below"), doc)
}

const fn word(path: &'static str, words: &'static [&'static str], doc: &'static str) -> Key {
    key(path, Form::Word { words, later: &[] }, Absent::Default(words[0]), doc)
}

const fn deadline(path: &'static str, default: &'static str, doc: &'static str) -> Key {
    key(path, DEADLINE, Absent::Default(default), doc)
}

const fn optional(
    path: &'static str,
    min: &'static str,
    max: &'static str,
    default: &'static str,
    doc: &'static str,
) -> Key {
    key(path, Form::Optional { min, max }, Absent::Default(default), doc)
}

const fn integer(
    path: &'static str,
    min: u32,
    max: u32,
    default: &'static str,
    doc: &'static str,
) -> Key {
    key(path, Form::Integer { min, max }, Absent::Default(default), doc)
}

const fn flag(path: &'static str, default: &'static str, doc: &'static str) -> Key {
    key(path, Form::Flag, Absent::Default(default), doc)
}

const fn series(path: &'static str, default: &'static str, doc: &'static str) -> Key {
    key(path, Form::Series, Absent::Default(default), doc)
}

const fn later(path: &'static str) -> Key {
    key(path, Form::Later, Absent::Means("it does not exist yet"), "Not supported yet.")
}

const PARTS: [&[Key]; 3] = [front::FRONT, pool::POOL, garden::GARDEN];

pub const KEYS: &[Key] = &join::<{ PARTS[0].len() + PARTS[1].len() + PARTS[2].len() }>();

const fn join<const COUNT: usize>() -> [Key; COUNT] {
    let mut all = [PARTS[0][0]; COUNT];
    let (mut part, mut at, mut count) = (0, 0, 0);
    while part < PARTS.len() {
        while at < PARTS[part].len() {
            all[count] = PARTS[part][at];
            (at, count) = (at + 1, count + 1);
        }
        (part, at) = (part + 1, 0);
    }
    all
}
