//! Pages that a pool sends with its 503.

use super::file;
use crate::base::limits::ERROR_PAGE_SIZE_MAX;
use crate::plan::fault::{Fault, Nature};
use crate::plan::raw::{Kind, Table};
use crate::plan::{Plan, Source};
use core::ops::Range;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Reads them all; one that cannot be read is a fault of its pool.
pub(super) fn load(
    plan: &Plan,
    document: &Table,
    faults: &mut Vec<Fault>,
) -> BTreeMap<String, Arc<[u8]>> {
    let mut pages = BTreeMap::new();
    for pool in &plan.pools {
        let Source::Garden(garden) = &pool.source else { continue };
        let Some(path) = &garden.queue.error_page else { continue };
        match file::read_plainly(Path::new(path), ERROR_PAGE_SIZE_MAX) {
            Ok(page) => {
                pages.insert(pool.name.clone(), page.into());
            }
            Err(cause) => {
                let (cause, hint) = cause.rsplit_once(". ").unwrap_or((&cause, "check the file"));
                faults.push(Fault {
                    span: place(document, &pool.name).unwrap_or_default(),
                    path: format!("pool.{}.queue.error_page", pool.name),
                    what: format!("reading {path}: {cause}"),
                    hint: hint.to_owned(),
                    nature: Nature::Here,
                    pool: Some(pool.name.clone()),
                });
            }
        }
    }
    pages
}

/// Where the path is written.
fn place(document: &Table, pool: &str) -> Option<Range<usize>> {
    let queue = below(below(below(document, "pool")?, pool)?, "queue")?;
    Some(queue.find("error_page")?.value.span.clone())
}

fn below<'a>(table: &'a Table, name: &str) -> Option<&'a Table> {
    match &table.find(name)?.value.kind {
        Kind::Table(below) => Some(below),
        _ => None,
    }
}
