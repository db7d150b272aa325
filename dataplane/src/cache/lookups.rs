//! A batch of addresses on its way through the table: what a worker fills, and what it reads afterwards.
//!
//! ```text
//! one family, one instance   ticket 0 1 2 3   address a b c d           found goes straight to the tickets
//! others                     ticket 0 1 2 3   places ─▶ a b │ c d       an array for each family; found by place,
//!                                                       IPv4   IPv6     then told to the tickets
//! ```
//!
//! Nearly all batches are of the first kind, a *run*: an address is then one store into a plain array, since addresses are
//! looked up by the million. What only the second kind needs is written once a batch turns out to be one.

use std::net::IpAddr;

use super::entry::Entry;
use crate::mapping::InstanceId;

/// Instead of the instance of a run: the addresses are of another family, or differ in family or instance.
const NO_RUN: u32 = u32::MAX;

/// Addresses that are looked up together; a worker owns one and fills it anew for each batch.
#[derive(Debug)]
pub struct Lookups {
    /// The instance of all addresses so far, if all are IPv4; else [`NO_RUN`].
    run4: u32,
    /// The same of IPv6.
    run6: u32,
    /// Given out: at least as many as there are addresses.
    pub(super) tickets: usize,
    pub(super) v4: Wanted<u32>,
    pub(super) v6: Wanted<u128>,
    /// By ticket, but of a run: where in [`slots`](Self::slots) what it finds will be. As long as the capacity.
    pub(super) places: Box<[u32]>,
    /// What was found, but by a run: 0 for tickets without an address, then IPv4, then IPv6.
    pub(super) slots: Box<[u32]>,
    /// By ticket: slots, zero where nothing was found. As long as the capacity.
    pub(super) found: Box<[u32]>,
    /// Of the first address; `mixed` if some are of another.
    instance: InstanceId,
    mixed: bool,
}

/// The addresses of one family.
#[derive(Debug)]
pub(super) struct Wanted<A> {
    addresses: Box<[A]>,
    /// Of each address; of a run not written.
    instances: Box<[InstanceId]>,
    /// Of a run not kept up.
    pub(super) count: usize,
}

impl<A: Copy + Default> Wanted<A> {
    fn new(capacity: usize) -> Self {
        let (addresses, instances) = (vec![A::default(); capacity].into(), vec![InstanceId::DEFAULT; capacity].into());
        Self { addresses, instances, count: 0 }
    }

    /// The addresses, and the instance of each.
    #[inline(always)]
    pub(super) fn all(&self) -> (&[A], &[InstanceId]) {
        (&self.addresses[..self.count], &self.instances[..self.count])
    }

    fn put(&mut self, instance: InstanceId, address: A) {
        (self.addresses[self.count], self.instances[self.count]) = (address, instance);
        self.count += 1;
    }
}

