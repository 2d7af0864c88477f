//! From a file, or a text, to a plan or to a report of its faults. The one place that knows TOML
//! and that counts lines.

mod file;
mod page;

use crate::base::limits::CONFIG_SIZE_MAX;
use crate::plan::check::{Checked, check};
use crate::plan::fault::{Fault, Faults, Nature};
use crate::plan::raw::{Entry, Kind, Table, Value};
use crate::plan::{Plan, Source};
use core::fmt;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The configuration of a first run, when no file is named.
pub const QUICKSTART: &str = include_str!("../../config/quickstart.toml");

/// Of a longer text only the first error of the syntax is told: one that is no configuration at all,
/// a log say, would cost a hundred times its size in errors.
const RECOVERY_SIZE_MAX: usize = 1024 * 1024;

/// A configuration that holds, but perhaps for single pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub plan: Plan,
    /// As it was read, for processes that are handed it instead of the file.
    pub text: String,
    /// Pool to the body of its 503, where one is written and could be read.
    pub pages: BTreeMap<String, Arc<[u8]>>,
    /// What is wrong with single pools. Each fault names its pool.
    pub complaint: Option<Report>,
}

/// Why there is no plan. Shows as one line a fault, `file:line:column: path: what. hint`, and a
/// line that counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of the file, as it was given.
    pub name: String,
    /// In the order of the file; empty when it could not be read at all.
    pub complaints: Vec<Complaint>,
    /// What went wrong before a line could be read.
    pub cause: Option<String>,
}

/// A fault and where its line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub fault: Fault,
}

/// Reads and checks a file. Relative paths in it are taken to start at its directory. An error is
/// told only where no pool is left to run.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let fail = |cause: String| Report {
        name: name.clone(),
        complaints: Vec::new(),
        cause: Some(format!("reading {name}: {cause}")),
    };
    let bytes = file::read(path, CONFIG_SIZE_MAX).map_err(fail)?;
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(&error, &name))?;
    let (document, Checked { mut plan, mut faults }) =
        checked(&text).map_err(|faults| report(faults, &text, &name))?;
    let absolute = std::path::absolute(path).map_err(|error| fail(error.to_string()))?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    anchor(&mut plan, directory).map_err(fail)?;
    let pages = page::load(&plan, &document, &mut faults);
    faults.sort_by_key(|fault| (fault.span.start, fault.span.end));
    let complaint = (!faults.is_empty()).then(|| report(faults, &text, &name));
    Ok(Loaded { plan, text, pages, complaint })
}

/// Checks a text, all of it; `name` stands for it in the report.
pub fn parse(text: &str, name: &str) -> Result<Plan, Report> {
    match salvage(text, name)? {
        (plan, None) => Ok(plan),
        (_, Some(report)) => Err(report),
    }
}

/// Checks a text. A pool that alone is at fault is left out of the plan as [`Source::Invalid`], and
/// told of in the report beside it.
pub fn salvage(text: &str, name: &str) -> Result<(Plan, Option<Report>), Report> {
    let (_, Checked { plan, faults }) =
        checked(text).map_err(|faults| report(faults, text, name))?;
    Ok((plan, (!faults.is_empty()).then(|| report(faults, text, name))))
}

