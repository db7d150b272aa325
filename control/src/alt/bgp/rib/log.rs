//! Which prefixes changed, in order: written once, read by every neighbour at its own pace.

use std::collections::VecDeque;

/// Entries kept for readers that lag behind, beside one for each prefix.
const SLACK: usize = 65_536;

/// Where a reader stands; counts entries since the table was made.
pub(crate) type Position = u64;

/// A log that forgets what all readers have read, and what grows beyond measure.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<u32>,
    /// The position of the first entry.
    start: Position,
    /// The furthest that any reader has come.
    read: Position,
}

impl Log {
    pub(super) fn end(&self) -> Position {
        self.start + self.entries.len() as Position
    }

    /// Where a reader starts that looks at all prefixes by itself: what changes from now on is noted behind it.
    pub(super) fn join(&mut self) -> Position {
        self.read = self.end();
        self.read
    }

    /// Notes a change of `number`, which was last noted at `last`: nothing new if nobody has read that yet. Returns where it
    /// is noted.
    pub(super) fn note(&mut self, number: u32, last: Option<Position>) -> Position {
        if let Some(last) = last.filter(|last| *last >= self.read.max(self.start)) {
            return last;
        }
        self.entries.push_back(number);
        self.end() - 1
    }

    /// The entry at `position`; `None` at the end.
    pub(super) fn get(&mut self, position: Position) -> Option<u32> {
        let number = *self.entries.get(position.checked_sub(self.start)? as usize)?;
        self.read = self.read.max(position + 1);
        Some(number)
    }

    /// Whether a reader at `position` has missed entries.
    pub(super) const fn missed(&self, position: Position) -> bool {
        position < self.start
    }

    /// Forgets what is before `position`, where the slowest reader stands; of more than `places` prefixes and some slack also what it
    /// has not read.
    pub(super) fn forget(&mut self, position: Position, places: usize) {
        let read = position.clamp(self.start, self.end()) - self.start;
        let surplus = self.entries.len().saturating_sub(places + SLACK);
        let gone = (read as usize).max(surplus);
        self.entries.drain(..gone);
        self.start += gone as Position;
        if self.entries.is_empty() {
            self.entries.shrink_to(SLACK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noted_anew_only_behind_the_first_reader() {
        let mut log = Log::default();
        let seven = log.note(7, None);
        assert_eq!(log.note(7, Some(seven)), seven);
        let eight = log.note(8, None);
        assert_eq!((log.get(seven), log.get(eight + 1)), (Some(7), None));
        assert_eq!(log.note(8, Some(eight)), eight, "nobody has read it");
        let again = log.note(7, Some(seven));
        assert_eq!((again, log.get(again)), (2, Some(7)));
        assert_eq!(log.end(), 3);
        assert_eq!(log.join(), 3);
        assert_eq!(log.note(7, Some(again)), 3, "the new reader has to see it");
    }

    #[test]
    fn readers_that_lag_too_far_behind_miss_entries() {
        let mut log = Log::default();
        for number in 0..10 {
            log.note(number, None);
        }
        log.forget(4, 10);
        assert!(log.missed(3) && !log.missed(4));
        assert_eq!((log.get(3), log.get(4)), (None, Some(4)));
        for round in 0..SLACK as u32 {
            log.note(round, None);
        }
        log.forget(4, 1);
        assert_eq!(log.end() - log.start, SLACK as u64 + 1);
        assert!(log.missed(4));
        log.forget(Position::MAX, 1);
        assert_eq!((log.entries.len(), log.end()), (0, 10 + SLACK as u64));
    }
}
