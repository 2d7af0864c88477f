//! The house rules that neither the compiler nor clippy can hold: which floor imports which, where
//! `unsafe` may stand, how large a file grows, what a file says about itself, and that the
//! documents agree with the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A floor, and the floors it may import; ARCHITECTURE.md has the same table.
const FLOORS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("http", &["base"]),
    ("plan", &["base"]),
    ("machine", &["base", "http", "plan"]),
    ("sys", &["base"]),
    ("shell", &["base", "http", "plan", "machine", "sys"]),
    ("cli", &["base", "plan", "sys", "shell"]),
];

/// The only files outside `src/sys` that may be unsafe: one prepares processes between fork and
/// exec, one is an allocator that counts.
const UNSAFE_TESTS: [&str; 2] = ["tests/it/harness/spawn.rs", "tests/it/steady.rs"];

const FILE_LINES_MAX: usize = 600;
/// Conditional compilation in the product, tests apart: one platform, no features.
const CFG_MAX: usize = 8;
/// Packages in the lock file, our own and those of tests and benchmarks among them.
const PACKAGES_MAX: usize = 160;

struct File {
    /// From the repository's root.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

/// All files with one of these endings, sorted; what is built or fetched is not ours.
fn files(endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut open = vec![root().to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if !["target", ".git", ".venv", "corpus", "artifacts", "results"]
                    .contains(&name.as_str())
                {
                    open.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.iter().map(file).collect()
}

fn file(path: &PathBuf) -> File {
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    File {
        text: fs::read_to_string(path).unwrap_or_else(|cause| panic!("{name}: {cause}")),
        path: name,
    }
}

fn sources() -> Vec<File> {
    files(&[".rs"])
}

/// The code alone: comments and the contents of strings become blanks, lines stay where they are.
fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match (bytes[at], bytes.get(at + 1)) {
            ('/', Some('/')) => line_end(&bytes, at),
            ('/', Some('*')) => after(&bytes, at + 2, &['*', '/']),
            ('"', _) => string_end(&bytes, at + 1),
            ('r', Some('"' | '#')) if !is_word(&bytes, at) => raw_end(&bytes, at),
            ('\'', _) => quote_end(&bytes, at),
            _ => at,
        };
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|&c| if c == '\n' { c } else { ' ' }));
            at = end;
        }
    }
    out
}

fn is_word(text: &[char], at: usize) -> bool {
    at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_')
}

fn line_end(text: &[char], at: usize) -> usize {
    text[at..].iter().position(|&c| c == '\n').map_or(text.len(), |size| at + size)
}

fn after(text: &[char], at: usize, mark: &[char]) -> usize {
    let found = text[at..].windows(mark.len()).position(|window| window == mark);
    found.map_or(text.len(), |size| at + size + mark.len())
}

fn string_end(text: &[char], mut at: usize) -> usize {
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn raw_end(text: &[char], at: usize) -> usize {
    let hashes = text[at + 1..].iter().take_while(|&&c| c == '#').count();
    if text.get(at + 1 + hashes) != Some(&'"') {
        return at; // a raw identifier
    }
    let mark: Vec<char> = ['"'].into_iter().chain(std::iter::repeat_n('#', hashes)).collect();
    after(text, at + hashes + 2, &mark)
}

/// A character literal is blanked, a lifetime is not one.
fn quote_end(text: &[char], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some('\\'), _) => after(text, at + 3, &['\'']),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// The floor of a source file; `None` for the roots above all floors.
fn floor(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let name = inside.split('/').next()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (!["lib", "main"].contains(&name)).then_some(name)
}

/// First segments of all paths that begin at the crate's root, grouped imports among them.
fn imported(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.extend(word(rest)),
        }
    }
    found
}

fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The first segment of each entry of a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut depth, mut is_start) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && !c.is_whitespace() => {
                found.extend(word(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    found
}

fn expect_none(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn floors_import_only_what_lies_below() {
    let floors: BTreeMap<&str, &[&str]> = FLOORS.iter().copied().collect();
    let mut offenders = Vec::new();
    let mut seen = BTreeSet::new();
    for file in sources() {
        let Some(own) = floor(&file.path) else { continue };
        let Some(allowed) = floors.get(own) else {
            offenders.push(format!("{}: {own} is no floor", file.path));
            continue;
        };
        seen.insert(own.to_owned());
        for other in imported(&code(&file.text)) {
            let is_floor = floors.contains_key(other.as_str());
            if other != own && is_floor && !allowed.contains(&other.as_str()) {
                offenders.push(format!("{}: {own} may not import {other}", file.path));
            }
            if !is_floor {
                offenders.push(format!("{}: imports {other}, which is no floor", file.path));
            }
        }
    }
    expect_none("imports", &offenders);
    assert_eq!(seen.len(), FLOORS.len(), "floors found: {seen:?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::{base::id, sys::{a, b}, http};\nfn f(x: crate::plan::Plan) {}\n\
                // crate::cli\nlet s = \"crate::shell\"; let q = '\"'; crate::machine::x();";
    let found: Vec<String> = imported(&code(text)).into_iter().collect();
    assert_eq!(found, ["base", "http", "machine", "plan", "sys"]);
}

#[test]
fn unsafe_stands_only_in_sys() {
    let is_allowed = |path: &str| path.starts_with("src/sys/") || UNSAFE_TESTS.contains(&path);
    let has = |file: &File| {
        code(&file.text)
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == "unsafe")
    };
    let files = sources();
    // A load test and fuzz targets are artefacts of their own, each with its own few calls.
    let ours = |file: &&File| file.path.starts_with("src/") || file.path.starts_with("tests/");
    let offenders: Vec<String> = files
        .iter()
        .filter(ours)
        .filter(|file| !is_allowed(&file.path) && has(file))
        .map(|file| file.path.clone())
        .collect();
    expect_none("unsafe outside src/sys", &offenders);
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    let mut offenders = Vec::new();
    for file in sources() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            offenders.push(format!("{}: {lines} lines", file.path));
        }
        let opening = file.text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        if !opening.starts_with("//! ") {
            offenders.push(format!("{}: does not open with //!", file.path));
        }
    }
    expect_none("files", &offenders);
}

#[test]
fn nothing_is_left_for_later() {
    // In two parts each, so that this file does not offend.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|parts| parts.concat());
    let mut offenders = Vec::new();
    for file in files(&[".rs", ".md", ".toml", ".sh", ".py", "run", "test"]) {
        for (number, line) in file.text.lines().enumerate() {
            if marks
                .iter()
                .any(|mark| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark))
            {
                offenders.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    expect_none("marks", &offenders);
}

#[test]
fn the_product_prints_nothing_by_macro() {
    let mut offenders = Vec::new();
    for file in sources().iter().filter(|file| file.path.starts_with("src/")) {
        let code = code(&file.text);
        if file.path.contains("/tests/") || file.path.ends_with("/tests.rs") {
            continue; // the test runner captures and shows it
        }
        for print in ["println!", "eprintln!", "print!", "eprint!"] {
            if code.contains(print) {
                offenders.push(format!("{}: {print}", file.path));
            }
        }
    }
    expect_none("output goes through the log or a locked stream", &offenders);
}

#[test]
fn conditional_compilation_is_rare() {
    let mut found = Vec::new();
    for file in sources().iter().filter(|file| file.path.starts_with("src/")) {
        for line in code(&file.text).lines() {
            let is_conditional =
                line.contains("cfg(") || line.contains("cfg_attr(") || line.contains("cfg!(");
            if is_conditional && !line.contains("cfg(test)") {
                found.push(format!("{}: {}", file.path, line.trim()));
            }
        }
    }
    assert!(found.len() <= CFG_MAX, "more than {CFG_MAX}:\n  {}", found.join("\n  "));
}

#[test]
fn names_say_something() {
    const EMPTY: &[&str] = &[
        "Manager", "Handler", "Helper", "Util", "Utils", "Common", "Context", "Info", "Data",
        "Impl",
    ];
    let mut offenders = Vec::new();
    for file in sources() {
        let code = code(&file.text);
        let mut words =
            code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            let is_type = ["struct", "enum", "trait", "type", "union"].contains(&word);
            let Some(name) = (is_type || word == "fn").then(|| words.next()).flatten() else {
                continue;
            };
            // `Data` is hyper's own name for what a body yields.
            let is_foreign = word == "type" && name == "Data";
            let is_empty = is_type
                && !is_foreign
                && humps(name).iter().any(|hump| EMPTY.contains(&hump.as_str()));
            // `get_mut` is the standard library's own word beside `get`.
            let is_noise = name != "get_mut"
                && ["get_", "do_", "my_"].iter().any(|noise| name.starts_with(noise));
            if is_empty || is_noise {
                offenders.push(format!("{}: {name}", file.path));
            }
        }
    }
    expect_none("names", &offenders);
}

/// The words of a name in camel case.
fn humps(name: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for c in name.chars() {
        match found.last_mut() {
            Some(hump) if !c.is_uppercase() => hump.push(c),
            _ => found.push(c.into()),
        }
    }
    found
}

#[test]
fn the_architecture_page_has_the_same_floors() {
    let page = read("ARCHITECTURE.md");
    let rows: Vec<(String, Vec<String>)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let name = cells.next()?.trim_end_matches('`').to_owned();
            let name = name.strip_prefix("src/").map(str::to_owned)?;
            let names =
                |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            Some((name, names(cells.next()?)))
        })
        .collect();
    let expected: Vec<(String, Vec<String>)> = FLOORS
        .iter()
        .map(|(name, below)| {
            ((*name).to_owned(), below.iter().map(|name| (*name).to_owned()).collect())
        })
        .collect();
    assert_eq!(rows, expected, "ARCHITECTURE.md, \"Code map\"");
}