fn checked(text: &str) -> Result<(Table, Checked), Vec<Fault>> {
    if text.len() > RECOVERY_SIZE_MAX
        && let Err(error) = DeTable::parse(text)
    {
        return Err(vec![syntax_fault(&error, text)]);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    let syntax = errors.iter().map(|error| syntax_fault(error, text)).collect();
    let document = table(document.get_ref());
    check(&document, text.len(), syntax).map(|checked| (document, checked))
}

impl Loaded {
    /// Tells the operator, in the log, of the pools that are at fault.
    pub fn complain(&self) {
        let Some(report) = &self.complaint else { return };
        for line in report.to_string().lines() {
            tracing::error!("{line}");
        }
        tracing::error!("the pools named there are at fault; the others run");
    }

    /// Whether it may take the place of `old`: a pool that is at fault now and was not before would
    /// lose what it runs.
    pub fn may_replace(&self, old: &Plan) -> Result<(), Report> {
        let Some(report) = &self.complaint else { return Ok(()) };
        let is_sound = |name: &str| {
            let pool = old.pools.iter().find(|pool| pool.name == name);
            pool.is_some_and(|pool| !matches!(pool.source, Source::Invalid(_)))
        };
        let mut at_fault = report.complaints.iter().filter_map(|it| it.fault.pool.as_deref());
        if at_fault.any(is_sound) { Err(report.clone()) } else { Ok(()) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cause) = &self.cause {
            return writeln!(f, "{cause}");
        }
        for Complaint { line, column, fault } in &self.complaints {
            write!(f, "{}:{line}:{column}: ", self.name)?;
            if !fault.path.is_empty() {
                write!(f, "{}: ", fault.path)?;
            }
            writeln!(f, "{}. {}", fault.what, fault.hint)?;
        }
        match self.complaints.len() {
            1 => writeln!(f, "{}: 1 fault", self.name),
            Faults::COUNT_MAX => writeln!(f, "{}: {} faults or more", self.name, Faults::COUNT_MAX),
            count => writeln!(f, "{}: {count} faults", self.name),
        }
    }
}

impl std::error::Error for Report {}

fn not_utf8(error: &std::string::FromUtf8Error, name: &str) -> Report {
    let at = error.utf8_error().valid_up_to();
    let good = String::from_utf8_lossy(&error.as_bytes()[..at]);
    let fault = Fault {
        span: at..at,
        path: String::new(),
        what: "this byte is not UTF-8".into(),
        hint: "save the file as UTF-8".into(),
        nature: Nature::Syntax,
        pool: None,
    };
    report(vec![fault], &good, name)
}

fn syntax_fault(error: &toml::de::Error, text: &str) -> Fault {
    let span = error.span().unwrap_or(text.len()..text.len());
    // Its second line, where there is one, says what was expected.
    let what = error.message().trim().replace('\n', ", ");
    let known = SYNTAX_HINTS.iter().find(|(part, _)| what.contains(part));
    let hint = known.map_or("see https://toml.io for what may stand here", |(_, hint)| hint).into();
    Fault { span, path: String::new(), what, hint, nature: Nature::Syntax, pool: None }
}

/// Part of what the parser says, and the remedy.
const SYNTAX_HINTS: [(&str, &str); 6] = [
    ("duplicate key", "write each key and each table once"),
    ("must be quoted", "write it between quotes, such as \"30s\""),
    ("invalid basic string", "end it with \" on the same line"),
    ("unclosed", "close it"),
    ("missing comma", "put a comma between the two"),
    ("expected newline", "write each key on a line of its own"),
];

/// Lines for the faults. Of a line that could not be read only the syntax is reported: what the
/// parser made up to go on is nobody's mistake.
fn report(faults: Vec<Fault>, text: &str, name: &str) -> Report {
    let starts: Vec<usize> =
        core::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let line_of = |at: usize| starts.partition_point(|start| *start <= at);
    let unread: Vec<usize> = faults
        .iter()
        .filter(|fault| fault.nature == Nature::Syntax)
        .map(|fault| line_of(fault.span.start))
        .collect();
    let mut complaints: Vec<Complaint> = Vec::with_capacity(faults.len());
    // Where the last fault was, so that no line is counted from its start once a fault.
    let (mut line_before, mut at, mut column) = (0, 0, 1);
    for fault in faults {
        let line = line_of(fault.span.start);
        if fault.nature != Nature::Syntax && unread.contains(&line) {
            continue;
        }
        if line != line_before {
            (line_before, at, column) = (line, starts[line - 1], 1);
        }
        let between = text.as_bytes().get(at..fault.span.start).unwrap_or_default();
        column += String::from_utf8_lossy(between).chars().count();
        at = at.max(fault.span.start);
        let is_told = |told: &Complaint| {
            (told.line, told.column, &told.fault.what) == (line, column, &fault.what)
        };
        if !complaints.last().is_some_and(is_told) {
            complaints.push(Complaint { line, column, fault });
        }
    }
    Report { name: name.to_owned(), complaints, cause: None }
}

/// Makes paths absolute, so that they mean the same wherever the supervisor stands.
fn anchor(plan: &mut Plan, directory: &Path) -> Result<(), String> {
    for pool in &mut plan.pools {
        let Source::Garden(garden) = &mut pool.source else { continue };
        for (key, path) in [
            ("working_directory", &mut garden.command.working_directory),
            ("queue.error_page", &mut garden.queue.error_page),
        ] {
            let Some(written) = path else { continue };
            let absolute: PathBuf = directory.join(&*written).components().collect();
            *written = absolute.into_os_string().into_string().map_err(|_| {
                format!(
                    "its directory is not UTF-8, which pool.{}.{key} starts at. write an absolute \
                     path there",
                    pool.name
                )
            })?;
        }
    }
    Ok(())
}

fn table(source: &DeTable<'_>) -> Table {
    let mut entries: Vec<Entry> = source
        .iter()
        .map(|(name, source)| Entry {
            name: name.get_ref().to_string(),
            span: name.span(),
            value: value(source),
        })
        .collect();
    entries.sort_by_key(|entry| entry.span.start);
    Table { entries }
}

fn value(source: &Spanned<DeValue<'_>>) -> Value {
    let kind = match source.get_ref() {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(integer) => {
            let (text, radix) = (integer.as_str(), integer.radix());
            let far = if text.starts_with('-') { i128::MIN } else { i128::MAX };
            Kind::Integer(i128::from_str_radix(text, radix).unwrap_or(far))
        }
        DeValue::Float(_) => Kind::Float,
        DeValue::Boolean(flag) => Kind::Flag(*flag),
        DeValue::Datetime(_) => Kind::Moment,
        DeValue::Array(list) => Kind::List(list.iter().map(value).collect()),
        DeValue::Table(source) => Kind::Table(table(source)),
    };
    Value { span: source.span(), kind }
}

#[cfg(test)]
mod tests;
