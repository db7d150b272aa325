//! What beyond its locators a mapping has to say to packets: its version and its Locator-Status-Bits.

use super::MapVersion;

/// What workers go by where map-versioning or Locator-Status-Bits are switched on, or we relay for xTRs behind NATs; one word in
/// the map-cache.
///
/// Under an EID-prefix of ours it is what packets out of it are to say, and what packets into it are held against. Under
/// another site's it is what is known of that site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mark {
    /// Version of the mapping; without one packets carry none (RFC 9302 §6.1).
    pub version: Option<MapVersion>,
    /// Ours: bits to send, `None` while L is to stay 0. Another site's: bits that it sent last.
    pub status: Option<u32>,
    /// Ours: nobody can hold an older version any more, as its Record TTL is over (RFC 9302 §7.1).
    pub outlived: bool,
    /// Ours: which of our mappings it is.
    pub number: u16,
    /// Another site's: its xTR is behind a NAT and registered through us, so packets from and to it are for us to relay.
    pub relayed: bool,
}

impl Mark {
    const STATUS: u64 = 1 << 12;
    const OUTLIVED: u64 = 1 << 13;
    const RELAYED: u64 = 1 << 14;

    /// As the map-cache keeps it: zero is the default.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        let version = match self.version {
            Some(version) => version.get() as u64,
            None => 0,
        };
        let status = match self.status {
            Some(bits) => (bits as u64) << 32 | Self::STATUS,
            None => 0,
        };
        let outlived = if self.outlived { Self::OUTLIVED } else { 0 };
        let relayed = if self.relayed { Self::RELAYED } else { 0 };
        version | status | outlived | relayed | (self.number as u64) << 16
    }

    /// What [`to_word`](Self::to_word) gave.
    #[must_use]
    #[inline]
    pub const fn from_word(word: u64) -> Self {
        Self {
            version: MapVersion::new(word as u16),
            status: if word & Self::STATUS == 0 { None } else { Some((word >> 32) as u32) },
            outlived: word & Self::OUTLIVED != 0,
            number: (word >> 16) as u16,
            relayed: word & Self::RELAYED != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_its_word() {
        for version in [None, MapVersion::new(1), MapVersion::new(4095)] {
            for status in [None, Some(0), Some(5), Some(u32::MAX)] {
                let rest = [(false, 0, true), (true, 0, false), (false, u16::MAX, false), (true, 7, true)];
                for (outlived, number, relayed) in rest {
                    let mark = Mark { version, status, outlived, number, relayed };
                    assert_eq!(Mark::from_word(mark.to_word()), mark);
                }
            }
        }
        assert_eq!(Mark::default().to_word(), 0);
    }
}
