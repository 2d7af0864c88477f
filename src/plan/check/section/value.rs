//! Values by name: their form, their bounds and their defaults.

use super::{Section, Text, join, mistyped};
use crate::plan::check::name::quoted;
use crate::plan::fault::{Faults, Nature, nearest};
use crate::plan::keys::{self, Absent, Form, Key};
use crate::plan::raw::{Kind, Value};
use crate::plan::units;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

impl<'a> Section<'a> {
    pub(in crate::plan::check) fn duration(&self, name: &str, faults: &mut Faults) -> Duration {
        let key = self.key(name);
        let (Form::Duration { min, max }, Absent::Default(default)) = (&key.form, &key.absent)
        else {
            unreachable!("the table of keys makes {} a duration with a default", key.path)
        };
        let read = |text: &str| {
            units::duration(text).expect("durations in the table of keys are well formed")
        };
        self.measure(name, faults, units::duration, units::duration_hint, "a duration")
            .and_then(|(duration, at)| {
                if read(min) <= duration && duration <= read(max) {
                    return Some(duration);
                }
                let found = units::show_duration(duration);
                self.out_of_range(name, &at, &found, [min, max], faults);
                None
            })
            .unwrap_or_else(|| read(default))
    }

    /// `None` = "off".
    pub(in crate::plan::check) fn optional(
        &self,
        name: &str,
        faults: &mut Faults,
    ) -> Option<Duration> {
        let key = self.key(name);
        let (Form::Optional { min, max }, Absent::Default(default)) = (&key.form, &key.absent)
        else {
            unreachable!("the table of keys makes {} a duration or off", key.path)
        };
        let read = |text: &str| match text {
            "off" => Some(None),
            text => units::duration(text).map(Some),
        };
        let bound = |text: &str| {
            units::duration(text).expect("durations in the table of keys are well formed")
        };
        let written = self.measure(name, faults, read, units::optional_hint, "a duration");
        match written {
            Some((Some(duration), at)) if duration < bound(min) || bound(max) < duration => {
                let found = units::show_duration(duration);
                self.out_of_range(name, &at, &found, [min, max], faults);
                read(default).flatten()
            }
            Some((duration, _)) => duration,
            None => read(default).flatten(),
        }
    }

    /// Bytes.
    pub(in crate::plan::check) fn size(&self, name: &str, faults: &mut Faults) -> u64 {
        let key = self.key(name);
        let (Form::Size { min, max }, Absent::Default(default)) = (&key.form, &key.absent) else {
            unreachable!("the table of keys makes {} a size with a default", key.path)
        };
        let read =
            |text: &str| units::size(text).expect("sizes in the table of keys are well formed");
        self.measure(name, faults, units::size, units::size_hint, "a size")
            .and_then(|(size, at)| {
                if read(min) <= size && size <= read(max) {
                    return Some(size);
                }
                self.out_of_range(name, &at, &units::show_size(size), [min, max], faults);
                None
            })
            .unwrap_or_else(|| read(default))
    }

    pub(in crate::plan::check) fn integer(&self, name: &str, faults: &mut Faults) -> u32 {
        let key = self.key(name);
        let (Form::Integer { min, max }, Absent::Default(default)) = (&key.form, &key.absent)
        else {
            unreachable!("the table of keys makes {} an integer with a default", key.path)
        };
        let read =
            |text: &str| text.parse().expect("integers in the table of keys are well formed");
        let Some(value) = self.value(name) else { return read(default) };
        let Kind::Integer(integer) = value.kind else {
            self.mistyped(name, value, faults, "an integer", || {
                format!("write a number without quotes, such as {default}")
            });
            return read(default);
        };
        if let Ok(fitting) = u32::try_from(integer)
            && (min..=max).contains(&&fitting)
        {
            return fitting;
        }
        let (least, most) = (format!("{min}"), format!("{max}"));
        self.out_of_range(name, &value.span, &format!("{integer}"), [&least, &most], faults);
        read(default)
    }

    pub(in crate::plan::check) fn percent(&self, name: &str, faults: &mut Faults) -> u8 {
        let key = self.key(name);
        let (Form::Percent { max }, Absent::Default(default)) = (key.form, key.absent) else {
            unreachable!("the table of keys makes {} a percentage with a default", key.path)
        };
        let read = |text: &str| units::percent(text).and_then(|whole| u8::try_from(whole).ok());
        let default = read(default).expect("percentages in the table of keys are well formed");
        let hint = |text: &str| units::percent_hint(text);
        let Some((whole, at)) = self.measure(name, faults, units::percent, hint, "a percentage")
        else {
            return default;
        };
        if let Some(fitting) = u8::try_from(whole).ok().filter(|whole| *whole <= max) {
            return fitting;
        }
        let most = format!("{max}%");
        self.out_of_range(name, &at, &format!("{whole}%"), ["0%", &most], faults);
        default
    }

