//! The table of keys against everything that should agree with it.

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/configuration.md");

/// Two pools and one of everything, as dotted keys, so that any key can be put in front.
const BASE: &str = r#"
pool.p.servers = ["127.0.0.1:1"]
pool.p.check.path = "/"
pool.c.command = ["app"]
pool.c.ready.path = "/"
pool.c.affinity.name = "n"
[[listen]]
address = "127.0.0.1:80"
#listen
[[site]]
name = "s"
[[site.route]]
path = "/"
pool = "p"
"#;

#[test]
fn each_key_stands_once() {
    let paths: BTreeSet<_> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(paths.len(), KEYS.len());
    assert!(KEYS.iter().all(|key| key.doc.ends_with('.')));
}

#[test]
fn a_default_written_out_changes_nothing() {
    let base = plan(BASE);
    let mut count = 0;
    for key in KEYS {
        if let Absent::Default(default) = key.absent {
            assert_eq!(plan(&with(key, &written(key, default))), base, "{}", key.path);
            count += 1;
        }
    }
    assert!(count > 55, "{count}");
}

#[test]
fn bounds_are_where_the_table_puts_them() {
    let is_refused = |key: &Key, value: &str| {
        parse(&with(key, &written(key, value)), "a").is_err_and(|report| {
            let about = |it: &Complaint| {
                it.fault.path == path_of(key) && it.fault.what.contains("out of range")
            };
            report.complaints.iter().any(about)
        })
    };
    for key in KEYS {
        let Some((bounds, beyond)) = bounds(key) else { continue };
        for bound in bounds {
            assert!(!is_refused(key, &bound), "{} = {bound}", key.path);
        }
        for beyond in beyond.into_iter().flatten() {
            assert!(is_refused(key, &beyond), "{} = {beyond}", key.path);
        }
    }
}

#[test]
fn the_table_allows_no_more_than_the_product() {
    use crate::base::limits;
    for (path, most) in [
        ("server.threads", limits::THREADS_MAX.to_string()),
        ("pool.NAME.workers", limits::WORKERS_MAX.to_string()),
        ("pool.NAME.min_workers", limits::WORKERS_MAX.to_string()),
        ("server.limits.header_count", limits::HEADER_COUNT_MAX.to_string()),
        ("server.limits.head_size", units::show_size(limits::HEAD_SIZE_MAX as u64)),
        ("server.limits.target_size", units::show_size(limits::HEAD_SIZE_MAX as u64)),
    ] {
        let key = KEYS.iter().find(|key| key.path == path).unwrap();
        assert_eq!(bounds(key).unwrap().0[1], most, "{path}");
    }
}

/// The least and the most, and what is just beyond them, as written.
fn bounds(key: &Key) -> Option<([String; 2], [Option<String>; 2])> {
    match key.form {
        Form::Duration { min, max } | Form::Optional { min, max } => {
            let step = Duration::from_millis(1);
            let [least, most] = [min, max].map(|text| units::duration(text).unwrap());
            let beyond = [least.checked_sub(step), most.checked_add(step)];
            Some(([min.into(), max.into()], beyond.map(|it| it.map(units::show_duration))))
        }
        Form::Size { min, max } => {
            let [least, most] = [min, max].map(|text| units::size(text).unwrap());
            let beyond = [least.checked_sub(1), most.checked_add(1)];
            Some(([min.into(), max.into()], beyond.map(|it| it.map(units::show_size))))
        }
        Form::Integer { min, max } => {
            let beyond = [i64::from(min) - 1, i64::from(max) + 1];
            Some(([min.to_string(), max.to_string()], beyond.map(|it| Some(it.to_string()))))
        }
        Form::Percent { max } => {
            let beyond = [None, Some(format!("{}%", u32::from(max) + 1))];
            Some((["0%".into(), format!("{max}%")], beyond))
        }
        _ => None,
    }
}

#[test]
fn keys_of_later_are_known_and_refused() {
    let mut count = 0;
    for key in KEYS.iter().filter(|key| key.form == Form::Later) {
        let found = complaints(&with(key, "1"));
        assert!(found.iter().any(|it| it.fault.what == "not supported yet"), "{}", key.path);
        count += 1;
    }
    assert!(count > 2, "{count}");
}

