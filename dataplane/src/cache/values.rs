//! Locator-sets, outer headers and next hops: what entries lead to.
//!
//! A set of at most eight locators is one line of 64 octets: 64 slots of four bits, each naming one of eight headers.
//! A larger one has a header for each slot, in four lines or more. Headers are shared by all sets that send the same way;
//! next hops belong to one entry each.
//!
//! A change of a set turns words one by one, each a valid choice before and after: a header is in its place before a slot
//! names it, and stays until the place is needed again. Every locator has its place for as long as the set lives.

use std::{
    hash::BuildHasher,
    net::IpAddr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use hashbrown::{HashTable, hash_table};

use super::{
    CacheError,
    entry::{Action, Choice, Delivery, Entry, Forwarding, Kind, SetId, Way},
    store::{Retired, Store},
    tables::{Line, Members, Tables},
};
use crate::{
    mapping::{Adjacency, LocatorSet, NextHop, OuterHeader, SLOTS},
    verdict::Reason,
};

/// Locators of a narrow set.
const NARROW_MAX: usize = 8;
/// Bits that name a header in a narrow set, and slots in one of its words.
const NAME: u32 = 4;
const NAMES: usize = 8;
/// Names beside those of the eight headers.
const NAME_REQUEST: u32 = 15;
const NAME_UNUSABLE: u32 = 14;
/// Headers of a wide set's slots that are none.
const HEADER_REQUEST: u32 = u32::MAX;
const HEADER_UNUSABLE: u32 = u32::MAX - 1;
/// Slots in a line of a wide set.
const WIDE: usize = 16;

/// Which headers there are, and how often each is used.
#[derive(Default)]
pub(super) struct Headers {
    by_content: HashTable<u32>,
    /// By index.
    uses: Vec<u32>,
}

impl Headers {
    /// Octets in use.
    pub(super) fn octets(&self) -> usize {
        self.by_content.allocation_size() + self.uses.capacity() * size_of::<u32>()
    }
}

impl Tables {
    /// What to do under `entry`.
    #[inline(always)]
    pub(super) fn action(&self, entry: Entry) -> Action {
        Action(self.action_word(entry.slot()).load(Ordering::Acquire))
    }

    /// Where packets under `entry`, of the flow with this hash, go now.
    #[inline(always)]
    pub(super) fn way(&self, entry: Entry, flow: u32) -> Way<'_> {
        let action = self.action(entry);
        let slot = (flow >> (32 - SLOTS.ilog2())) as usize;
        // What most entries are by themselves, so that nothing waits for a jump whose target has to be read.
        if action.kind() == Kind::NARROW {
            let Line(words) = self.line(action.index());
            let name = words[slot / NAMES].load(Ordering::Acquire) >> (slot % NAMES * NAME as usize) & 15;
            return match words[NAMES..].get(name as usize) {
                Some(header) => Way::Tunnel(self.header(header.load(Ordering::Acquire))),
                None if name == NAME_REQUEST => Way::Request,
                None => Way::Drop(Reason::NoUsableLocator),
            };
        }
        if action.kind() == Kind::DELIVER {
            return Way::Deliver(self.next_hop(action.index()));
        }
        self.rare_way(action, slot)
    }

    /// The next hop of a host of the site; `None` under an entry of another kind, or if it is not known.
    #[inline(always)]
    pub(super) fn delivery(&self, entry: Entry) -> Option<&NextHop> {
        let action = self.action(entry);
        (action.kind() == Kind::DELIVER).then(|| self.next_hop(action.index()))
    }

    #[inline(never)]
    fn rare_way(&self, action: Action, slot: usize) -> Way<'_> {
        match action.kind() {
            Kind::WIDE => {
                let Line(words) = self.line(action.index() + (slot / WIDE) as u32);
                match words[slot % WIDE].load(Ordering::Acquire) {
                    HEADER_REQUEST => Way::Request,
                    HEADER_UNUSABLE => Way::Drop(Reason::NoUsableLocator),
                    header => Way::Tunnel(self.header(header)),
                }
            }
            Kind::NATIVE => Way::Native(self.next_hop(action.index())),
            Kind::UNRESOLVED => Way::Unresolved,
            Kind::REQUEST if action.index() == Kind::NEXT_HOP => Way::NativeUnresolved,
            Kind::REQUEST => Way::Request,
            _ => Way::Drop(Reason::ALL[action.index() as usize]),
        }
    }

    /// Whether `rloc` is a locator of the set under `entry`.
    #[inline(always)]
    pub(super) fn has_member(&self, entry: Entry, rloc: IpAddr) -> bool {
        self.set_has_member(self.action(entry), rloc)
    }

    #[inline(always)]
    fn set_has_member(&self, action: Action, rloc: IpAddr) -> bool {
        let wanted = self.member(rloc);
        if action.kind() == Kind::NARROW {
            // Without a branch: which of its locators a packet came from is anybody's guess. But few sets have more than
            // four.
            let Members([a, b, c, d, rest @ ..]) = self.member_line(action.index());
            return is_among(wanted, [a, b, c, d]) || is_among(wanted, rest.each_ref());
        }
        action.kind() == Kind::WIDE && self.wide_has_member(action.index(), wanted)
    }

    #[inline(never)]
    fn wide_has_member(&self, first: u32, wanted: u64) -> bool {
        for index in first.. {
            let Members(line) = self.member_line(index);
            if is_among(wanted, line.each_ref()) {
                return true;
            }
            // The last member is followed by a zero, at least.
            if line[7].load(Ordering::Acquire) == 0 {
                break;
            }
        }
        false
    }

    /// What [`way`](Self::way) reads first.
    #[inline(always)]
    pub(super) fn first_line(&self, entry: Entry) -> *const u8 {
        let action = self.action(entry);
        match action.kind() {
            Kind::NARROW | Kind::WIDE => self.lines.address(action.index()).cast(),
            _ => self.next_hops.address(action.index()).cast(),
        }
    }

    /// What [`has_member`](Self::has_member) reads first; of an entry without a set, what nobody will read.
    #[inline(always)]
    pub(super) fn first_members(&self, entry: Entry) -> *const u8 {
        self.members.address(self.action(entry).index()).cast()
    }

    #[inline(always)]
    fn line(&self, index: u32) -> &Line {
        // SAFETY: indices come from entries, which lead to lines put before the entry was stored; the writer uses a line
        // anew only after every reader that could hold it has begun a later turn.
        unsafe { self.lines.get(index) }
    }

    #[inline(always)]
    fn member_line(&self, index: u32) -> &Members {
        // SAFETY: as in `line`, beside which it lies.
        unsafe { self.members.get(index) }
    }

    #[inline(always)]
    fn header(&self, index: u32) -> &OuterHeader {
        // SAFETY: as in `line`: a header is written before a line leads to it, and never changes.
        unsafe { self.headers.get(index) }
    }

    #[inline(always)]
    fn next_hop(&self, index: u32) -> &NextHop {
        // SAFETY: as in `header`.
        unsafe { self.next_hops.get(index) }
    }
}