    pub(in crate::plan::check) fn flag(&self, name: &str, faults: &mut Faults) -> bool {
        let key = self.key(name);
        let (Form::Flag, Absent::Default(default)) = (key.form, key.absent) else {
            unreachable!("the table of keys makes {} a boolean with a default", key.path)
        };
        let default = default == "true";
        let Some(value) = self.value(name) else { return default };
        if let Kind::Flag(flag) = value.kind {
            return flag;
        }
        self.mistyped(name, value, faults, "a boolean", || {
            "write true or false, without quotes".into()
        });
        default
    }

    /// The variant beside the word that is written; `variants` are in the order of the words.
    pub(in crate::plan::check) fn word<T: Copy, const COUNT: usize>(
        &self,
        name: &str,
        variants: [T; COUNT],
        faults: &mut Faults,
    ) -> T {
        let key = self.key(name);
        let (Form::Word { words, later }, Absent::Default(default)) = (&key.form, &key.absent)
        else {
            unreachable!("the table of keys makes {} a word with a default", key.path)
        };
        assert_eq!(words.len(), COUNT, "{}: a variant for each word", key.path);
        let read = |text: &str| words.iter().position(|word| *word == text);
        let default = variants[read(default).expect("the default is one of the words")];
        let choices = || format!("write {}", alternatives(words));
        let Some(value) = self.value(name) else { return default };
        let Kind::Text(text) = &value.kind else {
            self.mistyped(name, value, faults, "a string", choices);
            return default;
        };
        if let Some(index) = read(text) {
            return variants[index];
        }
        faults.add(Nature::Here, &value.span, &self.path(name), || {
            if later.contains(&text.as_str()) {
                return (format!("\"{text}\" is not supported yet"), choices());
            }
            let hint = nearest(text, words.iter().copied())
                .map_or_else(choices, |word| format!("did you mean \"{word}\"?"));
            (format!("{} is not a choice here", quoted(text)), hint)
        });
        default
    }

