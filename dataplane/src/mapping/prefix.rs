//! EIDs, prefixes and Instance-IDs.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

/// A LISP Instance-ID: 24 bits are usable in the data plane; 0 is the default instance.
///
/// Source: RFC 9300 §8, RFC 8060 §4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct InstanceId(u32);

impl InstanceId {
    /// The instance of packets and records that carry no Instance-ID.
    pub const DEFAULT: Self = Self(0);
    /// The largest value the data header can carry.
    pub const MAX: u32 = 0x00ff_ffff;

    /// `None` above 24 bits.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// The number itself, 0 … 2²⁴−1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text or a pair is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The length exceeds the family's 32 or 128 bits.
    #[error("prefix length {length} is longer than an address of its family ({limit} bits)")]
    TooLong {
        /// The length given, in bits.
        length: u8,
        /// 32 or 128.
        limit: u8,
    },
    /// Not `address/length`.
    #[error("'{0}' is not a prefix: write it as address/length, for example 1.1.0.0/16 or 2001:db8::/32")]
    Syntax(String),
}

/// An IP prefix whose host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Masks the host bits of `address` off.
    ///
    /// # Errors
    /// [`PrefixError::TooLong`] above 32 or 128 bits.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let limit = Self::bits(address);
        if length > limit {
            return Err(PrefixError::TooLong { length, limit });
        }
        Ok(Self { address: mask(address, length), length })
    }

    /// The prefix that holds every address of IPv4.
    pub const ALL_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 };

    /// The prefix that holds `address` alone.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: Self::bits(address) }
    }

    /// The address with its host bits zero.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The length in bits.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether the prefix holds one address only.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.length == Self::bits(self.address)
    }

    /// Whether `address` is of this family and inside.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && mask(address, self.length) == self.address
    }

    /// Whether every address of `other` is inside.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    const fn bits(address: IpAddr) -> u8 {
        match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }
}

fn mask(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - length).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - length).unwrap_or(0)).into()),
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.address, self.length))
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `address/length`; a bare address is a host prefix.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || PrefixError::Syntax(text.to_owned());
        let Some((address, length)) = text.split_once('/') else {
            return Ok(Self::host(text.parse().map_err(|_| syntax())?));
        };
        Self::new(address.parse().map_err(|_| syntax())?, length.parse().map_err(|_| syntax())?)
    }
}

/// One endpoint address inside an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Eid {
    /// The instance whose table is searched.
    pub instance: InstanceId,
    /// The address inside it.
    pub address: IpAddr,
}

impl fmt::Display for Eid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instance {
            InstanceId::DEFAULT => write!(f, "{}", self.address),
            instance => write!(f, "[{instance}]{}", self.address),
        }
    }
}

/// An EID-Prefix: what a mapping is about (RFC 9300 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EidPrefix {
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// The block of addresses.
    pub prefix: Prefix,
}

impl EidPrefix {
    /// The prefix that holds `eid` alone.
    #[must_use]
    pub fn host(eid: Eid) -> Self {
        Self { instance: eid.instance, prefix: Prefix::host(eid.address) }
    }

    /// Whether `eid` is of this instance and inside.
    #[must_use]
    pub fn contains(&self, eid: Eid) -> bool {
        self.instance == eid.instance && self.prefix.contains(eid.address)
    }

    /// Whether every EID of `other` is inside.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.instance == other.instance && self.prefix.covers(&other.prefix)
    }
}

impl fmt::Display for EidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instance {
            InstanceId::DEFAULT => self.prefix.fmt(f),
            instance => f.pad(&format!("[{instance}]{}", self.prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_masked_and_lengths_checked() {
        for (text, shown) in [
            ("1.1.2.3/16", "1.1.0.0/16"),
            ("1.1.2.3", "1.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("255.255.255.255/0", "0.0.0.0/0"),
            ("2001:db8:ffff::1/33", "2001:db8:8000::/33"),
            ("::1", "::1/128"),
            ("ffff::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), shown);
        }
        assert_eq!("1.1.1.1/33".parse::<Prefix>(), Err(PrefixError::TooLong { length: 33, limit: 32 }));
        assert!(matches!("1.1.1/8".parse::<Prefix>(), Err(PrefixError::Syntax(_))));
        assert!(matches!("1.1.1.1/x".parse::<Prefix>(), Err(PrefixError::Syntax(_))));
    }

    #[test]
    fn containment_keeps_families_and_instances_apart() {
        let all_v4: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(all_v4.contains("9.9.9.9".parse().unwrap()));
        assert!(!all_v4.contains("::9".parse().unwrap()));
        assert!(all_v4.covers(&"10.0.0.0/8".parse().unwrap()));
        let five = EidPrefix { instance: InstanceId::new(5).unwrap(), prefix: all_v4 };
        assert!(!five.contains(Eid { instance: InstanceId::DEFAULT, address: "9.9.9.9".parse().unwrap() }));
        assert_eq!(five.to_string(), "[5]0.0.0.0/0");
        assert_eq!(InstanceId::new(1 << 24), None);
    }
}
