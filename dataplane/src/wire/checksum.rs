//! The Internet checksum.
//!
//! Sums add up, so a checksum over several pieces is `!fold(a + b + …)` as long as every piece but the last has an even
//! length.
//!
//! Source: RFC 1071; incremental update RFC 1624 §3; pseudo-headers RFC 768, RFC 8200 §8.1.

use std::net::IpAddr;

/// One's-complement sum of the 16-bit words of `octets`, below 2¹⁷; an odd last octet counts as the high half of a word.
#[inline]
#[must_use]
pub fn sum(octets: &[u8]) -> u32 {
    let mut total = 0_u64;
    let (words, rest) = octets.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_be_bytes(last));
    // 2³² ≡ 2¹⁶ ≡ 1 modulo 2¹⁶−1. The first line leaves below 2³³, so the second needs its 64 bits.
    let total = (total >> 32) + (total & 0xffff_ffff);
    let total = (total >> 32) + (total & 0xffff_ffff);
    ((total >> 16) + (total & 0xffff)) as u32
}

/// Folds a sum into 16 bits, not complemented.
#[inline]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The checksum of `octets`, whose own checksum field is zero or left out.
#[inline]
#[must_use]
pub fn checksum(octets: &[u8]) -> u16 {
    !fold(sum(octets))
}

/// Whether `octets`, checksum field included, add up.
#[inline]
#[must_use]
pub fn verifies(octets: &[u8]) -> bool {
    fold(sum(octets)) == 0xffff
}

/// The sum of a transport protocol's pseudo-header; `length` is that of the transport header and its data, octets.
#[inline]
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> u32 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    address(source) + address(destination) + u32::from(protocol) + (length >> 16) + (length & 0xffff)
}

/// `checksum` after one 16-bit word it covers changed from `old` to `new`.
#[inline]
#[must_use]
pub const fn adjust(checksum: u16, old: u16, new: u16) -> u16 {
    // Equation 3 of RFC 1624: the older equation 2 can yield 0x0000 where a full computation yields 0xffff.
    !fold(!checksum as u32 + !old as u32 + new as u32)
}

/// `checksum`, as it lies in the header, after the TTL that it covers became less by one: the high octet of its word,
/// so the sum grew by 0x0100 (RFC 1141), and 0xffff is to be 0x0000 (RFC 1624 §3).
#[inline(always)]
#[must_use]
pub fn after_hop(checksum: [u8; 2]) -> [u8; 2] {
    // Sums do not depend on the order of octets (RFC 1071 §2).
    let sum = u32::from(u16::from_ne_bytes(checksum)) + u32::from(u16::from_ne_bytes([1, 0]));
    ((sum + u32::from(sum >= 0xffff)) as u16).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_less_is_a_word_less_by_0x0100() {
        for sealed in 0..=u16::MAX {
            assert_eq!(after_hop(sealed.to_be_bytes()), adjust(sealed, 0x0100, 0).to_be_bytes(), "{sealed:#06x}");
        }
    }

    #[test]
    fn sums_agree_with_the_definition() {
        // RFC 1071 §3's example: words 0001 f203 f4f5 f6f7.
        let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&octets)), 0xddf2);
        assert_eq!(checksum(&octets), !0xddf2);
        let long: Vec<u8> = (0..=255_u8).rev().cycle().take(70_001).collect();
        for length in (0..70).chain([1499, 1500, 1501, 65_535, 70_001]) {
            let octets = &long[..length];
            let mut total = 0_u64;
            for word in octets.chunks(2) {
                total += u64::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u64::from(low));
            }
            while total > 0xffff {
                total = (total >> 16) + (total & 0xffff);
            }
            assert_eq!(u64::from(fold(sum(octets))), total, "length {length}");
        }
        assert_eq!(fold(sum(&[0xff; 65_536])), 0xffff, "the largest sum");
    }

    #[test]
    fn adjusting_equals_computing_anew() {
        let mut octets = [0x45, 0, 0, 0x2d, 0x12, 0x34, 0, 0, 0x3f, 0x11, 0, 0, 0xc0, 0, 2, 10, 0xc6, 0x33, 0x64, 0x14];
        for value in [0_u16, 1, 0x00ff, 0x3f11, 0x7fff, 0x8000, 0xfffe, 0xffff] {
            let before = checksum(&octets);
            let old = u16::from_be_bytes([octets[8], octets[9]]);
            octets[8..10].copy_from_slice(&value.to_be_bytes());
            assert_eq!(adjust(before, old, value), checksum(&octets), "{old:#x} to {value:#x}");
        }
    }
}
