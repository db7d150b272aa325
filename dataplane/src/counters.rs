//! What a worker counts: one cache-aligned block per worker, one writer each, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use crate::{mapping::PortIndex, verdict::Reason};

/// Most ports of one instance; a port index is below it.
pub const PORTS_MAX: usize = 16;

/// A counter with one writer: adding is a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, by the one thread that writes this counter.
    #[inline]
    pub fn add(&self, count: u64) {
        // Relaxed: nothing is published through a counter, and nobody else writes it.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Reads, by any thread; may lag.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Packets and octets, from the Ethernet header on.
#[derive(Debug, Default)]
pub struct Volume {
    /// How many.
    pub packets: Counter,
    /// Their lengths added up.
    pub octets: Counter,
}

impl Volume {
    /// Counts one packet.
    #[inline]
    pub fn count(&self, octets: usize) {
        self.packets.add(1);
        self.octets.add(octets as u64);
    }
}

/// One port as one worker saw it.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Taken from the receive ring.
    pub received: Volume,
    /// Put on the transmit ring.
    pub sent: Volume,
}

/// Everything one worker counts.
#[derive(Debug, Default)]
pub struct Counters {
    ports: CachePadded<[PortCounters; PORTS_MAX]>,
    /// Site packets sent with an outer header.
    pub encapsulated: Counter,
    /// Core packets whose inner packet was sent on to the site.
    pub decapsulated: Counter,
    /// Core packets that went out of one tunnel into the next.
    pub reencapsulated: Counter,
    /// Of the decapsulated ones, packets to destinations that are no EIDs, sent on natively: a PETR's.
    pub decapsulated_native: Counter,
    /// Site packets sent without an outer header, by a negative entry with ACT 1.
    pub native: Counter,
    /// Site packets split in two before encapsulation: too long for the way, and their sender allows it.
    pub split: Counter,
    /// Lookups that found no mapping or no neighbour.
    pub missed: Counter,
    /// Misses that found the queue to the control thread full.
    pub misses_unasked: Counter,
    /// Frames held for a missing mapping or neighbour.
    pub held: Counter,
    /// Held frames sent after the answer came.
    pub held_sent: Counter,
    /// ICMP messages sent to hosts.
    pub icmp_sent: Counter,
    /// Packet octets copied on the encapsulation and decapsulation path; headers written do not count. Only a split
    /// copies (the second part's octets): without one it stays 0.
    pub copied_octets: Counter,
    /// ECN combinations that RFC 6040 §4.2 calls dangerous or unexpected, but that were passed.
    pub ecn_odd: Counter,
    /// What peers' LISP headers told, passed to the control thread.
    pub sightings: Counter,
    /// The same that found its queue full, or came too often in one turn.
    pub sightings_lost: Counter,
    /// Packets of a trace that found no room on the way to who asked for it.
    pub untraced: Counter,
    /// Copies of packets without a mapping that found their queue to the control thread full.
    pub samples_lost: Counter,
    /// Turns taken.
    pub turns: Counter,
    /// Turns in which no port had a frame.
    pub idle_turns: Counter,
    /// Frames in use that no ring, batch or hold queue accounts for at the end of a run. Stays 0.
    pub leaked: Counter,
    drops: CachePadded<Drops>,
}

#[derive(Debug)]
struct Drops([Counter; Reason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Counters {
    /// The block of one port.
    ///
    /// # Panics
    /// If `port` is not below [`PORTS_MAX`]; port numbers are checked at start.
    #[inline]
    #[must_use]
    pub fn port(&self, port: PortIndex) -> &PortCounters {
        &self.ports[usize::from(port)]
    }

    /// Counts a dropped frame.
    #[inline]
    pub fn drop(&self, reason: Reason) {
        self.drops.0[reason as usize].add(1);
    }

    /// Every counter that is not a port's, with its stable name; the drops come last, by
    /// their reasons.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = [
            ("encapsulated", &self.encapsulated),
            ("decapsulated", &self.decapsulated),
            ("reencapsulated", &self.reencapsulated),
            ("decapsulated-native", &self.decapsulated_native),
            ("native", &self.native),
            ("split", &self.split),
            ("missed", &self.missed),
            ("misses-unasked", &self.misses_unasked),
            ("held", &self.held),
            ("held-sent", &self.held_sent),
            ("icmp-sent", &self.icmp_sent),
            ("copied-octets", &self.copied_octets),
            ("ecn-odd", &self.ecn_odd),
            ("sightings", &self.sightings),
            ("sightings-lost", &self.sightings_lost),
            ("untraced", &self.untraced),
            ("samples-lost", &self.samples_lost),
            ("turns", &self.turns),
            ("idle-turns", &self.idle_turns),
            ("leaked", &self.leaked),
        ];
        let drops = Reason::ALL.iter().map(|reason| (reason.name(), self.dropped(*reason)));
        counters.into_iter().map(|(name, counter)| (name, counter.get())).chain(drops)
    }

    /// Frames dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops.0[reason as usize].get()
    }
}
