//! What is known of the frames of a batch between the steps that they take together.
//!
//! ```text
//! read     every frame's headers, from a frame asked for some frames earlier; both addresses go to the look-up
//! look up  all addresses side by side
//! ask for  what each entry leads to, then the outer header that its flow chooses
//! decide   frame by frame, on what has arrived meanwhile; what nearly all are first, and what is left by the long way
//! ```
//!
//! Why together, in nanoseconds a packet (`altitude-perf mem --only encap/v4v4/64/10k/rand --batch N`, and the same of 900k:
//! IPv4 in IPv4, 64 octets, every packet to another mapping that chance picks; the packet's generator, 5 ns, included; one
//! core of a virtual EPYC 9005 that others load, 2048 frames in process; a forwarder that only swaps link-layer addresses
//! took 7.3 to 8.3 in the same runs from batches of 16 on, 10 in batches of 8 and 42 without):
//!
//! | mappings | one frame after the other | batches of 8 | 16 | 32 | 64 | 128 | 256 |
//! |---|---|---|---|---|---|---|---|
//! | 10,000 | 147 | 43 | 37 | 34 | 33 | 32 | 34 |
//! | 900,000 | 725 | 116 | 72 | 52 | 46 | 42 | 42 |

#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::{
    cache::{Lookups, Ours, Snapshot, Way, prefetch},
    decap::{self, CorePacket, is_for_etr},
    encap::{self, Context, Setup, SitePacket},
    frame::{Frame, Umem},
    mapping::{InstanceId, PortIndex},
    proxy,
    sightings::Desk,
    tap::Lead,
    verdict::{Reason, Verdict},
    worker::{PortRole, SourceCheck},
};

/// Frames that go together; of a larger batch, so many at a time. As many addresses go down the table side by side.
pub(crate) const TOGETHER: usize = 64;
/// Frames between the one that is asked for and the one that is read.
const AHEAD: usize = 8;

/// In the word of a packet of either path: its source was looked up too.
pub(crate) const ASKS: u64 = 1 << 58;

/// In the place of a port: what was decided is another thing.
const RARE: u16 = u16::MAX;

/// A frame that was read: a packet of either path or the reason why it is none, in one word, with the kind in the top two
/// bits, which the paths leave free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word(u64);

/// What a [`Word`] holds.
enum Packet {
    Site(SitePacket),
    Core(CorePacket),
    Lost(Reason),
}

impl Word {
    const CORE: u64 = 1 << 62;
    const LOST: u64 = 1 << 63;

    #[inline(always)]
    pub(crate) const fn site(SitePacket(word): SitePacket) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub(crate) const fn core(CorePacket(word): CorePacket) -> Self {
        Self(word | Self::CORE)
    }

    pub(crate) const fn lost(reason: Reason) -> Self {
        Self(reason as u64 | Self::LOST)
    }

    #[inline(always)]
    const fn is_lost(self) -> bool {
        self.0 & Self::LOST != 0
    }

    #[inline(always)]
    const fn asks(self) -> bool {
        self.0 & ASKS != 0
    }

    /// The hash of a site packet's flow; of others, a number that leads nowhere.
    #[inline(always)]
    const fn flow(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    const fn packet(self) -> Packet {
        let rest = self.0 & !(Self::CORE | Self::LOST);
        if self.is_lost() {
            Packet::Lost(Reason::ALL[rest as usize])
        } else if self.0 & Self::CORE != 0 {
            Packet::Core(CorePacket(rest))
        } else {
            Packet::Site(SitePacket(rest))
        }
    }
}

/// The frames of a batch, in their order, and what they have looked up. Never allocates after it was made.
#[derive(Debug)]
pub(crate) struct Batch {
    packets: [Word; TOGETHER],
    /// Of the packets that ask.
    sources: Lookups,
    /// Of all.
    destinations: Lookups,
    /// Which port each frame goes out by, or [`RARE`].
    egresses: [u16; TOGETHER],
    /// What was decided on those, in their order. Never beyond its capacity.
    rare: Vec<Verdict>,
}

/// What the frames of a batch have looked up, in their order. Sources apart from destinations: most need no look-up, and
/// those of one kind are found at about the same depth of the table.
pub(crate) struct Questions<'a, 'b> {
    cache: &'b Snapshot<'a>,
    /// Every source's entry is looked up: a header feature goes by its mark.
    blind: bool,
    /// What is ours in the instance asked about last: mostly that of the next packet too.
    ours: (InstanceId, Ours<'a>),
    sources: &'b mut Lookups,
    destinations: &'b mut Lookups,
}

impl Questions<'_, '_> {
    /// Whether an address lies in one of our EID-prefixes; `None` if it has to be looked up.
    pub(crate) fn is_ours(&mut self, instance: InstanceId, address: IpAddr) -> Option<bool> {
        self.meet(instance);
        self.ours.1.holds(address)
    }

