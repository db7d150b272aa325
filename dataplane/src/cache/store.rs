//! What the writer needs to change the tables: who owns which part of the arenas, and what waits for workers.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use hashbrown::HashMap;

use super::{
    Memory,
    entry::Action,
    memory::{Arrays, Blocks},
    ours::{Book, Masked},
    records::Records,
    tables::{DEFAULT, Hashed, Instance, Line, Members, Node, STRIDE, Tables},
    values::Headers,
};
use crate::{
    counters::Volume,
    mapping::{InstanceId, Mark, NextHop, OuterHeader},
};

/// Most parts that may wait for workers; changes beyond are refused. Some million changes without any worker's turn.
pub(super) const LIMBO_MAX: usize = 1 << 22;

/// A part of the tables that nothing leads to any more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Retired {
    Nodes { base: u32, count: u32 },
    Leaves { base: u32, count: u32 },
    Words { base: u32, count: u32 },
    Blocks { base: u32, count: u32 },
    Junction(u32),
    Hosts { base: u32, count: u32 },
    Lines { base: u32, count: u32 },
    Header(u32),
    NextHop(u32),
    Instance(u32),
    Slot(u32),
    Ours { v6: bool, base: u32, count: u32 },
}

/// What the writer knows of an Instance-ID.
#[derive(Debug, Clone, Copy)]
pub(super) struct InstanceState {
    pub(super) index: u32,
    /// Prefixes of IPv4 and IPv6.
    pub(super) prefixes: [u32; 2],
}

/// Its own books about the [`Tables`].
pub(super) struct Store {
    pub(super) tables: Arc<Tables>,
    pub(super) records: Records,
    pub(super) nodes: Arrays,
    pub(super) leaves: Arrays,
    /// Flat roots and their blocks.
    pub(super) blocks: Blocks,
    /// Blocks in use, those that wait for workers included.
    pub(super) blocks_used: usize,
    /// Words for junctions that stand by.
    pub(super) junctions: Vec<u32>,
    pub(super) lines: Arrays,
    pub(super) headers: Arrays,
    pub(super) next_hops: Arrays,
    pub(super) ours4: Arrays,
    pub(super) ours6: Arrays,
    pub(super) words: Blocks,
    pub(super) hosts: Blocks,
    pub(super) instance_indices: Arrays,
    pub(super) instances: HashMap<InstanceId, InstanceState>,
    /// What is local, by instance and family: only where something is.
    pub(super) ours: HashMap<(InstanceId, bool), Book>,
    /// Hosts in each block of 2^62 addresses that has some: instance index and first 66 bits.
    pub(super) crowds: HashMap<(u32, u128), u32>,
    /// Places of the host table that are taken, those of hosts that left included.
    pub(super) host_places: usize,
    /// Of them, those that are there.
    pub(super) live_hosts: usize,
    pub(super) shared: Headers,
    /// Some slot has or had a mark.
    pub(super) marked: bool,
    /// The epoch that the next publication closes.
    pub(super) epoch: u64,
    limbo: VecDeque<(u64, Retired)>,
}

impl Store {
    pub(super) fn new(tables: Arc<Tables>, records: Records) -> Self {
        let mut words = Blocks::default();
        let empty = words.allocate(&tables.words, 1 << STRIDE);
        assert_eq!(empty, Some(0), "the empty root is the first block");
        let arrays = |limit| Arrays::new(limit);
        let mut instance_indices = arrays(tables.instances.limit());
        assert_eq!(instance_indices.allocate(&tables.instances, 1), DEFAULT, "the default instance is the first");
        Self {
            nodes: arrays(tables.nodes.limit()),
            leaves: arrays(tables.leaves.limit()),
            blocks: Blocks::default(),
            blocks_used: 0,
            junctions: Vec::new(),
            lines: arrays(tables.lines.limit()),
            headers: arrays(tables.headers.limit()),
            next_hops: arrays(tables.next_hops.limit()),
            ours4: arrays(tables.ours4.limit()),
            ours6: arrays(tables.ours6.limit()),
            instance_indices,
            words,
            hosts: Blocks::default(),
            instances: HashMap::new(),
            ours: HashMap::new(),
            crowds: HashMap::new(),
            host_places: 0,
            live_hosts: 0,
            shared: Headers::default(),
            marked: false,
            epoch: 1,
            limbo: VecDeque::new(),
            tables,
            records,
        }
    }

    /// Whether one more change finds room whatever it needs.
    pub(super) fn has_room(&self) -> bool {
        const ARRAYS: usize = 32;
        let Self { nodes, leaves, lines, headers, next_hops, ours4, ours6, instance_indices, .. } = self;
        let all = [nodes, leaves, lines, headers, next_hops, ours4, ours6, instance_indices];
        all.iter().all(|arrays| arrays.has_room(ARRAYS))
    }