#[test]
fn every_direct_dependency_has_its_reason_on_the_architecture_page() {
    let page = read("ARCHITECTURE.md");
    let mut offenders = Vec::new();
    for manifest in files(&["Cargo.toml"]) {
        let table: toml::Table = manifest.text.parse().unwrap();
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(names) = table.get(kind).and_then(toml::Value::as_table) else { continue };
            for name in names.keys().filter(|name| *name != "lychgate") {
                if !page.contains(&format!("`{name}`")) {
                    offenders.push(format!("{}: {name}", manifest.path));
                }
            }
        }
    }
    expect_none("dependencies without a reason in ARCHITECTURE.md", &offenders);
}

#[test]
fn the_dependency_tree_stays_small() {
    let count = read("Cargo.lock").lines().filter(|line| *line == "[[package]]").count();
    assert!(
        count <= PACKAGES_MAX,
        "{count} packages, more than {PACKAGES_MAX}: which one came for what?"
    );
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut offenders = Vec::new();
    for file in files(&[".md"]) {
        let here = root().join(&file.path);
        for piece in file.text.split("](").skip(1) {
            let target = piece.split([')', '#']).next().unwrap();
            let is_local =
                !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
            if is_local && !here.parent().unwrap().join(target).exists() {
                offenders.push(format!("{}: {target}", file.path));
            }
        }
    }
    expect_none("broken links", &offenders);
}

#[test]
fn the_readme_and_the_checks_run_the_same_commands() {
    let (readme, checks) = (read("README.md"), read(".ci/run"));
    for command in ["cargo run --release", "./test"] {
        for (name, text) in [("README.md", &readme), (".ci/run", &checks)] {
            let is_there = text.lines().any(|line| {
                line.trim_start().starts_with(command) || line.contains(&format!(" {command}"))
            });
            assert!(is_there, "{name} does not run `{command}`");
        }
    }
}