    /// As [`is_ours`](Self::is_ours), of an IPv4 address.
    #[inline(always)]
    pub(crate) fn is_ours_v4(&mut self, instance: InstanceId, address: u32) -> Option<bool> {
        self.meet(instance);
        self.ours.1.holds_v4(address)
    }

    /// As [`is_ours`](Self::is_ours), of an IPv6 address.
    #[inline(always)]
    pub(crate) fn is_ours_v6(&mut self, instance: InstanceId, address: u128) -> Option<bool> {
        self.meet(instance);
        self.ours.1.holds_v6(address)
    }

    #[inline(always)]
    fn meet(&mut self, instance: InstanceId) {
        if instance != self.ours.0 {
            self.ours = (instance, ours(self.cache, instance, self.blind));
        }
    }

    /// Has a packet's destination looked up, and its source where there is one to look up.
    pub(crate) fn push(&mut self, instance: InstanceId, source: Option<IpAddr>, destination: IpAddr) {
        if let Some(source) = source {
            self.sources.push(instance, source);
        }
        self.destinations.push(instance, destination);
    }

    /// As [`push`](Self::push), of IPv4.
    #[inline(always)]
    pub(crate) fn push_v4(&mut self, instance: InstanceId, source: Option<u32>, destination: u32) {
        if let Some(source) = source {
            self.sources.push_v4(instance, source);
        }
        self.destinations.push_v4(instance, destination);
    }

    /// As [`push`](Self::push), of IPv6.
    #[inline(always)]
    pub(crate) fn push_v6(&mut self, instance: InstanceId, source: Option<u128>, destination: u128) {
        if let Some(source) = source {
            self.sources.push_v6(instance, source);
        }
        self.destinations.push_v6(instance, destination);
    }
}

/// What is ours in an instance; nothing is told of it where every source is looked up.
fn ours<'a>(cache: &Snapshot<'a>, instance: InstanceId, blind: bool) -> Ours<'a> {
    if blind { Ours::unlisted() } else { cache.ours(instance) }
}

impl Default for Batch {
    /// With all its memory.
    fn default() -> Self {
        let lookups = || Lookups::new(TOGETHER);
        Self {
            packets: [Word::lost(Reason::SiteTruncated); TOGETHER],
            sources: lookups(),
            destinations: lookups(),
            egresses: [RARE; TOGETHER],
            rare: Vec::with_capacity(TOGETHER),
        }
    }
}

impl Batch {
    /// Reads `frames`, which came in by a port with this role, and looks up where they go. At most [`TOGETHER`].
    pub(crate) fn look_up(
        &mut self,
        umem: &Umem,
        frames: &[Frame],
        role: &PortRole,
        cache: &Snapshot<'_>,
        setup: &Setup,
    ) {
        let features = setup.features;
        let blind = if role.core { features.any() } else { features.marks() };
        // The side of the port decides which path a frame takes; three loops, so that each is short.
        let (site, core) = (role.site, role.core);
        if site && !core {
            self.read(umem, frames, cache, (role.instance, blind), |octets, questions| {
                encap::read(octets, role.instance, setup, questions)
            });
        } else if core && !site && !role.native {
            self.read(umem, frames, cache, (role.instance, blind), |octets, questions| {
                decap::read(octets, setup, questions)
            });
        } else if role.native {
            self.read(umem, frames, cache, (role.instance, blind), |octets, questions| {
                match core && is_for_etr(octets, &setup.rlocs) {
                    true => decap::read(octets, setup, questions),
                    false => proxy::read(octets, role.instance, setup, questions),
                }
            });
        } else {
            self.read(umem, frames, cache, (role.instance, blind), |octets, questions| {
                match core && is_for_etr(octets, &setup.rlocs) {
                    true => decap::read(octets, setup, questions),
                    false => encap::read(octets, role.instance, setup, questions),
                }
            });
        }
        self.ask(cache, setup, site || !core || role.native || setup.proxy.rtr);
    }

