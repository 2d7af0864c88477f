//! docs/performance.md: what stands between a scenario's two markers is replaced by what was measured.

use super::{Report, table};
use crate::failure::{Failure, while_doing};
use std::fs;
use std::path::{Path, PathBuf};

/// The page as it is before anything was measured.
const BLANK: &str = include_str!("performance.md");

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md")
}

/// Puts every `SCENARIO.json` of `results` in its place; the names of those found.
pub(crate) fn rewrite(results: &Path, scenarios: &[&str]) -> Result<Vec<String>, Failure> {
    let page = page();
    let mut text = fs::read_to_string(&page).unwrap_or_else(|_| BLANK.to_owned());
    let mut found = Vec::new();
    for scenario in scenarios {
        let path = results.join(format!("{scenario}.json"));
        let Ok(json) = fs::read_to_string(&path) else { continue };
        let report: Report = serde_json::from_str(&json)
            .map_err(while_doing(format!("reading {}; run that scenario anew", path.display())))?;
        text = replace(&text, scenario, &table::body(&report)).ok_or_else(|| {
            Failure::new(format!(
                "writing {}: no place for {scenario}. Put back the lines {} and {}",
                page.display(),
                begin(scenario),
                end(scenario)
            ))
        })?;
        found.push((*scenario).to_owned());
    }
    if found.is_empty() {
        return Err(Failure::new(format!(
            "looking for results in {}: none. Run a scenario first",
            results.display()
        )));
    }
    let folder = page.parent().unwrap_or(&page);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&page, text))
        .map_err(while_doing(format!("writing {}", page.display())))?;
    Ok(found)
}

fn begin(scenario: &str) -> String {
    format!("<!-- measured: {scenario} -->")
}

fn end(scenario: &str) -> String {
    format!("<!-- end: {scenario} -->")
}

fn replace(text: &str, scenario: &str, by: &str) -> Option<String> {
    let (before, rest) = text.split_once(&begin(scenario))?;
    let (_, after) = rest.split_once(&end(scenario))?;
    Some(format!("{before}{}\n\n{by}\n{}{after}", begin(scenario), end(scenario)))
}

#[cfg(test)]
mod tests {
    use super::{BLANK, begin, end, replace};
    use crate::scenario::NAMES;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("a\n{}\nold\n{}\nz\n", begin("idle"), end("idle"));
        let new = replace(&text, "idle", "new").unwrap();
        assert_eq!(new, format!("a\n{}\n\nnew\n{}\nz\n", begin("idle"), end("idle")));
        assert_eq!(replace(&new, "idle", "new").unwrap(), new);
        assert_eq!(replace(&text, "soak", "new"), None);
    }

    #[test]
    fn the_blank_page_has_a_place_for_every_scenario() {
        for scenario in NAMES {
            assert!(replace(BLANK, scenario, "x").is_some(), "{scenario}");
        }
    }
}