    /// Puts a part away until no worker can hold it.
    pub(super) fn retire(&mut self, part: Retired) {
        self.limbo.push_back((self.epoch, part));
    }

    /// Parts that wait for workers.
    pub(super) fn waiting(&self) -> usize {
        self.limbo.len()
    }

    /// Makes everything free that was retired at or before `epoch`, which all workers have passed.
    pub(super) fn recover(&mut self, epoch: u64) {
        while self.limbo.front().is_some_and(|(retired, _)| *retired <= epoch) {
            let Some((_, part)) = self.limbo.pop_front() else { return };
            self.free(part);
        }
    }

    fn free(&mut self, part: Retired) {
        match part {
            Retired::Nodes { base, count } => self.nodes.release(base, count as usize),
            Retired::Leaves { base, count } => self.leaves.release(base, count as usize),
            Retired::Lines { base, count } => self.lines.release(base, count as usize),
            Retired::Header(index) => self.headers.release(index, 1),
            Retired::NextHop(index) => self.next_hops.release(index, 1),
            Retired::Instance(index) => self.instance_indices.release(index, 1),
            Retired::Junction(word) => self.junctions.push(word),
            Retired::Slot(slot) => self.records.release(slot),
            Retired::Ours { v6: false, base, count } => self.ours4.release(base, count as usize),
            Retired::Ours { v6: true, base, count } => self.ours6.release(base, count as usize),
            Retired::Words { base, count } => {
                // SAFETY: nothing leads to the block, and every worker has begun a turn since.
                unsafe { self.words.release(&self.tables.words, base, count as usize) };
            }
            Retired::Blocks { base, count } => {
                self.blocks_used -= count as usize;
                // SAFETY: as above.
                unsafe { self.blocks.release(&self.tables.blocks, base, count as usize) };
            }
            Retired::Hosts { base, count } => {
                // SAFETY: as above.
                unsafe { self.hosts.release(&self.tables.hosts, base, count as usize) };
            }
        }
    }

    /// A node that nobody sees yet, in an array of its own.
    pub(super) fn lone_node(&mut self, node: Node) -> u32 {
        let index = self.nodes.allocate(&self.tables.nodes, 1);
        // SAFETY: just handed out, so committed and unseen.
        unsafe { self.tables.nodes.put(index, node) };
        index
    }

    /// A leaf that nobody sees yet, in an array of its own.
    pub(super) fn lone_leaf(&mut self, slot: u32) -> u32 {
        let index = self.leaves.allocate(&self.tables.leaves, 1);
        self.tables.leaf(index).store(slot, Ordering::Relaxed);
        index
    }

    /// What workers do with packets under a slot.
    pub(super) fn action_of(&self, slot: u32) -> Action {
        Action(self.tables.action_word(slot).load(Ordering::Relaxed))
    }

    /// Tells workers what to do with packets under a slot.
    pub(super) fn set_action(&self, slot: u32, action: Action) {
        let slots = slot as usize + 1;
        let ready = self.tables.actions.commit(slots) && self.tables.marks.commit(slots);
        assert!(ready, "no memory left for the map-cache");
        // Ordering 1: what the action leads to is there.
        self.tables.action_word(slot).store(action.0, Ordering::Release);
    }

    /// Tells workers what header features say under a slot that has an action.
    pub(super) fn set_mark(&mut self, slot: u32, mark: Mark) {
        let word = mark.to_word();
        self.marked |= word != 0;
        // Without any mark no page of them is touched.
        if self.marked {
            self.tables.mark_word(slot).store(word, Ordering::Release);
        }
    }

    /// The instance's state, made if it is not there. `None` without memory for it.
    pub(super) fn instance(&mut self, instance: InstanceId) -> Option<InstanceState> {
        if let Some(state) = self.instances.get(&instance) {
            return Some(*state);
        }
        if instance == InstanceId::DEFAULT {
            let state = InstanceState { index: DEFAULT, prefixes: [0; 2] };
            self.instances.insert(instance, state);
            return Some(state);
        }
        self.make_index_room()?;
        let index = self.instance_indices.allocate(&self.tables.instances, 1);
        // SAFETY: just handed out.
        unsafe { self.tables.instances.put(index, Instance::default()) };
        let table = Hashed::from_word(self.tables.index.load(Ordering::Relaxed));
        self.enter_index(table, u64::from(index) << 32 | (u64::from(instance.get()) + 1));
        let state = InstanceState { index, prefixes: [0; 2] };
        self.instances.insert(instance, state);
        Some(state)
    }

