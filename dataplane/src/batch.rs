//! What is known of the frames of a batch between the steps that they take together.
//!
//! ```text
//! read     every frame's headers, from a frame asked for some frames earlier; both addresses go to the look-up
//! look up  all addresses side by side
//! ask for  what each entry leads to, then the outer header that its flow chooses
//! decide   frame by frame, on what has arrived meanwhile
//! ```

#![forbid(unsafe_code)]

use crate::{
    cache::{Lookups, Way, prefetch},
    decap::{self, CorePacket, is_for_etr},
    encap::{self, Context, SitePacket},
    frame::{Frame, Umem},
    verdict::{Reason, Verdict},
    worker::PortRole,
};

/// Frames between the one that is asked for and the one that is read.
const AHEAD: usize = 8;
/// Octets asked for in front of a packet, where the outer header goes, and from its start on.
const FRONT: usize = 36;
const HEAD: usize = 78;

/// A frame that was read.
#[derive(Debug, Clone, Copy)]
enum Packet {
    Site(SitePacket),
    Core(CorePacket),
    Lost(Reason),
}

/// The frames of a batch, in their order, and what they have looked up. Never allocates after it was made.
#[derive(Debug)]
pub(crate) struct Batch {
    packets: Vec<Packet>,
    lookups: Lookups,
}

impl Batch {
    /// For at most `frames` frames.
    pub(crate) fn new(frames: usize) -> Self {
        Self { packets: Vec::with_capacity(frames), lookups: Lookups::new(2 * frames) }
    }

    /// Reads `frames`, which came in by a port with this role, and looks up their addresses.
    pub(crate) fn look_up(&mut self, umem: &Umem, frames: &[Frame], role: &PortRole, context: &Context<'_>) {
        let Self { packets, lookups } = self;
        packets.clear();
        lookups.clear();
        for frame in frames.iter().take(AHEAD) {
            umem.prefetch(frame, FRONT, HEAD);
        }
        for (index, frame) in frames.iter().enumerate() {
            if let Some(next) = frames.get(index + AHEAD) {
                umem.prefetch(next, FRONT, HEAD);
            }
            packets.push(Packet::read(umem.octets(frame), role, context, lookups));
        }
        let cache = context.cache;
        cache.lookup_all(lookups);
        for entry in packets.iter().filter_map(|packet| lookups.found(packet.destination()?)) {
            cache.prefetch(entry);
        }
        for packet in packets.iter() {
            if let Packet::Site(site) = packet
                && let Some(entry) = lookups.found(site.destination())
                && let Way::Tunnel(outer) = cache.way(entry, site.flow())
            {
                prefetch(outer);
            }
        }
    }

    /// Decides on frame number `index` of those that were looked up last, and readies it if it can be sent.
    #[inline(always)]
    pub(crate) fn decide(
        &self,
        index: usize,
        umem: &mut Umem,
        frame: &mut Frame,
        role: &PortRole,
        context: &Context<'_>,
    ) -> Verdict {
        match &self.packets[index] {
            Packet::Site(packet) => encap::encap(umem, frame, role.instance, packet, &self.lookups, context),
            Packet::Core(packet) => decap::decap(umem, frame, packet, &self.lookups, context),
            Packet::Lost(reason) => Verdict::Drop(*reason),
        }
    }
}

impl Packet {
    /// The side of the port decides which path a frame takes.
    #[inline(always)]
    fn read(octets: &[u8], role: &PortRole, context: &Context<'_>, lookups: &mut Lookups) -> Self {
        let core = role.core && (!role.site || is_for_etr(octets, &context.setup.rlocs));
        let read = if core {
            decap::read(octets, context, lookups).map(Self::Core)
        } else {
            encap::read(octets, role.instance, context, lookups).map(Self::Site)
        };
        read.unwrap_or_else(Self::Lost)
    }

    #[inline(always)]
    const fn destination(&self) -> Option<usize> {
        match self {
            Self::Site(packet) => Some(packet.destination()),
            Self::Core(packet) => Some(packet.destination()),
            Self::Lost(_) => None,
        }
    }
}