impl Store {
    /// A set with these members; nothing refers to it yet.
    pub(super) fn add_set(&mut self, members: &[IpAddr], choice: &Choice) -> Result<SetId, CacheError> {
        let (kind, lines) =
            if members.len() <= NARROW_MAX { (Kind::NARROW, 1) } else { (Kind::WIDE, wide_lines(members.len())) };
        let base = self.lines.allocate(&self.tables.lines, lines);
        assert!(self.tables.members.commit(base as usize + lines), "no memory left for the map-cache");
        for line in 0..lines as u32 {
            let (none, nobody) = (|| AtomicU32::new(0), || AtomicU64::new(0));
            // SAFETY: just handed out, so committed and unseen; `members` was committed as far.
            unsafe {
                self.tables.lines.put(base + line, Line(std::array::from_fn(|_| none())));
                self.tables.members.put(base + line, Members(std::array::from_fn(|_| nobody())));
            }
        }
        for (place, &member) in members.iter().enumerate() {
            let Members(line) = self.tables.member_line(base + (place / 8) as u32);
            line[place % 8].store(self.tables.member(member), Ordering::Relaxed);
        }
        let set = SetId(Action::new(kind, base));
        let chosen = self.change_set(set, choice);
        if chosen.is_err() {
            self.remove_set(set);
        }
        chosen.map(|()| set)
    }

