//! Whether a new release was put in place: what a command names (`/srv/app/current`) leads
//! somewhere else than before. Looked at, not watched: there are few names, and any file system
//! and any way of changing them will do.

use crate::base::time::Instant;
use crate::plan::Command;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Words of a command that are looked at.
const WORDS_MAX: usize = 16;

/// Where each name leads; `None`: nowhere, now.
type Places = Vec<Option<PathBuf>>;

/// The names of one pool's command, and where they lead.
#[derive(Clone, Debug)]
pub struct Release {
    /// The program may be in any of several places; the first that is there counts.
    names: Vec<Vec<PathBuf>>,
    places: Places,
    /// Where they led at the last look, if that is elsewhere.
    seen: Option<Places>,
    look: Instant,
}

impl Release {
    /// What is in place now is the release that runs. `path` is the `PATH` of the workers.
    pub fn new(command: &Command, path: &str, now: Instant) -> Self {
        let names = names(command, path);
        let places = resolve(&names);
        Self { names, places, seen: None, look: now + PERIOD }
    }

    /// When [`Release::step`] is to be called again.
    pub fn deadline(&self) -> Instant {
        self.look
    }

    /// Whether another release is in place since the last time this was true. Told once it has
    /// stood for a period: a change of several names is one, and a name that leads nowhere while
    /// it is changed is none.
    pub fn step(&mut self, now: Instant) -> bool {
        if now < self.look {
            return false;
        }
        self.look = now + PERIOD;
        let mut places = resolve(&self.names);
        for (place, before) in places.iter_mut().zip(&self.places) {
            if place.is_none() {
                place.clone_from(before);
            }
        }
        if places == self.places {
            self.seen = None;
            return false;
        }
        if self.seen.as_ref() != Some(&places) {
            self.seen = Some(places);
            return false;
        }
        self.places = places;
        self.seen = None;
        true
    }
}

/// The working directory, the program, and every other word that is a path.
fn names(command: &Command, path: &str) -> Vec<Vec<PathBuf>> {
    let folder = command.working_directory.as_deref().map_or_else(PathBuf::new, PathBuf::from);
    let program = command.argv.first().filter(|word| !word.contains(['/', '{']));
    let program = program.map(|name| {
        let folders = path.split(':').filter(|folder| !folder.is_empty());
        folders.map(|folder| Path::new(folder).join(name)).collect()
    });
    let words = command.argv.iter().filter(|word| word.contains('/') && !word.contains('{'));
    // A name from the working directory on; an absolute one stays what it is.
    let words = words.take(WORDS_MAX).map(|word| vec![folder.join(word)]);
    let working_directory = command.working_directory.is_some().then(|| vec![folder.clone()]);
    working_directory.into_iter().chain(program).chain(words).collect()
}

fn resolve(names: &[Vec<PathBuf>]) -> Places {
    let first = |choices: &Vec<PathBuf>| choices.iter().find_map(|name| name.canonicalize().ok());
    names.iter().map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Bind;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn command(argv: &[&str], folder: Option<&Path>) -> Command {
        Command {
            argv: argv.iter().map(ToString::to_string).collect(),
            bind: Bind::Port,
            working_directory: folder.map(|folder| folder.to_str().unwrap().to_owned()),
            environment: Vec::new(),
            ready: None,
        }
    }

    /// Two releases, and `current`, which leads to the first.
    fn releases() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for number in ["1", "2"] {
            let folder = root.path().join("releases").join(number);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("app"), number).unwrap();
        }
        symlink("releases/1", root.path().join("current")).unwrap();
        root
    }

    fn lead(root: &Path, release: &str) {
        let (new, current) = (root.join("new"), root.join("current"));
        symlink(release, &new).unwrap();
        fs::rename(&new, &current).unwrap();
    }

    fn at(seconds: u64) -> Instant {
        Instant(0) + PERIOD * u32::try_from(seconds).unwrap()
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_told_of_once_it_has_stood() {
        let root = releases();
        let current = root.path().join("current");
        let app = current.join("app").to_str().unwrap().to_owned();
        for command in [
            command(&[&app], None),
            command(&["python3", &app], None),
            command(&["./app"], Some(&current)),
            command(&["python3", "-m", "app"], Some(&current)),
        ] {
            lead(root.path(), "releases/1");
            let mut release = Release::new(&command, "/usr/bin", at(0));
            assert!(!release.step(at(1)), "{command:?}");
            lead(root.path(), "releases/2");
            assert_eq!(release.deadline(), at(2));
            assert!(!release.step(at(1) + PERIOD / 2) && !release.step(at(2)), "{command:?}");
            assert!(release.step(at(3)), "{command:?}");
            assert!(!release.step(at(4)), "{command:?}");
        }
    }

    #[test]
    fn what_does_not_stand_is_no_release() {
        let root = releases();
        let current = root.path().join("current");
        let mut release = Release::new(&command(&["true"], Some(&current)), "/bin", at(0));
        fs::remove_file(&current).unwrap();
        assert!(!release.step(at(1)) && !release.step(at(2)) && !release.step(at(3)));
        symlink("releases/1", &current).unwrap();
        assert!(!release.step(at(4)) && !release.step(at(5)));
        lead(root.path(), "releases/2");
        assert!(!release.step(at(6)));
        lead(root.path(), "releases/1");
        assert!(!release.step(at(7)) && !release.step(at(8)));
        lead(root.path(), "releases/2");
        assert!(!release.step(at(9)));
        fs::create_dir(root.path().join("releases/3")).unwrap();
        lead(root.path(), "releases/3");
        assert!(!release.step(at(10)));
        assert!(release.step(at(11)));
    }

    #[test]
    fn words_that_are_filled_in_later_and_plain_words_are_no_names() {
        let command = command(&["{self}", "--bind", "{socket}", "unix:/a", "http"], None);
        assert_eq!(names(&command, "/bin:/usr/bin"), [[PathBuf::from("unix:/a")]]);
        let command = self::command(&["app"], None);
        let expected = [[PathBuf::from("/bin/app"), PathBuf::from("/usr/bin/app")]];
        assert_eq!(names(&command, "/bin::/usr/bin"), expected);
    }
}
