//! What is known of the frames of a batch between the steps that they take together.
//!
//! ```text
//! read     every frame's headers, from a frame asked for some frames earlier; both addresses go to the look-up
//! look up  all addresses side by side
//! ask for  what each entry leads to, then the outer header that its flow chooses
//! decide   frame by frame, on what has arrived meanwhile
//! ```

#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::{
    cache::{Entry, Lookups, Snapshot, Way, prefetch},
    decap::{self, CorePacket, is_for_etr},
    encap::{self, Context, SitePacket},
    frame::{Frame, Umem},
    mapping::InstanceId,
    verdict::{Reason, Verdict},
    worker::{PortRole, SourceCheck},
};

/// Frames between the one that is asked for and the one that is read.
const AHEAD: usize = 8;

/// A frame that was read.
#[derive(Debug, Clone, Copy)]
enum Packet {
    Site(SitePacket),
    Core(CorePacket),
    Lost(Reason),
}

/// A [`Packet`] in one word, with its kind in the top two bits: the paths leave them free.
#[derive(Debug, Clone, Copy)]
struct Word(u64);

impl Word {
    const KIND: u32 = 62;

    #[inline(always)]
    const fn new(packet: Packet) -> Self {
        Self(match packet {
            Packet::Site(SitePacket(word)) => word,
            Packet::Core(CorePacket(word)) => word | 1 << Self::KIND,
            Packet::Lost(reason) => reason as u64 | 2 << Self::KIND,
        })
    }

    #[inline(always)]
    const fn packet(self) -> Packet {
        let rest = self.0 & !(3 << Self::KIND);
        match self.0 >> Self::KIND {
            0 => Packet::Site(SitePacket(rest)),
            1 => Packet::Core(CorePacket(rest)),
            _ => Packet::Lost(Reason::ALL[rest as usize]),
        }
    }
}

/// The frames of a batch, in their order, and what they have looked up. Never allocates after it was made.
#[derive(Debug)]
pub(crate) struct Batch {
    packets: Vec<Word>,
    lookups: Pairs,
}

/// The addresses of a batch, in the order of its frames. Sources and destinations are looked up apart: those of one kind
/// are found at about the same depth of the table, and a look-up of many takes as long as its longest.
#[derive(Debug)]
pub(crate) struct Pairs {
    sources: Lookups,
    destinations: Lookups,
}

impl Pairs {
    fn new(capacity: usize) -> Self {
        Self { sources: Lookups::new(capacity), destinations: Lookups::new(capacity) }
    }

    fn clear(&mut self) {
        self.sources.clear();
        self.destinations.clear();
    }

    fn look_up(&mut self, cache: &Snapshot<'_>) {
        cache.lookup_all(&mut self.sources);
        cache.lookup_all(&mut self.destinations);
    }

    /// Adds the addresses of a packet.
    pub(crate) fn push(&mut self, instance: InstanceId, source: IpAddr, destination: IpAddr) {
        self.sources.push(instance, source);
        self.destinations.push(instance, destination);
    }

    /// As [`push`](Self::push), of IPv4.
    #[inline(always)]
    pub(crate) fn push_v4(&mut self, instance: InstanceId, source: u32, destination: u32) {
        self.sources.push_v4(instance, source);
        self.destinations.push_v4(instance, destination);
    }

    /// Keeps the place of a frame that has nothing to look up.
    fn skip(&mut self) {
        self.sources.skip();
        self.destinations.skip();
    }
}

/// A frame whose look-ups are done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    packet: Packet,
    /// Of its source and its destination.
    entries: [Option<Entry>; 2],
}

impl Found {
    /// Decides on the frame, and readies it if it can be sent.
    #[inline(always)]
    pub(crate) fn decide(self, umem: &mut Umem, frame: &mut Frame, role: &PortRole, context: &Context<'_>) -> Verdict {
        match self.packet {
            Packet::Site(packet) => encap::encap(umem, frame, role.instance, packet, self.entries, context),
            Packet::Core(packet) => decap::decap(umem, frame, packet, self.entries, context),
            Packet::Lost(reason) => Verdict::Drop(reason),
        }
    }
}

impl Batch {
    /// For at most `frames` frames.
    pub(crate) fn new(frames: usize) -> Self {
        Self { packets: Vec::with_capacity(frames), lookups: Pairs::new(frames) }
    }

    /// Reads `frames`, which came in by a port with this role, and looks up their addresses.
    pub(crate) fn look_up(&mut self, umem: &Umem, frames: &[Frame], role: &PortRole, context: &Context<'_>) {
        let site = |octets: &[u8], lookups: &mut Pairs| {
            encap::read(octets, role.instance, context, lookups).map_or_else(Packet::Lost, Packet::Site)
        };
        let core = |octets: &[u8], lookups: &mut Pairs| {
            decap::read(octets, context, lookups).map_or_else(Packet::Lost, Packet::Core)
        };
        // The side of the port decides which path a frame takes; three loops, so that each is short.
        match (role.site, role.core) {
            (true, false) => self.read(umem, frames, site),
            (_, true) if !role.site => self.read(umem, frames, core),
            _ => self.read(umem, frames, |octets, lookups| {
                if role.core && is_for_etr(octets, &context.setup.rlocs) {
                    core(octets, lookups)
                } else {
                    site(octets, lookups)
                }
            }),
        }
        self.ask_for(context);
    }

    #[inline(never)]
    fn read(&mut self, umem: &Umem, frames: &[Frame], read: impl Fn(&[u8], &mut Pairs) -> Packet) {
        self.packets.clear();
        self.lookups.clear();
        for frame in frames.iter().take(AHEAD) {
            umem.prefetch(frame);
        }
        for (index, frame) in frames.iter().enumerate() {
            if let Some(next) = frames.get(index + AHEAD) {
                umem.prefetch(next);
            }
            let packet = read(umem.octets(frame), &mut self.lookups);
            if let Packet::Lost(_) = packet {
                self.lookups.skip();
            }
            self.packets.push(Word::new(packet));
        }
    }

    /// Looks all addresses up, and asks for what the entries lead to.
    #[inline(never)]
    fn ask_for(&mut self, context: &Context<'_>) {
        let Self { packets, lookups } = self;
        let cache = context.cache;
        lookups.look_up(cache);
        for entry in lookups.destinations.all_found().flatten() {
            cache.prefetch(entry);
        }
        if context.setup.source_check == SourceCheck::Secure {
            for entry in lookups.sources.all_found().flatten() {
                cache.prefetch_members(entry);
            }
        }
        for (packet, entry) in packets.iter().zip(lookups.destinations.all_found()) {
            if let (Packet::Site(site), Some(entry)) = (packet.packet(), entry)
                && let Way::Tunnel(outer) = cache.way(entry, site.flow())
            {
                prefetch(outer);
            }
        }
    }

    /// The frames that were looked up last, in their order.
    #[inline(always)]
    pub(crate) fn found(&self) -> impl Iterator<Item = Found> {
        let Pairs { sources, destinations } = &self.lookups;
        let entries = sources.all_found().zip(destinations.all_found());
        self.packets
            .iter()
            .zip(entries)
            .map(|(packet, (source, destination))| Found { packet: packet.packet(), entries: [source, destination] })
    }
}