#[test]
fn the_full_example_shows_every_key() {
    let mut shown = BTreeSet::new();
    let (document, errors) = DeTable::parse_recoverable(FULL);
    assert_eq!(errors, []);
    collect("", &table(document.get_ref()), &mut shown);
    let supported: BTreeSet<String> = supported().map(|key| key.path.to_owned()).collect();
    assert_eq!(shown, supported);
}

#[test]
fn the_reference_tells_every_key_as_the_table_does() {
    let told: Vec<&str> = DOCUMENT.lines().filter(|line| line.starts_with("### ")).collect();
    let expected: Vec<String> = supported().map(|key| format!("### {}", key.path)).collect();
    assert_eq!(told, expected);
    for key in supported() {
        let entry = format!("### {}\n\n{}\n\n{}", key.path, facts(key), key.doc);
        assert!(DOCUMENT.contains(&entry), "docs/configuration.md should have:\n{entry}");
    }
    let later = DOCUMENT.split_once("## Not supported yet").expect("the last chapter").1;
    let told: BTreeSet<&str> = later.split('`').skip(1).step_by(2).collect();
    let later = KEYS.iter().filter(|key| key.form == Form::Later);
    assert_eq!(told, later.map(|key| key.path).collect());
}

fn supported() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.form != Form::Later)
}

/// [`BASE`] with `key` set to `value`.
fn with(key: &Key, value: &str) -> String {
    if let Some(name) = key.path.strip_prefix("listen.") {
        return BASE.replace("#listen", &format!("{name} = {value}"));
    }
    format!("{} = {value}\n{BASE}", path_of(key))
}

fn path_of(key: &Key) -> String {
    let of_servers = ["servers", "check", "transport", "upstream", "lend"];
    let is_of_servers = |rest: &str| of_servers.iter().any(|name| rest.starts_with(name));
    let pool = key.path.strip_prefix("pool.NAME.").filter(|rest| is_of_servers(rest));
    key.path.replace("NAME", if pool.is_some() { "p" } else { "c" })
}

fn written(key: &Key, value: &str) -> String {
    match key.form {
        Form::Integer { .. } | Form::Flag | Form::Series => value.to_owned(),
        _ => format!("\"{value}\""),
    }
}

fn collect(path: &str, table: &Table, shown: &mut BTreeSet<String>) {
    for Entry { name, value, .. } in &table.entries {
        let path = match path {
            "" => name.clone(),
            "pool" => "pool.NAME".into(),
            _ => format!("{path}.{name}"),
        };
        shown.insert(path.clone());
        match &value.kind {
            Kind::Table(_) if path.ends_with(".environment") => {}
            Kind::Table(table) => collect(&path, table, shown),
            Kind::List(list) => list.iter().for_each(|value| {
                if let Kind::Table(table) = &value.kind {
                    collect(&path, table, shown);
                }
            }),
            _ => {}
        }
    }
}

/// The line of a key in the reference: form, bounds, default.
fn facts(key: &Key) -> String {
    let form = match key.form {
        Form::Duration { min, max } => format!("time, `\"{min}\"` to `\"{max}\"`"),
        Form::Optional { min, max } => format!("time, `\"{min}\"` to `\"{max}\"`, or `\"off\"`"),
        Form::Percent { max } => format!("percentage, `\"0%\"` to `\"{max}%\"`"),
        Form::Flag => "boolean".into(),
        Form::Series => "list of strings, may be empty".into(),
        Form::Size { min, max } => format!("size, `\"{min}\"` to `\"{max}\"`"),
        Form::Integer { min, max } => format!("integer, {min} to {max}"),
        Form::Word { words, .. } => {
            let words: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            words.join(" or ")
        }
        Form::Text => "string".into(),
        Form::List => "list of strings".into(),
        Form::Map => "table of strings".into(),
        Form::Table => "table".into(),
        Form::Tables => "list of tables".into(),
        Form::Later => unreachable!("these have no entry"),
    };
    match key.absent {
        Absent::Default(default) => format!("*{form}; default* `{}`", written(key, default)),
        Absent::Means(meaning) => format!("*{form}; without it: {meaning}*"),
        Absent::Fault => format!("*{form}; required*"),
    }
}