    /// Counts a family's prefixes of an instance that is there up or down.
    pub(super) fn count(&mut self, instance: InstanceId, v6: bool, change: i32) -> InstanceState {
        let state = self.instances.get_mut(&instance).expect("an instance with prefixes is known");
        let prefixes = &mut state.prefixes[usize::from(v6)];
        *prefixes = prefixes.wrapping_add_signed(change);
        *state
    }

    /// What tables and books occupy, with counters of so many workers.
    pub(super) fn octets(&self, readers: usize) -> Memory {
        let Self { tables, .. } = self;
        let instances = self.instance_indices.extent().1 * size_of::<Instance>();
        let trie = self.nodes.extent().1 * size_of::<Node>()
            + self.leaves.extent().1 * size_of::<u32>()
            + tables.blocks.resident()
            + tables.words.resident()
            + tables.hosts.resident()
            + instances;
        let values = self.lines.extent().1 * (size_of::<Line>() + size_of::<Members>())
            + self.headers.extent().1 * size_of::<OuterHeader>()
            + self.next_hops.extent().1 * size_of::<NextHop>()
            + self.ours4.extent().1 * size_of::<Masked<u32>>()
            + self.ours6.extent().1 * size_of::<Masked<u128>>()
            + self.records.slots() * size_of::<Action>()
            + if self.marked { self.records.slots() * size_of::<u64>() } else { 0 };
        let local: usize = self.ours.values().map(Book::octets).sum();
        let books = local + self.instances.allocation_size() + self.crowds.allocation_size() + self.shared.octets();
        let limbo = self.limbo.capacity() * size_of::<(u64, Retired)>();
        let records = self.records.octets() + books + limbo;
        let counters = self.records.slots() * readers * size_of::<Volume>();
        Memory { trie, values, records, counters }
    }

    /// Lets the root of a family without prefixes go, and the instance with the last.
    pub(super) fn drop_if_empty(&mut self, instance: InstanceId, v6: bool) {
        let state = self.count(instance, v6, 0);
        if state.prefixes[usize::from(v6)] == 0 {
            self.drop_root(state, v6);
        }
        if state.prefixes == [0; 2] {
            self.drop_instance(instance);
        }
    }

    /// Forgets an instance without prefixes.
    fn drop_instance(&mut self, instance: InstanceId) {
        let Some(state) = self.instances.remove(&instance) else { return };
        if instance == InstanceId::DEFAULT {
            return;
        }
        // Closed up by writing a new table: places of an open table cannot be emptied under readers that probe it.
        let log = Hashed::from_word(self.tables.index.load(Ordering::Relaxed)).log;
        if self.rebuild_index(log).is_some() {
            self.retire(Retired::Instance(state.index));
        } else {
            self.instances.insert(instance, state);
        }
    }

    /// Sees to it that one more instance fits the index, at most half full.
    fn make_index_room(&mut self) -> Option<()> {
        let table = self.tables.index.load(Ordering::Relaxed);
        let log = if table == 0 { 5 } else { Hashed::from_word(table).log };
        if table != 0 && (self.instances.len() + 1) * 2 <= 1 << log {
            return Some(());
        }
        self.rebuild_index(if table == 0 { log } else { log + 1 })
    }

    /// Writes the index anew with `1 << log` places.
    fn rebuild_index(&mut self, log: u32) -> Option<()> {
        let old = self.tables.index.load(Ordering::Relaxed);
        let table = Hashed { base: self.words.allocate(&self.tables.words, 1 << log)?, log };
        let all: Vec<u64> = self
            .instances
            .iter()
            .filter(|(instance, _)| **instance != InstanceId::DEFAULT)
            .map(|(instance, state)| u64::from(state.index) << 32 | (u64::from(instance.get()) + 1))
            .collect();
        all.into_iter().for_each(|word| self.enter_index(table, word));
        self.tables.index.store(table.word(), Ordering::Release);
        if old != 0 {
            let Hashed { base, log } = Hashed::from_word(old);
            self.retire(Retired::Words { base, count: 1 << log });
        }
        Some(())
    }

    /// Enters an instance into a table that has a free place.
    fn enter_index(&self, table: Hashed, word: u64) {
        let mut at = self.tables.instance_place(word & 0xffff_ffff) & table.mask();
        while self.tables.word(table.base + at).load(Ordering::Relaxed) != 0 {
            at = (at + 1) & table.mask();
        }
        self.tables.word(table.base + at).store(word, Ordering::Release);
    }
}