    /// A string; when it is absent and must not be, that is a fault.
    pub(in crate::plan::check) fn text(&self, name: &str, faults: &mut Faults) -> Option<Text<'a>> {
        let key = self.key(name);
        debug_assert_eq!(key.form, Form::Text, "{}", key.path);
        let Some(value) = self.value(name) else {
            self.require(key, name, faults);
            return None;
        };
        let text = as_text(value, self.path(name), faults)?;
        no_zero(&text, faults).then_some(text)
    }

    /// Strings; `None` when absent or of a wrong form. An empty list is a fault: whoever writes it
    /// means either all or none, and nobody can tell which.
    pub(in crate::plan::check) fn list(
        &self,
        name: &str,
        faults: &mut Faults,
    ) -> Option<Vec<Text<'a>>> {
        let key = self.key(name);
        debug_assert_eq!(key.form, Form::List, "{}", key.path);
        let value = self.value(name)?;
        let Kind::List(list) = &value.kind else {
            self.mistyped(name, value, faults, "a list of strings", || match &value.kind {
                Kind::Text(text) if name == "command" => {
                    let words: Vec<&str> = text.split_whitespace().collect();
                    format!("write program and arguments apart: command = {words:?}")
                }
                Kind::Text(text) => format!("write [{text:?}]"),
                _ => "write [\"...\"]".into(),
            });
            return None;
        };
        if list.is_empty() {
            self.refuse(name, Nature::Here, faults, || {
                let hint = match &key.absent {
                    Absent::Means(meaning) => {
                        format!("leave it out if {name} is not meant to be set ({meaning})")
                    }
                    _ => "write at least one".into(),
                };
                ("is empty".into(), hint)
            });
            return None;
        }
        let texts = list.iter().filter_map(|value| as_text(value, self.path(name), faults));
        let texts: Vec<_> = texts.collect();
        Some(texts.into_iter().filter(|text| no_zero(text, faults)).collect())
    }

    /// Strings; `None` when absent or of a wrong form. An empty list says that there are none.
    pub(in crate::plan::check) fn series(
        &self,
        name: &str,
        faults: &mut Faults,
    ) -> Option<Vec<Text<'a>>> {
        let key = self.key(name);
        debug_assert_eq!(key.form, Form::Series, "{}", key.path);
        let value = self.value(name)?;
        let Kind::List(list) = &value.kind else {
            self.mistyped(name, value, faults, "a list of strings", || match &value.kind {
                Kind::Text(text) => format!("write [{text:?}]"),
                _ => "write [\"...\"], or [] for none".into(),
            });
            return None;
        };
        let texts: Vec<_> =
            list.iter().filter_map(|value| as_text(value, self.path(name), faults)).collect();
        Some(texts.into_iter().filter(|text| no_zero(text, faults)).collect())
    }

    /// Names of the operator's choosing, each with a string.
    pub(in crate::plan::check) fn map(
        &self,
        name: &str,
        faults: &mut Faults,
    ) -> Vec<(Text<'a>, Text<'a>)> {
        debug_assert_eq!(self.key(name).form, Form::Map);
        let Some(table) = self.table(name, faults) else { return Vec::new() };
        let mut pairs = Vec::with_capacity(table.entries.len());
        for entry in &table.entries {
            let path = join(&self.path(name), &entry.name);
            let name = Text { content: &entry.name, at: entry.span.clone(), path: path.clone() };
            if let Some(value) = as_text(&entry.value, path, faults)
                && no_zero(&value, faults)
            {
                pairs.push((name, value));
            }
        }
        pairs
    }

    fn require(&self, key: &Key, name: &str, faults: &mut Faults) {
        // One mistake is told once: a misspelt key is told where it stands.
        let is_misspelt = self.table.entries.iter().any(|entry| {
            keys::find(self.schema, &entry.name).is_none()
                && nearest(&entry.name, keys::names(self.schema)) == Some(name)
        });
        if key.absent == Absent::Fault && !is_misspelt {
            self.lacks(name, faults, || {
                let doc = key.doc.trim_end_matches('.');
                (format!("{name} is missing"), format!("add {name} = \"...\": {doc}"))
            });
        }
    }

    /// What `read` makes of a string; anything else is a fault.
    fn measure<T>(
        &self,
        name: &str,
        faults: &mut Faults,
        read: impl FnOnce(&str) -> Option<T>,
        repair: impl FnOnce(&str) -> String,
        wanted: &'static str,
    ) -> Option<(T, Range<usize>)> {
        let value = self.value(name)?;
        match &value.kind {
            Kind::Text(text) => {
                if let Some(amount) = read(text) {
                    return Some((amount, value.span.clone()));
                }
                faults.add(Nature::Here, &value.span, &self.path(name), || {
                    let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                    let what = if bare { "has no unit".into() } else { format!("is not {wanted}") };
                    (format!("{} {what}", quoted(text)), repair(text))
                });
            }
            Kind::Integer(integer) => {
                faults.add(Nature::Here, &value.span, &self.path(name), || {
                    (format!("{integer} has no unit"), repair(&format!("{integer}")))
                });
            }
            _ => self.mistyped(name, value, faults, wanted, || repair("")),
        }
        None
    }

    /// A fault that names the bounds as they would be written.
    fn out_of_range(
        &self,
        name: &str,
        at: &Range<usize>,
        found: &str,
        [min, max]: [&str; 2],
        faults: &mut Faults,
    ) {
        faults.add(Nature::Here, at, &self.path(name), || {
            (format!("{found} is out of range"), format!("write {min} at least, {max} at most"))
        });
    }
}

/// `"a", "b" or "c"`
fn alternatives(words: &[&str]) -> String {
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        text.push_str(match index {
            0 => "",
            _ if index + 1 == words.len() => " or ",
            _ => ", ",
        });
        text.extend(["\"", word, "\""]);
    }
    text
}

fn as_text<'a>(value: &'a Value, path: String, faults: &mut Faults) -> Option<Text<'a>> {
    match &value.kind {
        Kind::Text(text) => Some(Text { content: text, at: value.span.clone(), path }),
        kind => {
            mistyped(value, &path, faults, "a string", || match kind {
                Kind::Integer(integer) => format!("write \"{integer}\""),
                Kind::Flag(flag) => format!("write \"{flag}\""),
                _ => "write it between quotes".into(),
            });
            None
        }
    }
}

/// No string of ours may hold a zero byte: paths, arguments and variables end at it.
fn no_zero(text: &Text<'_>, faults: &mut Faults) -> bool {
    let clean = !text.content.contains('\0');
    if !clean {
        text.refuse(faults, || ("holds a zero byte".into(), "remove \\u0000".into()));
    }
    clean
}
