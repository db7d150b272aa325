//! A batch of addresses on its way through the table: what a worker fills, and what it reads afterwards.

use std::net::IpAddr;

use super::entry::Entry;
use crate::mapping::InstanceId;

/// No address: an Instance-ID has 24 bits.
const NONE: u64 = u64::MAX;

/// Addresses that are looked up together; a worker owns one and fills it anew for each batch.
#[derive(Debug)]
pub struct Lookups {
    pub(super) v4: Vec<Wanted<u32>>,
    pub(super) v6: Vec<Wanted<u128>>,
    /// Tickets of addresses that repeat the one before, as in a train of packets, or where one host talks to many: they
    /// find what that one found.
    pub(super) repeats: Vec<u32>,
    /// The address before, if it was of IPv4, with its instance; [`NONE`] otherwise.
    last_v4: u64,
    /// The same of IPv6.
    last_v6: (u128, u64),
    /// By ticket: slots, zero where nothing was found. As long as the capacity.
    pub(super) found: Box<[u32]>,
    /// Given out: at least as many as there are addresses.
    pub(super) tickets: usize,
    /// The instance of all addresses; `mixed` if some are of another.
    pub(super) instance: InstanceId,
    pub(super) mixed: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<A> {
    pub(super) address: A,
    pub(super) instance: InstanceId,
    pub(super) ticket: u32,
}

impl Lookups {
    /// Room for `capacity` addresses; nothing is allocated afterwards.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let (v4, v6) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        let (repeats, found) = (Vec::with_capacity(capacity), vec![0; capacity].into());
        Self {
            v4,
            v6,
            repeats,
            last_v4: NONE,
            last_v6: (0, NONE),
            found,
            tickets: 0,
            instance: InstanceId::DEFAULT,
            mixed: false,
        }
    }

    /// Forgets all addresses.
    #[inline]
    pub fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
        self.repeats.clear();
        (self.last_v4, self.last_v6.1) = (NONE, NONE);
        (self.tickets, self.mixed) = (0, false);
    }

    /// Adds an address; returns the ticket for what will be found.
    ///
    /// # Panics
    /// Beyond the capacity.
    #[inline(always)]
    pub fn push(&mut self, instance: InstanceId, address: IpAddr) -> usize {
        match address {
            IpAddr::V4(v4) => self.push_v4(instance, v4.to_bits()),
            IpAddr::V6(v6) => self.push_v6(instance, v6.to_bits()),
        }
    }

    /// As [`push`](Self::push), an IPv4 address.
    #[inline(always)]
    pub fn push_v4(&mut self, instance: InstanceId, address: u32) -> usize {
        let ticket = self.ticket();
        let this = u64::from(instance.get()) << 32 | u64::from(address);
        if this == self.last_v4 {
            self.repeats.push(ticket as u32);
            return ticket;
        }
        (self.last_v4, self.last_v6.1) = (this, NONE);
        self.meet(instance);
        put(&mut self.v4, Wanted { address, instance, ticket: ticket as u32 });
        ticket
    }

    #[inline(always)]
    fn meet(&mut self, instance: InstanceId) {
        if self.v4.len() + self.v6.len() == 0 {
            self.instance = instance;
        }
        self.mixed |= self.instance != instance;
    }

    /// As [`push`](Self::push), an IPv6 address.
    #[inline(always)]
    pub fn push_v6(&mut self, instance: InstanceId, address: u128) -> usize {
        let ticket = self.ticket();
        let this = (address, u64::from(instance.get()));
        if this == self.last_v6 {
            self.repeats.push(ticket as u32);
            return ticket;
        }
        (self.last_v4, self.last_v6) = (NONE, this);
        self.meet(instance);
        put(&mut self.v6, Wanted { address, instance, ticket: ticket as u32 });
        ticket
    }

    /// Gives out a ticket by which nothing will be found.
    ///
    /// # Panics
    /// Beyond the capacity.
    #[inline]
    pub fn skip(&mut self) -> usize {
        let ticket = self.ticket();
        self.found[ticket] = 0;
        (self.last_v4, self.last_v6.1) = (NONE, NONE);
        ticket
    }

    #[inline(always)]
    fn ticket(&mut self) -> usize {
        let ticket = self.tickets;
        assert!(ticket < self.found.len(), "more addresses than there is room for");
        self.tickets += 1;
        ticket
    }

    /// What the address of `ticket` found, after [`Snapshot::lookup_all`](super::Snapshot::lookup_all).
    ///
    /// # Panics
    /// If there is no such ticket.
    #[inline(always)]
    #[must_use]
    pub fn found(&self, ticket: usize) -> Option<Entry> {
        Entry::from_slot(self.found[ticket])
    }

    /// The same for every ticket, in the order in which they were given out.
    #[inline(always)]
    pub fn all_found(&self) -> impl Iterator<Item = Option<Entry>> {
        self.found[..self.tickets].iter().map(|slot| Entry::from_slot(*slot))
    }
}

/// Appends to a vector that has room: both have the capacity of all tickets together.
#[inline(always)]
fn put<A>(wanted: &mut Vec<Wanted<A>>, item: Wanted<A>) {
    debug_assert!(wanted.len() < wanted.capacity());
    // SAFETY: `ticket` checked that fewer than `capacity` tickets were given out, and each put one item into one vector
    // at most.
    unsafe {
        wanted.as_mut_ptr().add(wanted.len()).write(item);
        wanted.set_len(wanted.len() + 1);
    }
}
