//! Components of our aggregates that were there once and cannot be reached now.
//!
//! In an aggregate of ours, what no component leads on from is a hole: no LISP site, and ITRs may remember that for long. A
//! component that was withdrawn, or is held back, is something else: a LISP site that cannot be reached at the moment (RFC 6836
//! §4.2, rule ALT-9). Its destination stays and is marked, so that a look-up finds neither the component nor the aggregate there.
//!
//! As many are remembered as fit, the latest ones, until the last aggregate ends.

use altitude_dataplane::mapping::Prefix;

use super::{Origin, Table};

/// Most destinations that are remembered.
const LOST_MAX: usize = 65_536;

impl Table {
    /// What a look-up finds at a destination whose last usable route has just gone.
    pub(super) fn left_behind(&mut self, number: u32) -> Origin {
        if self.destinations[number].remembered {
            return Origin::LOST;
        }
        let prefix = self.destinations[number].prefix;
        let beneath = |aggregate: &Prefix| aggregate.length() < prefix.length() && aggregate.covers(&prefix);
        if !self.aggregates.iter().any(beneath) {
            return Origin::NOBODY;
        }
        if self.remembered.len() >= LOST_MAX {
            self.forget_oldest();
        }
        self.destinations[number].remembered = true;
        self.remembered.push_back(number);
        Origin::LOST
    }

    fn forget_oldest(&mut self) {
        let Some(number) = self.remembered.pop_front() else { return };
        self.destinations[number].remembered = false;
        if self.way(number) == Origin::LOST {
            self.ways[number as usize] = Origin::NOBODY;
        }
        self.drop_if_unused(number);
    }

    /// With the last aggregate goes all that is remembered.
    pub(super) fn end_aggregate(&mut self, prefix: &Prefix) {
        self.aggregates.retain(|aggregate| aggregate != prefix);
        while self.aggregates.is_empty() && !self.remembered.is_empty() {
            self.forget_oldest();
        }
    }
}
