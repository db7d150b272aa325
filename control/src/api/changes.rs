//! When entries changed last, for compare-and-set: the latest changes exactly, of older ones that they are older.

use std::collections::{HashMap, VecDeque};

use altitude_dataplane::mapping::EidPrefix;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Changes {
    last: HashMap<EidPrefix, u64>,
    order: VecDeque<(u64, EidPrefix)>,
    /// Entries that are not remembered changed at this generation at the latest.
    floor: u64,
}

impl Changes {
    /// How many are remembered.
    pub const REMEMBERED: usize = 65_536;

    /// The entry of `eid` changed, which made this generation.
    pub fn note(&mut self, eid: EidPrefix, generation: u64) {
        if self.order.len() >= Self::REMEMBERED
            && let Some((oldest, forgotten)) = self.order.pop_front()
        {
            self.floor = oldest;
            if self.last.get(&forgotten) == Some(&oldest) {
                self.last.remove(&forgotten);
            }
        }
        self.last.insert(eid, generation);
        self.order.push_back((generation, eid));
    }

    /// Whether the entry may have changed after `generation`; of what is long ago nobody can tell that it has not.
    #[must_use]
    pub fn since(&self, eid: &EidPrefix, generation: u64) -> bool {
        self.last.get(eid).copied().unwrap_or(self.floor) > generation
    }

    /// Whether the entry is known to have changed after `generation`.
    #[must_use]
    pub fn surely_since(&self, eid: &EidPrefix, generation: u64) -> bool {
        self.last.get(eid).is_some_and(|last| *last > generation)
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::{Eid, InstanceId};

    use super::*;

    fn eid(number: u32) -> EidPrefix {
        EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: number.to_be_bytes().into() })
    }

    #[test]
    fn what_is_forgotten_counts_as_changed_and_never_the_other_way_round() {
        let mut changes = Changes::default();
        assert!(!changes.since(&eid(1), 0));
        changes.note(eid(1), 1);
        changes.note(eid(2), 2);
        changes.note(eid(1), 3);
        assert_eq!([0, 2, 3].map(|seen| changes.since(&eid(1), seen)), [true, true, false]);
        assert!(!changes.since(&eid(2), 2) && !changes.since(&eid(9), 2));
        for number in 10..10 + Changes::REMEMBERED as u32 - 1 {
            changes.note(eid(number), u64::from(number));
        }
        // 1's first and 2's only change are forgotten, 1's second is not.
        assert!(
            changes.surely_since(&eid(1), 2) && !changes.surely_since(&eid(1), 3) && !changes.surely_since(&eid(2), 1)
        );
        assert_eq!([2, 3].map(|seen| changes.since(&eid(1), seen)), [true, false]);
        assert_eq!([1, 2].map(|seen| changes.since(&eid(2), seen)), [true, false]);
        assert!(changes.last.len() <= Changes::REMEMBERED && changes.order.len() <= Changes::REMEMBERED);
    }
}
