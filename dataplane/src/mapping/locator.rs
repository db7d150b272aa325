//! Locators, actions and mappings as the control plane knows them.

use std::{fmt, net::IpAddr, num::NonZeroU16};

use super::{EidPrefix, Hop};

/// A locator of this priority is never used for unicast (RFC 9301 §5.4).
pub const UNUSABLE_PRIORITY: u8 = 255;

/// One RLOC of a locator-set, as a locator-record carries it (RFC 9301 §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Locator {
    /// The routing locator.
    pub address: IpAddr,
    /// Lower is better; [`UNUSABLE_PRIORITY`] is never used.
    pub priority: u8,
    /// Share among locators of equal priority, relative.
    pub weight: u8,
    /// As `priority`, for multicast joins.
    pub multicast_priority: u8,
    /// As `weight`, for multicast joins.
    pub multicast_weight: u8,
    /// L bit: the address belongs to the ETR that answers.
    pub local: bool,
    /// p bit: this is the locator that was probed.
    pub probed: bool,
    /// R bit: the answering ETR has a route to it. Without it an ITR must not encapsulate.
    pub reachable: bool,
    /// It is one stop of an explicit locator path, or one address of an AFI-List, which the others around it belong to, too:
    /// see [`Hop`].
    pub hop: Option<Hop>,
    /// An xTR behind a NAT, which has this UDP port for it; `address` is the NAT's. Never on the wire.
    pub translated: Option<NonZeroU16>,
}

impl Locator {
    /// A reachable locator that takes no part in multicast.
    #[must_use]
    pub const fn unicast(address: IpAddr, priority: u8, weight: u8) -> Self {
        Self {
            address,
            priority,
            weight,
            multicast_priority: UNUSABLE_PRIORITY,
            multicast_weight: 0,
            local: false,
            probed: false,
            reachable: true,
            hop: None,
            translated: None,
        }
    }

    /// Whether the mapping's owner lets ITRs use it (RFC 9300 §9).
    #[must_use]
    pub const fn usable(&self) -> bool {
        self.reachable && self.priority != UNUSABLE_PRIORITY
    }

    /// The order of a locator-set on the wire: ascending, IPv4 before IPv6 (RFC 9301 §5.5).
    #[must_use]
    pub fn wire_order(&self, other: &Self) -> std::cmp::Ordering {
        self.address.cmp(&other.address)
    }
}

/// What an ITR does with packets to a prefix without locators (RFC 9301 §5.4, §12.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Action {
    /// 0: the entry is kept and packets are dropped without a word.
    #[default]
    NoAction,
    /// 1: sent as they are, or to a PETR.
    NativelyForward,
    /// 2: every packet asks for a (rate-limited) Map-Request.
    SendMapRequest,
    /// 3: dropped, with an ICMP unreachable.
    Drop,
    /// 4: dropped by the mapping system's policy.
    DropPolicyDenied,
    /// 5: dropped because authentication failed.
    DropAuthFailure,
}

impl Action {
    /// The 3-bit field; the unassigned values 6 and 7 read as [`Action::NoAction`].
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            1 => Self::NativelyForward,
            2 => Self::SendMapRequest,
            3 => Self::Drop,
            4 => Self::DropPolicyDenied,
            5 => Self::DropAuthFailure,
            _ => Self::NoAction,
        }
    }

    /// The 3-bit field.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::NoAction => 0,
            Self::NativelyForward => 1,
            Self::SendMapRequest => 2,
            Self::Drop => 3,
            Self::DropPolicyDenied => 4,
            Self::DropAuthFailure => 5,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoAction => "no-action",
            Self::NativelyForward => "natively-forward",
            Self::SendMapRequest => "send-map-request",
            Self::Drop => "drop",
            Self::DropPolicyDenied => "drop-policy-denied",
            Self::DropAuthFailure => "drop-auth-failure",
        })
    }
}

/// A Record TTL: minutes on the wire, with two values that are no durations (RFC 9301 §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// 0: remove the entry at once.
    Remove,
    /// 1 … 2³²−2 minutes.
    Minutes(u32),
    /// 2³²−1: the receiver decides.
    ReceiverDecides,
}

impl Ttl {
    /// Reads the 32-bit field.
    #[must_use]
    pub const fn from_wire(value: u32) -> Self {
        match value {
            0 => Self::Remove,
            u32::MAX => Self::ReceiverDecides,
            minutes => Self::Minutes(minutes),
        }
    }

    /// The 32-bit field.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::Remove => 0,
            Self::Minutes(minutes) => minutes,
            Self::ReceiverDecides => u32::MAX,
        }
    }
}

/// What the mapping system says of one EID-Prefix (the EID-record of RFC 9301 §5.4).
///
/// No locators makes it negative, and `action` says what to do; with locators `action` has no meaning and is
/// [`Action::NoAction`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// The EIDs it speaks of.
    pub eid: EidPrefix,
    /// How long it may be kept.
    pub ttl: Ttl,
    /// Map-Version, 12 bits; 0 is none (RFC 9302).
    pub version: u16,
    /// Used only without locators.
    pub action: Action,
    /// A bit: an ETR of the site itself answered.
    pub authoritative: bool,
    /// In wire order.
    pub locators: Vec<Locator>,
}

impl Mapping {
    /// A negative mapping: no locators, an action.
    #[must_use]
    pub const fn negative(eid: EidPrefix, ttl: Ttl, action: Action) -> Self {
        Self { eid, ttl, version: 0, action, authoritative: false, locators: Vec::new() }
    }

    /// Whether it has no locators.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.locators.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_wire_values() {
        for bits in 0..8 {
            let action = Action::from_bits(bits);
            assert_eq!(action.bits(), if bits < 6 { bits } else { 0 });
        }
        for value in [0, 1, 1440, u32::MAX - 1, u32::MAX] {
            assert_eq!(Ttl::from_wire(value).to_wire(), value);
        }
        assert_eq!(Ttl::from_wire(0), Ttl::Remove);
        assert_eq!(Ttl::from_wire(u32::MAX), Ttl::ReceiverDecides);
    }

    #[test]
    fn wire_order_puts_ipv4_before_ipv6() {
        let locator = |text: &str| Locator::unicast(text.parse().unwrap(), 1, 1);
        let mut set = [locator("2001:db8::1"), locator("240.0.254.20"), locator("10.0.0.1")];
        set.sort_by(Locator::wire_order);
        assert_eq!(set.map(|l| l.address.to_string()), ["10.0.0.1", "240.0.254.20", "2001:db8::1"]);
    }

    /// LOC-1, LOC-2, RTR-13.
    #[test]
    fn usable_means_reachable_and_not_255() {
        let good = Locator::unicast("10.0.0.1".parse().unwrap(), 254, 0);
        assert!(good.usable());
        assert!(!Locator { priority: 255, ..good }.usable());
        assert!(!Locator { reachable: false, ..good }.usable());
    }
}
