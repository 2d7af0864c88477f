//! One table of the document beside its keys in the table of keys: reads values by name, applies
//! defaults and bounds, and complains about names that nobody asked for.

mod value;

use super::name::quoted;
use crate::plan::fault::{Faults, Nature, nearest};
use crate::plan::keys::{self, Absent, Form, Key};
use crate::plan::raw::{Entry, Kind, Table, Value};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// A table that was opened; where it is absent from the file, an empty one.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// As in the table of keys: `pool.NAME.upstream`.
    schema: &'static str,
    /// As the operator knows it: `pool.shop.upstream`.
    path: String,
    /// Where a complaint about something that is missing points to.
    at: Range<usize>,
    table: &'a Table,
}

/// A string with its place.
#[derive(Clone, Debug)]
pub(super) struct Text<'a> {
    pub(super) content: &'a str,
    pub(super) at: Range<usize>,
    /// Of the key that holds it.
    pub(super) path: String,
}

impl Text<'_> {
    pub(super) fn refuse(&self, faults: &mut Faults, tell: impl FnOnce() -> (String, String)) {
        faults.add(Nature::Here, &self.at, &self.path, tell);
    }

    /// It names something that is nowhere.
    pub(super) fn unresolved(&self, faults: &mut Faults, tell: impl FnOnce() -> (String, String)) {
        faults.add(Nature::Whole, &self.at, &self.path, tell);
    }
}

impl<'a> Section<'a> {
    pub(super) fn open(
        schema: &'static str,
        path: String,
        at: Range<usize>,
        table: &'a Table,
        faults: &mut Faults,
    ) -> Self {
        let section = Self { schema, path, at, table };
        for entry in &table.entries {
            section.check_name(entry, faults);
        }
        section
    }

    fn check_name(&self, entry: &Entry, faults: &mut Faults) {
        // Names of the operator's choosing are judged by whoever reads them.
        if keys::find(self.schema, "NAME").is_some() {
            return;
        }
        let path = || join(&self.path, &entry.name);
        match keys::find(self.schema, &entry.name) {
            Some(Key { form: Form::Later, .. }) => {
                faults.add(Nature::Here, &entry.span, &path(), || {
                    ("not supported yet".into(), "leave it out".into())
                });
            }
            Some(_) => {}
            None => faults.add(Nature::Whole, &entry.span, &path(), || {
                ("unknown key".into(), unknown_hint(self.schema, &entry.name))
            }),
        }
    }