    /// Turns a set to another choice.
    pub(super) fn change_set(&mut self, SetId(set): SetId, choice: &Choice) -> Result<(), CacheError> {
        if let Choice::Tunnel(locators) = choice {
            for outer in locators.outers() {
                let rloc = outer.destination();
                if !self.tables.set_has_member(set, rloc) {
                    return Err(CacheError::NotAMember(rloc));
                }
            }
        }
        if set.kind() == Kind::NARROW {
            self.change_narrow(set.index(), choice);
        } else {
            self.change_wide(set.index(), choice);
        }
        Ok(())
    }

    fn change_narrow(&mut self, index: u32, choice: &Choice) {
        let names: [u32; SLOTS] = match choice {
            Choice::Request => [NAME_REQUEST; SLOTS],
            Choice::Unusable => [NAME_UNUSABLE; SLOTS],
            Choice::Tunnel(locators) => {
                let places: Vec<u32> = locators.outers().iter().map(|outer| self.place_header(index, outer)).collect();
                locators.slots().map(|outer| places[usize::from(outer)])
            }
        };
        let Line(words) = self.tables.line(index);
        for (word, names) in words.iter().zip(names.chunks(NAMES)) {
            let packed = names.iter().rev().fold(0, |packed, name| packed << NAME | name);
            // Ordering 1: the headers named are in their places.
            word.store(packed, Ordering::Release);
        }
    }

    /// Puts a header into the place of its locator, and tells which that is.
    fn place_header(&mut self, index: u32, outer: &OuterHeader) -> u32 {
        let header = self.share_header(outer);
        let wanted = self.tables.member(outer.destination());
        let Members(members) = self.tables.member_line(index);
        let place = members.iter().position(|member| member.load(Ordering::Relaxed) == wanted);
        let place = place.expect("the caller asked whether it is a member");
        let Line(words) = self.tables.line(index);
        let before = words[NAMES + place].load(Ordering::Relaxed);
        words[NAMES + place].store(header, Ordering::Release);
        self.leave_header(before);
        place as u32
    }

    fn change_wide(&mut self, index: u32, choice: &Choice) {
        for slot in 0..SLOTS {
            let header = match choice {
                Choice::Request => HEADER_REQUEST,
                Choice::Unusable => HEADER_UNUSABLE,
                Choice::Tunnel(locators) => self.share_header(chosen(locators, slot)),
            };
            let Line(words) = self.tables.line(index + (slot / WIDE) as u32);
            let before = words[slot % WIDE].load(Ordering::Relaxed);
            words[slot % WIDE].store(header, Ordering::Release);
            self.leave_header(before);
        }
    }

    /// Takes a set out that no entry leads to any more.
    pub(super) fn remove_set(&mut self, SetId(set): SetId) {
        let base = set.index();
        let (lines, held) = if set.kind() == Kind::NARROW { (1, NAMES..2 * NAMES) } else { (4, 0..WIDE) };
        for line in base..base + lines {
            for word in held.clone() {
                let Line(words) = self.tables.line(line);
                let header = words[word].load(Ordering::Relaxed);
                self.leave_header(header);
            }
        }
        let count = if set.kind() == Kind::NARROW { 1 } else { self.wide_extent(base) };
        self.retire(Retired::Lines { base, count });
    }

