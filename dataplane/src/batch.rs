//! What is known of the frames of a batch between the steps that they take together.
//!
//! ```text
//! read     every frame's headers, from a frame asked for some frames earlier; both addresses go to the look-up
//! look up  all addresses side by side
//! ask for  what each entry leads to, then the outer header that its flow chooses
//! decide   frame by frame, on what has arrived meanwhile
//! ```
//!
//! Why together, in nanoseconds a packet (`altitude-perf mem`, IPv4 in IPv4, 64 octets, every packet to another mapping
//! that chance picks; the packet's generator, 5 ns, included; one core of a virtual EPYC 9005 that others load, 2048
//! frames in process; a forwarder that only swaps link-layer addresses took 7.2 to 8.3 in the same runs):
//!
//! | mappings | one frame after the other | batches of 8 | 16 | 32 | 64 | 128 | 256 |
//! |---|---|---|---|---|---|---|---|
//! | 10,000 | 136 | 64 | 53 | 45 | 42 | 42 | 41 |
//! | 900,000 | 735 | 144 | 94 | 66 | 54 | 53 | 54 |

#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::{
    cache::{Entry, Lookups, Snapshot, Way, prefetch},
    decap::{self, CorePacket, is_for_etr},
    encap::{self, Context, Setup, SitePacket},
    frame::{Frame, Umem},
    mapping::InstanceId,
    verdict::{Reason, Verdict},
    worker::{PortRole, SourceCheck},
};

/// Frames that go together; of a larger batch, so many at a time. As many addresses go down the table side by side.
pub(crate) const TOGETHER: usize = 64;
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

/// Where the packets of a batch go, in the order of its frames; `None` for what found nothing. Beside the batch, because
/// it is good for one turn only.
pub(crate) type Ways<'a> = [Option<Way<'a>>; TOGETHER];

/// A frame whose look-ups are done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    packet: Packet,
    source: Option<Entry>,
    destination: Option<(Entry, Way<'a>)>,
}

impl Found<'_> {
    /// Decides on the frame, and readies it if it can be sent.
    #[inline(always)]
    pub(crate) fn decide(self, umem: &mut Umem, frame: &mut Frame, role: &PortRole, context: &Context<'_>) -> Verdict {
        let Self { packet, source, destination } = self;
        match packet {
            Packet::Site(packet) => encap::encap(umem, frame, role.instance, packet, source, destination, context),
            Packet::Core(packet) => decap::decap(umem, frame, packet, source, destination, context),
            Packet::Lost(reason) => Verdict::Drop(reason),
        }
    }
}

impl Batch {
    /// With all its memory.
    pub(crate) fn new() -> Self {
        Self { packets: Vec::with_capacity(TOGETHER), lookups: Pairs::new(TOGETHER) }
    }

    /// Reads `frames`, which came in by a port with this role, and looks up where they go. At most [`TOGETHER`].
    pub(crate) fn look_up<'a>(
        &mut self,
        umem: &Umem,
        frames: &[Frame],
        role: &PortRole,
        cache: &Snapshot<'a>,
        setup: &Setup,
    ) -> Ways<'a> {
        let site = |octets: &[u8], lookups: &mut Pairs| {
            encap::read(octets, role.instance, setup, lookups).map_or_else(Packet::Lost, Packet::Site)
        };
        let core = |octets: &[u8], lookups: &mut Pairs| {
            decap::read(octets, setup, lookups).map_or_else(Packet::Lost, Packet::Core)
        };
        // The side of the port decides which path a frame takes; three loops, so that each is short.
        match (role.site, role.core) {
            (true, false) => self.read(umem, frames, site),
            (_, true) if !role.site => self.read(umem, frames, core),
            _ => self.read(umem, frames, |octets, lookups| {
                if role.core && is_for_etr(octets, &setup.rlocs) {
                    core(octets, lookups)
                } else {
                    site(octets, lookups)
                }
            }),
        }
        self.ways(cache, setup.source_check)
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

    /// Looks all addresses up, follows the entries, and asks for what they lead to.
    #[inline(never)]
    fn ways<'a>(&mut self, cache: &Snapshot<'a>, source_check: SourceCheck) -> Ways<'a> {
        let Self { packets, lookups } = self;
        lookups.look_up(cache);
        let Pairs { sources, destinations } = lookups;
        for entry in sources.all_found().flatten() {
            cache.prefetch(entry);
        }
        for entry in destinations.all_found().flatten() {
            cache.prefetch(entry);
            cache.prefetch_hit(entry);
        }
        for entry in destinations.all_found().flatten() {
            cache.prefetch_way(entry);
        }
        if source_check == SourceCheck::Secure {
            for entry in sources.all_found().flatten() {
                cache.prefetch_members(entry);
            }
        }
        let mut ways = [None; TOGETHER];
        for ((way, packet), entry) in ways.iter_mut().zip(packets).zip(destinations.all_found()) {
            let flow = if let Packet::Site(site) = packet.packet() { site.flow() } else { 0 };
            *way = entry.map(|entry| cache.way(entry, flow));
            if let Some(Way::Tunnel(outer)) = way {
                prefetch(*outer);
            }
        }
        ways
    }

    /// The frames that were looked up last, in their order.
    #[inline(always)]
    pub(crate) fn found<'a>(&self, ways: &Ways<'a>) -> impl Iterator<Item = Found<'a>> {
        let Pairs { sources, destinations } = &self.lookups;
        let entries = sources.all_found().zip(destinations.all_found().zip(ways));
        self.packets.iter().zip(entries).map(|(packet, (source, (entry, way)))| Found {
            packet: packet.packet(),
            source,
            destination: entry.zip(*way),
        })
    }
}