    pub(super) fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.table.find(name).is_some()
    }

    pub(super) fn has_table(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| matches!(value.kind, Kind::Table(_)))
    }

    /// Whether `name` is written, and not as its default is.
    pub(super) fn departs(&self, name: &str) -> bool {
        let Absent::Default(default) = self.key(name).absent else { return self.has(name) };
        self.value(name).is_some_and(|value| match &value.kind {
            Kind::Text(text) => text != default,
            Kind::Integer(integer) => format!("{integer}") != default,
            Kind::List(list) => !list.is_empty() || default != "[]",
            Kind::Flag(flag) => format!("{flag}") != default,
            _ => true,
        })
    }

    /// Something that only the whole file can tell is missing here.
    pub(super) fn lacks(
        &self,
        name: &str,
        faults: &mut Faults,
        tell: impl FnOnce() -> (String, String),
    ) {
        faults.add(Nature::Whole, &self.at, &self.path(name), tell);
    }

    /// As [`Self::lacks`], for something that is not one key.
    pub(super) fn lacks_either(
        &self,
        faults: &mut Faults,
        tell: impl FnOnce() -> (String, String),
    ) {
        faults.add(Nature::Whole, &self.at, &self.path, tell);
    }

    /// `name` stands there and should not, because of what stands elsewhere or does not.
    pub(super) fn refuse(
        &self,
        name: &str,
        nature: Nature,
        faults: &mut Faults,
        tell: impl FnOnce() -> (String, String),
    ) {
        let at = self.table.find(name).map_or(&self.at, |entry| &entry.span);
        faults.add(nature, at, &self.path(name), tell);
    }

    /// What stands at `at`, below `name`, cannot stand beside something else in the file.
    pub(super) fn contradict(
        &self,
        name: &str,
        at: &Range<usize>,
        faults: &mut Faults,
        tell: impl FnOnce() -> (String, String),
    ) {
        faults.add(Nature::Here, at, &self.path(name), tell);
    }

    /// A table below this one, opened; empty when absent.
    pub(super) fn section(&self, name: &str, faults: &mut Faults) -> Section<'a> {
        let key = self.key(name);
        debug_assert_eq!(key.form, Form::Table, "{}", key.path);
        let table = self.table(name, faults).unwrap_or(Table::EMPTY);
        Section::open(key.path, self.path(name), self.at_entry(name), table, faults)
    }

    /// `[[name]]` tables, opened.
    pub(super) fn sections(&self, name: &str, faults: &mut Faults) -> Vec<Section<'a>> {
        let key = self.key(name);
        debug_assert_eq!(key.form, Form::Tables, "{}", key.path);
        let Some(value) = self.value(name) else { return Vec::new() };
        let header = || format!("write [[{}]] before the keys of each one", key.path);
        let Kind::List(list) = &value.kind else {
            self.mistyped(name, value, faults, "a list of tables", header);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(list.len());
        for value in list {
            match &value.kind {
                Kind::Table(table) => {
                    let path = self.path(name);
                    sections.push(Section::open(key.path, path, value.span.clone(), table, faults));
                }
                _ => self.mistyped(name, value, faults, "a table", header),
            }
        }
        sections
    }

    /// Tables with names of the operator's choosing; `schema` is theirs.
    pub(super) fn named(&self, schema: &'static str, faults: &mut Faults) -> Vec<(Text<'a>, Self)> {
        let mut sections = Vec::with_capacity(self.table.entries.len());
        for entry in &self.table.entries {
            let path = self.path(&entry.name);
            let Kind::Table(table) = &entry.value.kind else {
                self.mistyped(&entry.name, &entry.value, faults, "a table", || {
                    format!("write [{path}] before the keys of the pool")
                });
                continue;
            };
            let name = Text { content: &entry.name, at: entry.span.clone(), path: path.clone() };
            let open = |faults: &mut Faults| {
                Section::open(schema, path, entry.span.clone(), table, faults)
            };
            sections.push((name, faults.within(&entry.name, open)));
        }
        sections
    }

    /// Where the section begins.
    pub(super) fn at(&self) -> &Range<usize> {
        &self.at
    }

    fn key(&self, name: &str) -> &'static Key {
        keys::find(self.schema, name).expect("only keys of the table of keys are asked for")
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.table.find(name).map(|entry| &entry.value)
    }

    fn at_entry(&self, name: &str) -> Range<usize> {
        self.table.find(name).map_or(&self.at, |entry| &entry.span).clone()
    }

    fn table(&self, name: &str, faults: &mut Faults) -> Option<&'a Table> {
        let value = self.value(name)?;
        if let Kind::Table(table) = &value.kind {
            return Some(table);
        }
        self.mistyped(name, value, faults, "a table", || {
            format!("write {name} = {{ ... }} or a table [{}]", self.path(name))
        });
        None
    }

    fn mistyped(
        &self,
        name: &str,
        value: &Value,
        faults: &mut Faults,
        wanted: &str,
        hint: impl FnOnce() -> String,
    ) {
        mistyped(value, &self.path(name), faults, wanted, hint);
    }
}

fn mistyped(
    value: &Value,
    path: &str,
    faults: &mut Faults,
    wanted: &str,
    hint: impl FnOnce() -> String,
) {
    faults.add(Nature::Here, &value.span, path, || {
        (format!("expected {wanted}, found {}", value.kind.name()), hint())
    });
}

fn unknown_hint(schema: &'static str, name: &str) -> String {
    if let Some(near) = nearest(name, keys::names(schema)) {
        return format!("did you mean {near}?");
    }
    if let Some(key) = keys::elsewhere(name) {
        return format!("did you mean {}?", key.path);
    }
    let works = |name: &&str| keys::find(schema, name).is_some_and(|key| key.form != Form::Later);
    let known: Vec<&str> = keys::names(schema).filter(works).collect();
    format!("known here: {}", known.join(", "))
}

fn join(path: &str, name: &str) -> String {
    let mut joined = path.to_owned();
    if !joined.is_empty() {
        joined.push('.');
    }
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.bytes().all(is_bare) {
        joined.push_str(name);
    } else {
        joined.push_str(&quoted(name));
    }
    joined
}
