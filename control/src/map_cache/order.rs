//! The order of use: two lists through the entries' numbers, the one used last in front.
//!
//! New entries and those seldom used are in the cold list, entries found in use again and again in the hot one. Who must
//! give way comes from the back of the cold list as long as it has any, so however many destinations are asked for once,
//! they push out each other and nothing hot. (Segmented LRU: Karedla, Love and Wherry, "Caching strategies to improve disk
//! system performance", IEEE Computer 1994.)

use crate::slab::Chunked;

const NONE: u32 = u32::MAX;

/// One of the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    Cold,
    Hot,
}

/// Neighbours of an entry that is in a list; both its own number when it is in none.
#[derive(Debug, Clone, Copy)]
struct Links {
    newer: u32,
    older: u32,
}

#[derive(Debug)]
struct Ends {
    newest: u32,
    oldest: u32,
    count: usize,
}

/// See the module's text. 8 octets an entry.
#[derive(Debug)]
pub(super) struct Order {
    links: Chunked<Links>,
    segments: [Ends; 2],
}

impl Order {
    pub(super) const fn new() -> Self {
        const EMPTY: Ends = Ends { newest: NONE, oldest: NONE, count: 0 };
        Self { links: Chunked::new(), segments: [EMPTY; 2] }
    }

    /// The one used least recently.
    pub(super) const fn oldest(&self, segment: Segment) -> Option<u32> {
        match self.segments[segment as usize].oldest {
            NONE => None,
            oldest => Some(oldest),
        }
    }

    pub(super) const fn count(&self, segment: Segment) -> usize {
        self.segments[segment as usize].count
    }

    /// Puts `number`, which is in no list, in front.
    pub(super) fn push(&mut self, number: u32, segment: Segment) {
        while self.links.len() <= number as usize {
            let own = self.links.len() as u32;
            self.links.push(Links { newer: own, older: own });
        }
        let ends = &mut self.segments[segment as usize];
        ends.count += 1;
        let newest = std::mem::replace(&mut ends.newest, number);
        match newest {
            NONE => ends.oldest = number,
            newest => self.links[newest].newer = number,
        }
        self.links[number] = Links { newer: NONE, older: newest };
    }

    /// Takes `number` out of the list it is in, if it is in one.
    pub(super) fn remove(&mut self, number: u32, segment: Segment) {
        let Some(&Links { newer, older }) = self.links.get(number) else { return };
        if newer == number {
            return;
        }
        let ends = &mut self.segments[segment as usize];
        ends.count -= 1;
        match newer {
            NONE => ends.newest = older,
            newer => self.links[newer].older = older,
        }
        match older {
            NONE => ends.oldest = newer,
            older => self.links[older].newer = newer,
        }
        self.links[number] = Links { newer: number, older: number };
    }

    pub(super) fn octets(&self) -> usize {
        self.links.octets()
    }

    /// Oldest first.
    #[cfg(test)]
    pub(super) fn iter(&self, segment: Segment) -> impl Iterator<Item = u32> {
        let newer = |number: &u32| Some(self.links[*number].newer).filter(|newer| *newer != NONE);
        std::iter::successors(self.oldest(segment), newer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_two_queues(script in prop::collection::vec((0_u32..12, 0_u8..3), 0..200)) {
            let mut order = Order::new();
            let mut model = [VecDeque::new(), VecDeque::new()];
            for (number, whereto) in script {
                for (segment, queue) in [Segment::Cold, Segment::Hot].into_iter().zip(&mut model) {
                    if queue.contains(&number) {
                        order.remove(number, segment);
                        queue.retain(|known| *known != number);
                    }
                }
                match whereto {
                    0 => order.push(number, Segment::Cold),
                    1 => order.push(number, Segment::Hot),
                    _ => order.remove(number, Segment::Cold), // in none already
                }
                if let Some(queue) = model.get_mut(usize::from(whereto)) {
                    queue.push_back(number);
                }
                for (segment, queue) in [Segment::Cold, Segment::Hot].into_iter().zip(&model) {
                    prop_assert_eq!(&order.iter(segment).collect::<VecDeque<_>>(), queue);
                    prop_assert_eq!((order.oldest(segment), order.count(segment)), (queue.front().copied(), queue.len()));
                }
            }
        }
    }
}
