//! A batch of addresses on its way through the table: what a worker fills, and what it reads afterwards.
//!
//! ```text
//! ticket  0 1 2 3 4     places ─▶ a b b c d     each address once, in one array for its family
//! address a b b c d                             found by place, then told to the tickets
//! ```
//!
//! Addresses are plain arrays, for they are looked up by the million: a batch of one family whose addresses differ has
//! every address at its ticket's place, and what is found goes straight to the tickets.

use std::net::IpAddr;

use super::entry::Entry;
use crate::mapping::InstanceId;

/// Addresses that are looked up together; a worker owns one and fills it anew for each batch.
#[derive(Debug)]
pub struct Lookups {
    pub(super) v4: Wanted<u32>,
    pub(super) v6: Wanted<u128>,
    /// By ticket: where in [`slots`](Self::slots) what it finds will be. As long as the capacity.
    pub(super) places: Box<[u32]>,
    /// What was found, if tickets and addresses differ: 0 for tickets without an address, then IPv4, then IPv6.
    pub(super) slots: Box<[u32]>,
    /// By ticket: slots, zero where nothing was found. As long as the capacity.
    pub(super) found: Box<[u32]>,
    /// Given out: at least as many as there are addresses.
    pub(super) tickets: usize,
    /// The instance of all addresses; `mixed` if some are of another.
    pub(super) instance: InstanceId,
    pub(super) mixed: bool,
}

/// The addresses of one family, without those that repeat the one before, as in a train of packets, or where one host
/// talks to many.
#[derive(Debug)]
pub(super) struct Wanted<A> {
    addresses: Box<[A]>,
    instances: Box<[InstanceId]>,
    pub(super) count: usize,
}

impl<A: Copy + Default + PartialEq> Wanted<A> {
    fn new(capacity: usize) -> Self {
        let (addresses, instances) = (vec![A::default(); capacity].into(), vec![InstanceId::DEFAULT; capacity].into());
        Self { addresses, instances, count: 0 }
    }

    /// The addresses, and the instance of each.
    #[inline(always)]
    pub(super) fn all(&self) -> (&[A], &[InstanceId]) {
        (&self.addresses[..self.count], &self.instances[..self.count])
    }

    /// Adds an address unless it is the one added last.
    ///
    /// # Safety
    /// There are fewer than the capacity.
    #[inline(always)]
    unsafe fn put(&mut self, instance: InstanceId, address: A) {
        let (addresses, instances) = (self.addresses.as_mut_ptr(), self.instances.as_mut_ptr());
        // SAFETY: `count` is below the capacity, as promised, and with it the place of the last one.
        unsafe {
            let last = self.count.wrapping_sub(1);
            if last < self.count && *addresses.add(last) == address && *instances.add(last) == instance {
                return;
            }
            addresses.add(self.count).write(address);
            instances.add(self.count).write(instance);
        }
        self.count += 1;
    }
}

impl Lookups {
    /// Room for `capacity` addresses; nothing is allocated afterwards.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let zeroes = |count| vec![0; count].into();
        Self {
            v4: Wanted::new(capacity),
            v6: Wanted::new(capacity),
            places: zeroes(capacity),
            slots: zeroes(1 + 2 * capacity),
            found: zeroes(capacity),
            tickets: 0,
            instance: InstanceId::DEFAULT,
            mixed: false,
        }
    }

    /// Forgets all addresses.
    #[inline]
    pub fn clear(&mut self) {
        (self.v4.count, self.v6.count) = (0, 0);
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
        self.meet(instance);
        // SAFETY: `ticket` checked that fewer tickets than the capacity were given out, and each put one in at most.
        unsafe { self.v4.put(instance, address) };
        self.places[ticket] = self.v4.count as u32;
        ticket
    }

    /// As [`push`](Self::push), an IPv6 address.
    #[inline(always)]
    pub fn push_v6(&mut self, instance: InstanceId, address: u128) -> usize {
        let ticket = self.ticket();
        self.meet(instance);
        // SAFETY: as in `push_v4`.
        unsafe { self.v6.put(instance, address) };
        self.places[ticket] = (self.found.len() + self.v6.count) as u32;
        ticket
    }

    /// Gives out a ticket by which nothing will be found.
    ///
    /// # Panics
    /// Beyond the capacity.
    #[inline]
    pub fn skip(&mut self) -> usize {
        let ticket = self.ticket();
        self.places[ticket] = 0;
        ticket
    }

    #[inline(always)]
    fn meet(&mut self, instance: InstanceId) {
        if self.v4.count + self.v6.count == 0 {
            self.instance = instance;
        }
        self.mixed |= self.instance != instance;
    }

    #[inline(always)]
    fn ticket(&mut self) -> usize {
        let ticket = self.tickets;
        assert!(ticket < self.places.len(), "more addresses than there is room for");
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
