//! The listener as a pool sees it: places, a queue, and figures. It does what it is told, right or
//! wrong.

use lychgate::base::time::Instant;
use lychgate::machine::pool::seam::{Figures, Standing, WorkerId};
use std::collections::BTreeMap;

/// What it knows of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) is_open: bool,
    pub(crate) is_closed: bool,
    pub(crate) executing: u32,
    pub(crate) delivered: u64,
    pub(crate) answered: Instant,
    pub(crate) requests_max: u64,
}

#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) is_up: bool,
    /// Counts its lives: what one ordered, the next knows nothing of.
    pub(crate) life: u32,
    pub(crate) standing: Option<Standing>,
    pub(crate) may_grow: bool,
    pub(crate) is_wanting: bool,
    pub(crate) places: BTreeMap<WorkerId, Place>,
    /// When each waiting request came.
    pub(crate) queue: Vec<Instant>,
    pub(crate) turn: usize,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self {
            is_up: true,
            life: 0,
            standing: None,
            may_grow: false,
            is_wanting: false,
            places: BTreeMap::new(),
            queue: Vec::new(),
            turn: 0,
        }
    }

    pub(crate) fn die(&mut self) {
        self.is_up = false;
        self.life += 1;
        self.places.clear();
        self.queue.clear();
        self.standing = None;
        self.is_wanting = false;
    }

    pub(crate) fn stand(&mut self, standing: Standing, may_grow: bool) {
        self.standing = Some(standing);
        self.may_grow = may_grow;
        self.is_wanting = false;
        if matches!(standing, Standing::Stopped | Standing::Tripped) {
            self.queue.clear();
        }
    }

    pub(crate) fn admit(&mut self, worker: WorkerId, requests_max: u64) {
        let place = Place {
            is_open: false,
            is_closed: false,
            executing: 0,
            delivered: 0,
            answered: Instant(0),
            requests_max,
        };
        self.places.insert(worker, place);
    }

    /// False when it heard otherwise in the meantime.
    pub(crate) fn open(&mut self, worker: WorkerId) -> bool {
        let Some(place) = self.places.get_mut(&worker).filter(|place| !place.is_closed) else {
            return false;
        };
        place.is_open = true;
        self.is_wanting = false;
        true
    }

    fn is_running(&self) -> bool {
        matches!(self.standing, Some(Standing::Running | Standing::Replacing))
    }

    /// A request comes. False when it is refused.
    pub(crate) fn arrive(&mut self, now: Instant, limit: u32) -> bool {
        let limit = match self.standing {
            None | Some(Standing::Stopped | Standing::Tripped) => return false,
            Some(Standing::Paused { limit }) => limit,
            Some(_) => limit,
        };
        let has_room = self.queue.len() < limit as usize;
        if self.is_up && has_room {
            self.queue.push(now);
        }
        self.is_up && has_room
    }

    /// The worker that the first waiting request is given to, if there is both.
    pub(crate) fn give(&mut self, slots: u32) -> Option<WorkerId> {
        if !self.is_running() || self.queue.is_empty() {
            return None;
        }
        let is_free = |place: &Place| place.is_open && (slots == 0 || place.executing < slots);
        let free: Vec<WorkerId> =
            self.places.iter().filter(|(_, place)| is_free(place)).map(|(id, _)| *id).collect();
        self.turn += 1;
        let worker = *free.get(self.turn % free.len().max(1))?;
        self.queue.remove(0);
        let place = self.places.get_mut(&worker)?;
        place.executing += 1;
        place.delivered += 1;
        Some(worker)
    }

    /// Whether it asks for another worker now; once, until it is answered.
    pub(crate) fn wants(&mut self, slots: u32) -> bool {
        let mut open = self.places.values().filter(|place| place.is_open);
        let is_short = !self.queue.is_empty() || slots == 0 && open.all(|it| it.executing > 0);
        let has_demand = !self.queue.is_empty() || self.places.values().any(|it| it.executing > 0);
        let wants = self.is_up
            && self.is_running()
            && self.may_grow
            && !self.is_wanting
            && has_demand
            && is_short;
        self.is_wanting |= wants;
        wants
    }

    pub(crate) fn figures(&self) -> Vec<(WorkerId, Figures)> {
        let figures = |place: &Place| Figures {
            executing: place.executing,
            delivered: place.delivered,
            answered: place.answered,
        };
        self.places.iter().map(|(worker, place)| (*worker, figures(place))).collect()
    }
}