    /// Lines of a wide set: told by its members, which end with a zero.
    fn wide_extent(&self, base: u32) -> u32 {
        let full = |&index: &u32| {
            let Members(line) = self.tables.member_line(index);
            line[7].load(Ordering::Relaxed) != 0
        };
        let full = (base..).take_while(full).count();
        wide_lines(full * 8) as u32
    }

    /// The index of a header like this one, used once more.
    fn share_header(&mut self, outer: &OuterHeader) -> u32 {
        let hash = self.tables.hasher.hash_one(outer);
        let tables = &self.tables;
        if let Some(&index) = self.shared.by_content.find(hash, |&index| tables.header(index) == outer) {
            self.shared.uses[index as usize] += 1;
            return index;
        }
        let index = self.headers.allocate(&self.tables.headers, 1);
        // SAFETY: just handed out, so committed and unseen.
        unsafe { self.tables.headers.put(index, outer.clone()) };
        let tables = &self.tables;
        self.shared.by_content.insert_unique(hash, index, |&index| tables.hasher.hash_one(tables.header(index)));
        let known = self.shared.uses.len().max(index as usize + 1);
        self.shared.uses.resize(known, 0);
        self.shared.uses[index as usize] = 1;
        index
    }

    /// One user less; none is told by 0 or by what is no header.
    fn leave_header(&mut self, index: u32) {
        if matches!(index, 0 | HEADER_REQUEST | HEADER_UNUSABLE) {
            return;
        }
        let uses = &mut self.shared.uses[index as usize];
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        let hash = self.tables.hasher.hash_one(self.tables.header(index));
        if let Ok(entry) = self.shared.by_content.find_entry(hash, |&other| other == index) {
            hash_table::OccupiedEntry::remove(entry);
        }
        self.retire(Retired::Header(index));
    }

    /// What workers are to do, with a next hop of its own where one is needed.
    pub(super) fn action(&mut self, forwarding: &Forwarding) -> Action {
        match forwarding {
            Forwarding::Local(Delivery::Unresolved) => Action::new(Kind::UNRESOLVED, 0),
            Forwarding::Local(Delivery::Adjacent(adjacency)) => self.next_hop(Kind::DELIVER, adjacency),
            Forwarding::Native(adjacency) => self.next_hop(Kind::NATIVE, adjacency),
            Forwarding::Encapsulate(SetId(set)) => *set,
            Forwarding::NativeByHost => Action::new(Kind::REQUEST, Kind::NEXT_HOP),
            Forwarding::Request => Action::new(Kind::REQUEST, Kind::MAPPING),
            Forwarding::Drop(reason) => Action::new(Kind::DROP, *reason as u32),
        }
    }

    fn next_hop(&mut self, kind: u32, adjacency: &Adjacency) -> Action {
        let index = self.next_hops.allocate(&self.tables.next_hops, 1);
        // SAFETY: just handed out, so committed and unseen.
        unsafe { self.tables.next_hops.put(index, NextHop::new(adjacency)) };
        Action::new(kind, index)
    }

    /// Puts away what only this action used.
    pub(super) fn leave(&mut self, action: Action) {
        if matches!(action.kind(), Kind::DELIVER | Kind::NATIVE) {
            self.retire(Retired::NextHop(action.index()));
        }
    }
}

/// Whether one of these is the member wanted.
#[inline(always)]
fn is_among<const N: usize>(wanted: u64, members: [&AtomicU64; N]) -> bool {
    members.iter().fold(false, |found, member| found | (member.load(Ordering::Acquire) == wanted))
}

fn chosen(locators: &LocatorSet, slot: usize) -> &OuterHeader {
    &locators.outers()[usize::from(locators.slots()[slot])]
}

/// Lines of a wide set with so many members: its slots', and enough for the members and a zero.
fn wide_lines(members: usize) -> usize {
    (SLOTS / WIDE).max(members / 8 + 1)
}