    #[inline(never)]
    fn read<'a>(
        &mut self,
        umem: &Umem,
        frames: &[Frame],
        cache: &Snapshot<'a>,
        (instance, blind): (InstanceId, bool),
        read: impl Fn(&[u8], &mut Questions<'a, '_>) -> Word,
    ) {
        let Self { packets, sources, destinations, .. } = self;
        sources.clear();
        destinations.clear();
        let ours = (instance, ours(cache, instance, blind));
        let mut questions = Questions { cache, blind, ours, sources, destinations };
        for frame in frames.iter().take(AHEAD) {
            umem.prefetch(frame);
        }
        for (index, (frame, word)) in frames.iter().zip(packets).enumerate() {
            if let Some(next) = frames.get(index + AHEAD) {
                umem.prefetch(next);
            }
            *word = read(umem.octets(frame), &mut questions);
            if word.is_lost() {
                questions.destinations.skip();
            }
        }
    }

    /// Looks all addresses up, and asks for what the entries lead to. `tunnels`: some may go into tunnels.
    #[inline(never)]
    fn ask(&mut self, cache: &Snapshot<'_>, setup: &Setup, tunnels: bool) {
        let Self { packets, sources, destinations, .. } = self;
        cache.lookup_all(sources);
        cache.lookup_all(destinations);
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
        if setup.features.marks() {
            for entry in sources.all_found().chain(destinations.all_found()).flatten() {
                cache.prefetch_mark(entry);
            }
        }
        if setup.source_check == SourceCheck::Secure || setup.proxy.is_on() {
            for entry in sources.all_found().flatten() {
                cache.prefetch_members(entry);
            }
        }
        if !tunnels {
            return;
        }
        // The way is not kept, but found again where it is taken: that costs less than to write it down and read it back.
        for (entry, word) in destinations.all_found().zip(packets) {
            if let Some(Way::Tunnel(outer)) = entry.map(|entry| cache.way(entry, word.flow())) {
                prefetch(outer);
            }
        }
    }

    /// Decides on the frames that were looked up last, the same in the same order, and readies those that can be sent.
    /// Gives the port if all go out by the same one; else [`verdicts`](Self::verdicts) tells.
    #[inline(never)]
    pub(crate) fn decide(
        &mut self,
        umem: &mut Umem,
        frames: &mut [Frame],
        instance: InstanceId,
        context: &Context<'_>,
        mut desk: Option<&mut Desk>,
    ) -> Option<PortIndex> {
        let Self { packets, sources, destinations, egresses, rare } = self;
        rare.clear();
        let mut sources = sources.all_found();
        let (mut first, mut other) = (None, 0);
        for (((frame, word), destination), place) in
            frames.iter_mut().zip(packets).zip(destinations.all_found()).zip(egresses)
        {
            let source = if word.asks() { sources.next().flatten() } else { None };
            let plain = match word.packet() {
                Packet::Site(packet) => encap::encap_plain(umem, frame, packet, destination, context),
                Packet::Core(packet) => decap::decap_plain(umem, frame, packet, source, destination, context),
                Packet::Lost(_) => None,
            };
            let egress = match plain {
                Some(egress) => u16::from(egress),
                None => {
                    rare.push(match word.packet() {
                        Packet::Site(packet) => {
                            encap::encap(umem, frame, instance, packet, source, destination, context)
                        }
                        Packet::Core(packet) => {
                            decap::decap(umem, frame, packet, source, destination, context, desk.as_deref_mut())
                        }
                        Packet::Lost(reason) => Verdict::Drop(reason),
                    });
                    RARE
                }
            };
            *place = egress;
            other |= egress ^ *first.get_or_insert(egress);
        }
        first.filter(|_| other == 0).and_then(|egress| PortIndex::try_from(egress).ok())
    }

    /// Where the table leads each packet that was looked up, in the order of the frames, before it is decided on.
    pub(crate) fn leads<'a>(&self, cache: &Snapshot<'a>) -> impl Iterator<Item = Lead<'a>> {
        self.destinations.all_found().zip(&self.packets).map(|(entry, word)| match (word.packet(), entry) {
            (Packet::Lost(_), _) | (_, None) => Lead::Way(None),
            (Packet::Site(packet), Some(entry)) => Lead::Way(Some(cache.way(entry, packet.flow()))),
            // The inner flow chooses, and is not read yet.
            (Packet::Core(_), Some(entry)) => match cache.way(entry, 0) {
                Way::Tunnel(_) => Lead::Tunnel,
                way => Lead::Way(Some(way)),
            },
        })
    }

    /// The instance that the first packet's LISP header names, if it came from the core.
    pub(crate) fn first_instance(&self, octets: &[u8]) -> Option<InstanceId> {
        match self.packets[0].packet() {
            Packet::Core(packet) => Some(packet.instance(octets)),
            Packet::Site(_) | Packet::Lost(_) => None,
        }
    }

    /// The longest packet that passes where the first one goes; 0 if it goes nowhere.
    pub(crate) fn first_limit(&self, cache: &Snapshot<'_>) -> usize {
        let entry = self.destinations.all_found().next().flatten();
        match entry.map(|entry| cache.way(entry, self.packets[0].flow())) {
            Some(Way::Tunnel(outer)) => outer.inner_limit(),
            Some(Way::Native(next_hop)) => next_hop.mtu(),
            _ => 0,
        }
    }

    /// What was decided, in the order of the frames.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        let mut rare = self.rare.iter();
        self.egresses.iter().map_while(move |egress| match PortIndex::try_from(*egress) {
            Ok(egress) => Some(Verdict::Send(egress)),
            Err(_) => rare.next().copied(),
        })
    }
}
