//! What operators tell a pool to do: whether it means anything as the pool stands, and what is said
//! about it.

use super::Supervisor;
use super::operator::done;
use crate::base::time::Instant;
use crate::machine::pool::seam::{Input as PoolInput, Standing, Verb};
use crate::machine::supervisor::seam::Input;
use crate::plan::Source;
use crate::shell::api::{Answer, Asked};
use crate::shell::control::ToListener;

/// Older than any request that is worth a row.
const FENCE_AGE_MS: u64 = u32::MAX as u64;

impl Supervisor {
    /// Answers when the listener does it too: what comes to the pool after that finds it so.
    pub(super) fn command(&mut self, now: Instant, asked: Asked, name: &str, verb: Verb) {
        match self.carry_out(now, name, verb) {
            Answer::Done(outcome) if self.channel().is_some() => {
                let Some(token) = self.operator.lists.fence(now, asked, outcome) else { return };
                let pool = Some(name.to_owned());
                let older_ms = FENCE_AGE_MS;
                self.tell(&ToListener::List { token, pool, older_ms }, Vec::new());
            }
            answer => asked.answer(answer),
        }
    }

    fn carry_out(&mut self, now: Instant, name: &str, verb: Verb) -> Answer {
        if let Some(refusal) = self.refuse_unknown(Some(name)) {
            return refusal;
        }
        let garden = self.pool_named(name);
        let Some((pool, view)) = garden.and_then(|id| Some((id, self.machine.view(id, now)?)))
        else {
            return self.refuse_bare(name);
        };
        if self.machine.is_ending() {
            return Answer::Unavailable("lychgate ends".to_owned());
        }
        let text = match sense(verb, view.standing) {
            Sense::Refused(why, remedy) => {
                return Answer::Conflict(format!(
                    "pool {name} {why}. To go on: lychgate {remedy} {name}"
                ));
            }
            Sense::Needless(why) => why.to_owned(),
            Sense::Command => match verb {
                Verb::Recycle if view.workers.is_empty() => {
                    "has no worker to recycle; the next one is new".to_owned()
                }
                Verb::Recycle => "recycles its workers".to_owned(),
                Verb::Stop => "stops; what runs is finished first".to_owned(),
                Verb::Start => "starts; its failures are forgotten".to_owned(),
                Verb::Pause { limit } => format!("is paused; at most {limit} requests wait"),
                Verb::Resume => "goes on".to_owned(),
            },
        };
        self.inputs.push_back(Input::Pool { pool, input: PoolInput::Asked(verb) });
        // The next ask is to find it done.
        self.settle(now);
        done(format!("pool {name} {text}"))
    }

    /// Why a pool without a garden cannot be told anything.
    fn refuse_bare(&self, name: &str) -> Answer {
        let found = self.loaded.plan.pools.iter().find(|pool| pool.name == name);
        Answer::Conflict(match found.map(|pool| &pool.source) {
            Some(Source::Invalid(why)) => {
                format!("pool {name} has a configuration that is refused: {why}")
            }
            Some(Source::Servers(_)) => format!(
                "pool {name} has servers that run already; lychgate neither starts nor ends them"
            ),
            Some(Source::Garden(_)) | None => format!("pool {name} is not there yet. Try again"),
        })
    }
}

/// Whether a verb means anything to a pool that stands like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    Command,
    /// It is so already.
    Needless(&'static str),
    /// Why, and the verb that helps.
    Refused(&'static str, &'static str),
}

const fn sense(verb: Verb, standing: Standing) -> Sense {
    use Sense::{Command, Needless, Refused};
    match (verb, standing) {
        (Verb::Recycle | Verb::Pause { .. } | Verb::Resume, Standing::Stopped) => {
            Refused("is stopped", "start")
        }
        (Verb::Recycle | Verb::Pause { .. } | Verb::Resume, Standing::Tripped) => {
            Refused("failed too often and is stopped", "start")
        }
        (Verb::Start, Standing::Paused { .. }) => Refused("is paused", "resume"),
        (Verb::Start, Standing::Running | Standing::Replacing) => {
            Needless("runs already; its failures are forgotten")
        }
        (Verb::Stop, Standing::Stopped) => Needless("is stopped already"),
        (Verb::Resume, Standing::Running | Standing::Replacing) => Needless("is not paused"),
        (Verb::Recycle | Verb::Pause { .. } | Verb::Stop | Verb::Start, _)
        | (Verb::Resume, Standing::Paused { .. }) => Command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_carried_out_needless_or_refused() {
        const PAUSED: Standing = Standing::Paused { limit: 1 };
        const ALL: [Standing; 5] =
            [Standing::Running, Standing::Replacing, PAUSED, Standing::Stopped, Standing::Tripped];
        let word = |verb, standing| match sense(verb, standing) {
            Sense::Command => "command",
            Sense::Needless(_) => "needless",
            Sense::Refused(..) => "refused",
        };
        for (verb, wanted) in [
            (Verb::Recycle, ["command", "command", "command", "refused", "refused"]),
            (Verb::Stop, ["command", "command", "command", "needless", "command"]),
            (Verb::Start, ["needless", "needless", "refused", "command", "command"]),
            (Verb::Pause { limit: 2 }, ["command", "command", "command", "refused", "refused"]),
            (Verb::Resume, ["needless", "needless", "command", "refused", "refused"]),
        ] {
            assert_eq!(ALL.map(|standing| word(verb, standing)), wanted, "{verb:?}");
        }
    }
}
