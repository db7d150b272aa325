//! ARP for IPv4 over Ethernet: 28 octets.
//!
//! ```text
//! | hardware type 1 (16) | protocol type 0x0800 (16) | 6 (8) | 4 (8) | operation (16) |
//! | sender MAC (48) | sender IPv4 (32) | target MAC (48) | target IPv4 (32) |
//! ```
//!
//! Source: RFC 826.

use std::net::Ipv4Addr;

use super::WireError;

/// Hardware type, protocol type and address lengths of IPv4 over Ethernet.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP packet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Asks for the target's MAC address.
    Request,
    /// Tells the sender's.
    Reply,
}

/// An ARP request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpPacket {
    /// What it does.
    pub operation: Operation,
    /// The sender's MAC address.
    pub sender_mac: [u8; 6],
    /// The sender's address.
    pub sender: Ipv4Addr,
    /// The target's MAC address; zero in a request.
    pub target_mac: [u8; 6],
    /// The address asked for, or the asker's.
    pub target: Ipv4Addr,
}

impl ArpPacket {
    /// Octets of the packet.
    pub const LENGTH: usize = 28;

    /// Splits the packet off the front of `octets`; what follows is padding.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 28 octets; [`WireError::Contradiction`] for other hardware, another protocol or
    /// another operation.
    pub fn split(octets: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let Some((packet, rest)) = octets.split_first_chunk::<{ Self::LENGTH }>() else {
            return Err(WireError::Truncated { need: Self::LENGTH, have: octets.len() });
        };
        if packet[..6] != ETHERNET_IPV4 {
            return Err(WireError::Contradiction("ARP for other than IPv4 over Ethernet"));
        }
        let operation = match packet[6..8] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return Err(WireError::Contradiction("ARP operation")),
        };
        let mac = |at: usize| -> [u8; 6] { std::array::from_fn(|index| packet[at + index]) };
        let address = |at: usize| Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|index| packet[at + index]));
        let value =
            Self { operation, sender_mac: mac(8), sender: address(14), target_mac: mac(18), target: address(24) };
        Ok((value, rest))
    }

    /// Writes the packet to the front of `octets`.
    pub fn write(&self, octets: &mut [u8]) {
        octets[..6].copy_from_slice(&ETHERNET_IPV4);
        let operation = match self.operation {
            Operation::Request => [0, 1],
            Operation::Reply => [0, 2],
        };
        octets[6..8].copy_from_slice(&operation);
        octets[8..14].copy_from_slice(&self.sender_mac);
        octets[14..18].copy_from_slice(&self.sender.octets());
        octets[18..24].copy_from_slice(&self.target_mac);
        octets[24..28].copy_from_slice(&self.target.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_value() {
        let mut octets = [
            0, 1, 8, 0, 6, 4, 0, 1, // request
            2, 0, 0, 0, 0, 1, 240, 0, 254, 10, // sender
            0, 0, 0, 0, 0, 0, 240, 0, 254, 20, // target
        ];
        let mut packet = ArpPacket {
            operation: Operation::Request,
            sender_mac: [2, 0, 0, 0, 0, 1],
            sender: [240, 0, 254, 10].into(),
            target_mac: [0; 6],
            target: [240, 0, 254, 20].into(),
        };
        for (operation, bits) in [(Operation::Request, 1), (Operation::Reply, 2)] {
            packet.operation = operation;
            octets[7] = bits;
            assert_eq!(ArpPacket::split(&octets), Ok((packet, &[][..])));
            let mut written = [0xee; 28];
            packet.write(&mut written);
            assert_eq!(written, octets);
        }
        for (at, value) in [(7, 3), (1, 6), (3, 1), (4, 8), (5, 16)] {
            let mut wrong = octets;
            wrong[at] = value;
            assert!(matches!(ArpPacket::split(&wrong), Err(WireError::Contradiction(_))), "octet {at}");
        }
        assert_eq!(ArpPacket::split(&octets[..27]), Err(WireError::Truncated { need: 28, have: 27 }));
    }
}
