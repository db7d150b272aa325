//! The way to a host or a next router of the site, compiled to octets before any packet needs it.

use super::{Adjacency, MacAddress, PortIndex, VlanTag};

/// Without a VLAN tag, octets.
const PLAIN: usize = 14;
/// With one.
const TAGGED: usize = 18;

/// An [`Adjacency`] as workers use it: its link-layer header, ready but for the EtherType. Never across two cache lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct NextHop {
    /// The EtherType is zero.
    octets: [u8; TAGGED],
    mtu: u16,
    length: u8,
    port: PortIndex,
}

impl NextHop {
    /// Compiles the header.
    #[must_use]
    pub fn new(adjacency: &Adjacency) -> Self {
        let mut octets = [0; TAGGED];
        let length = adjacency.write(0, &mut octets) as u8;
        Self { octets, mtu: adjacency.mtu, length, port: adjacency.port }
    }

    /// What it was compiled from.
    #[must_use]
    pub fn adjacency(&self) -> Adjacency {
        let [destination @ .., _, _, _, _, _, _] = *self.octets.first_chunk::<12>().expect("as long as a plain one");
        let source: MacAddress = self.octets[6..12].try_into().expect("6 octets");
        let word = |at: usize| u16::from_be_bytes([self.octets[at], self.octets[at + 1]]);
        let vlan = (self.len() == TAGGED).then(|| VlanTag { tpid: word(12), tci: word(14) });
        Adjacency { port: self.port, destination, source, vlan, mtu: self.mtu }
    }

    /// Octets in front of the IP packet: 14 or 18.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Port to send through.
    #[inline(always)]
    #[must_use]
    pub const fn port(&self) -> PortIndex {
        self.port
    }

    /// Largest IP packet the link carries, octets.
    #[inline(always)]
    #[must_use]
    pub const fn mtu(&self) -> usize {
        self.mtu as usize
    }

    /// Writes the header to the front of `frame` and gives the octets behind it; `None`, and nothing written, if there is
    /// no room for it.
    ///
    /// Without a VLAN tag the copy is two moves of whole registers.
    #[inline(always)]
    #[must_use]
    pub fn stamp<'a>(&self, frame: &'a mut [u8], ethertype: u16) -> Option<&'a mut [u8]> {
        if self.len() != PLAIN {
            return self.stamp_tagged(frame, ethertype);
        }
        let (header, rest) = frame.split_first_chunk_mut::<PLAIN>()?;
        header.copy_from_slice(&self.octets[..PLAIN]);
        header[PLAIN - 2..].copy_from_slice(&ethertype.to_be_bytes());
        Some(rest)
    }

    #[cold]
    #[inline(never)]
    fn stamp_tagged<'a>(&self, frame: &'a mut [u8], ethertype: u16) -> Option<&'a mut [u8]> {
        let (header, rest) = frame.split_first_chunk_mut::<TAGGED>()?;
        *header = self.octets;
        header[TAGGED - 2..].copy_from_slice(&ethertype.to_be_bytes());
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_adjacency_say_the_same() {
        for vlan in [None, Some(VlanTag { tpid: 0x88a8, tci: 0x2007 })] {
            let adjacency =
                Adjacency { port: 3, destination: [2, 0, 0, 0, 0, 9], source: [2, 0, 0, 0, 0, 1], vlan, mtu: 1400 };
            let next_hop = NextHop::new(&adjacency);
            assert_eq!(next_hop.adjacency(), adjacency);
            assert_eq!((next_hop.len(), next_hop.mtu(), next_hop.port()), (adjacency.link_length(), 1400, 3));
            let (mut expected, mut frame) = ([0xee; 40], [0xee; 40]);
            let length = adjacency.write(0x86dd, &mut expected);
            assert_eq!(next_hop.stamp(&mut frame, 0x86dd).map(|rest| rest.len()), Some(40 - length));
            assert_eq!(frame, expected);
            assert_eq!(next_hop.stamp(&mut frame[..length - 1], 0x0800), None);
            assert_eq!(frame, expected, "nothing is written without room");
        }
    }
}