impl Lookups {
    /// Room for `capacity` addresses; nothing is allocated afterwards.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let zeroes = |count| vec![0; count].into();
        Self {
            run4: NO_RUN,
            run6: NO_RUN,
            tickets: 0,
            v4: Wanted::new(capacity),
            v6: Wanted::new(capacity),
            places: zeroes(capacity),
            slots: zeroes(1 + 2 * capacity),
            found: zeroes(capacity),
            instance: InstanceId::DEFAULT,
            mixed: false,
        }
    }

    /// Forgets all addresses.
    #[inline]
    pub fn clear(&mut self) {
        (self.run4, self.run6, self.tickets) = (NO_RUN, NO_RUN, 0);
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
        let ticket = self.tickets;
        if instance.get() == self.run4
            && let Some(place) = self.v4.addresses.get_mut(ticket)
        {
            *place = address;
            self.tickets = ticket + 1;
            return ticket;
        }
        self.push_v4_apart(instance, address)
    }

    /// As [`push`](Self::push), an IPv6 address.
    #[inline(always)]
    pub fn push_v6(&mut self, instance: InstanceId, address: u128) -> usize {
        let ticket = self.tickets;
        if instance.get() == self.run6
            && let Some(place) = self.v6.addresses.get_mut(ticket)
        {
            *place = address;
            self.tickets = ticket + 1;
            return ticket;
        }
        self.push_v6_apart(instance, address)
    }

    /// As [`push_v4`](Self::push_v4) of each of them in their order; returns the first one's ticket.
    ///
    /// # Panics
    /// Beyond the capacity.
    #[inline]
    pub fn push_all_v4(&mut self, instance: InstanceId, addresses: &[u32]) -> usize {
        let ticket = self.tickets;
        if self.run4 != instance.get() && (ticket > 0 || addresses.is_empty()) {
            addresses.iter().for_each(|address| {
                self.push_v4(instance, *address);
            });
            return ticket;
        }
        let until = ticket + addresses.len();
        self.v4.addresses[ticket..until].copy_from_slice(addresses);
        (self.run4, self.instance, self.tickets) = (instance.get(), instance, until);
        ticket
    }

    /// Gives out a ticket by which nothing will be found.
    ///
    /// # Panics
    /// Beyond the capacity.
    #[cold]
    pub fn skip(&mut self) -> usize {
        self.part();
        self.give(0)
    }

    /// The first address of a batch, or one that does not go on with its run.
    #[cold]
    #[inline(never)]
    fn push_v4_apart(&mut self, instance: InstanceId, address: u32) -> usize {
        if self.tickets == 0 {
            (self.run4, self.instance, self.v4.addresses[0], self.tickets) = (instance.get(), instance, address, 1);
            return 0;
        }
        self.part();
        self.meet(instance);
        self.v4.put(instance, address);
        self.give(self.v4.count)
    }

    /// The same for IPv6.
    #[cold]
    #[inline(never)]
    fn push_v6_apart(&mut self, instance: InstanceId, address: u128) -> usize {
        if self.tickets == 0 {
            (self.run6, self.instance, self.v6.addresses[0], self.tickets) = (instance.get(), instance, address, 1);
            return 0;
        }
        self.part();
        self.meet(instance);
        self.v6.put(instance, address);
        self.give(self.found.len() + self.v6.count)
    }

    /// Gives a ticket out for a place.
    fn give(&mut self, place: usize) -> usize {
        let ticket = self.tickets;
        assert!(ticket < self.places.len(), "more addresses than there is room for");
        self.places[ticket] = place as u32;
        self.tickets += 1;
        ticket
    }

    fn meet(&mut self, instance: InstanceId) {
        if self.v4.count + self.v6.count == 0 {
            self.instance = instance;
        }
        self.mixed |= self.instance != instance;
    }

    /// Ends a run: writes down what was plain while it lasted.
    fn part(&mut self) {
        let (first, count) = match (self.run4, self.run6) {
            (NO_RUN, NO_RUN) if self.tickets > 0 => return,
            (NO_RUN, NO_RUN) => (0, [0, 0]),
            (_, NO_RUN) => (1, [self.tickets, 0]),
            _ => (self.found.len() + 1, [0, self.tickets]),
        };
        (self.run4, self.run6, self.mixed) = (NO_RUN, NO_RUN, false);
        [self.v4.count, self.v6.count] = count;
        self.v4.instances[..count[0]].fill(self.instance);
        self.v6.instances[..count[1]].fill(self.instance);
        for (place, number) in self.places[..self.tickets].iter_mut().zip(first as u32..) {
            *place = number;
        }
    }

    /// The instance of all addresses, unless they differ in it.
    #[inline(always)]
    pub(super) fn shared_instance(&self) -> Option<InstanceId> {
        (!self.mixed || self.is_run()).then_some(self.instance)
    }

    #[inline(always)]
    fn is_run(&self) -> bool {
        (self.run4 & self.run6) != NO_RUN
    }

    /// The addresses and what they find, by ticket, of a run of IPv4; and their instance.
    #[inline(always)]
    pub(super) fn run_v4(&mut self) -> Option<(InstanceId, &[u32], &mut [u32])> {
        let run = self.run4 != NO_RUN;
        run.then(|| (self.instance, &self.v4.addresses[..self.tickets], &mut self.found[..self.tickets]))
    }

    /// Lets the counts of both families say what a run has.
    #[inline(always)]
    pub(super) fn count(&mut self) {
        if self.is_run() {
            self.v4.count = if self.run4 == NO_RUN { 0 } else { self.tickets };
            self.v6.count = self.tickets - self.v4.count;
        } else if self.tickets == 0 {
            (self.v4.count, self.v6.count) = (0, 0);
        }
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
