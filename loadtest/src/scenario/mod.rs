//! The scenarios: each starts what it needs, measures, and makes a report.

mod gardens;
mod idle;
mod loads;
mod restart;
mod soak;

use crate::application::Application;
use crate::args::{Command, Options};
use crate::clock;
use crate::failure::Failure;
use crate::front::lychgate::binary;
use crate::front::{ALL, Front, Product, Recipe, Terms, chosen};
use crate::report::machine::Machine;
use crate::report::{Report, Settings, docs};
use crate::rig::{Cores, Rig};
use crate::{say, tools};

/// Those with results, in the order of the documentation.
pub(crate) const NAMES: [&str; 8] =
    ["compare", "connections", "bodies", "connect", "idle", "soak", "restart", "gardens"];

/// Upstream connections that every front may keep idle, unless there are more clients than that.
const IDLE_MIN: usize = 128;
/// Longer than any pause between two measurements of one front.
const IDLE_SECONDS: u64 = 60;

pub(crate) fn run(command: Command, options: &Options) -> Result<(), Failure> {
    match command {
        Command::Docs => {}
        Command::All => {
            for scenario in [
                Command::Compare,
                Command::Connections,
                Command::Bodies,
                Command::Connect,
                Command::Idle,
                Command::Soak,
                Command::Restart,
                Command::Gardens,
            ] {
                one(scenario, options)?;
            }
        }
        scenario => one(scenario, options)?,
    }
    if options.docs || command == Command::Docs {
        let found = docs::rewrite(&options.out, &NAMES)?;
        say(&format!("docs/performance.md now has: {}", found.join(", ")));
    }
    Ok(())
}

fn one(command: Command, options: &Options) -> Result<(), Failure> {
    tools::ensure(options.install)?;
    let mut stage = Stage::set(command, options)?;
    let report = match command {
        Command::Compare => loads::compare(&stage),
        Command::Connections => loads::connections(&mut stage),
        Command::Bodies => loads::bodies(&mut stage),
        Command::Connect => loads::connect(&stage),
        Command::Idle => idle::run(&stage),
        Command::Soak => soak::run(&mut stage),
        Command::Restart => restart::run(&stage),
        Command::Gardens => gardens::run(&stage),
        Command::All | Command::Docs => unreachable!("taken apart by the caller"),
    }?;
    report.write(&options.out)?;
    say(&crate::report::table::page(&report));
    let out = options.out.display();
    say(&format!("written: {out}/{}.json, .md, and .svg where there is a plot", report.scenario));
    Ok(())
}

/// What a scenario starts with.
struct Stage<'a> {
    options: &'a Options,
    machine: Machine,
    recipes: Vec<Recipe>,
    terms: Terms,
    application: Application,
    /// Last, so that everything else has ended when its folder goes.
    rig: Rig,
}

impl<'a> Stage<'a> {
    fn set(command: Command, options: &'a Options) -> Result<Self, Failure> {
        let ours = |recipe: &Recipe| matches!(recipe.product, Product::Lychgate(_));
        let offered: Vec<Recipe> = match command {
            Command::Soak | Command::Restart | Command::Gardens => {
                ALL.into_iter().filter(ours).collect()
            }
            // Idle connections have no upstream, and an application on its own is no front.
            Command::Idle => {
                ALL.into_iter().filter(|recipe| recipe.name().ends_with("-tcp")).collect()
            }
            _ => ALL.to_vec(),
        };
        let recipes = chosen(&options.only, &offered)?;
        let build = !options.no_build && recipes.iter().any(ours);
        let lychgate = binary(options.lychgate.clone(), build)?;
        let machine = Machine::here(&lychgate);
        let cores = Cores { front: options.front_core, load: options.load_core };
        if cores.front == cores.load {
            return Err(Failure::new(
                "placing front and generator: both on one CPU. Give two, by --front-core and --load-core",
            ));
        }
        let rig = Rig::set_up(cores)?;
        let application = Application::start(&rig)?;
        let idle = IDLE_MIN.max(options.connections.unwrap_or(0) as usize);
        let addresses = application.addresses.clone();
        let terms = Terms { addresses, idle, idle_seconds: IDLE_SECONDS, lychgate };
        Ok(Self { options, machine, recipes, terms, application, rig })
    }

    fn seconds(&self, default: u64) -> u64 {
        self.options.seconds.unwrap_or(default)
    }

    fn fronts(&self) -> Result<Vec<Front>, Failure> {
        let start = |&recipe: &Recipe| Front::start(&self.rig, recipe, &self.terms);
        self.recipes.iter().map(start).collect()
    }

    fn report(&self, scenario: &str, seconds: u64) -> Report {
        let mut warnings = Vec::new();
        if self.machine.load_average > 0.5 {
            warnings.push(format!(
                "the machine was not idle before the run: load average {:.2}",
                self.machine.load_average
            ));
        }
        if cfg!(debug_assertions) {
            warnings.push("loadtest itself was built without optimisation".to_owned());
        }
        Report {
            scenario: scenario.to_owned(),
            date: clock::date(),
            machine: self.machine.clone(),
            settings: Settings {
                rounds: self.options.rounds,
                seconds,
                front_core: self.rig.cores.front,
                load_core: self.rig.cores.load,
            },
            cases: Vec::new(),
            tables: Vec::new(),
            verdicts: Vec::new(),
            warnings,
        }
    }
}
