//! Which capabilities the process lacks for what it is about to do, and giving up those it needs no more (capabilities(7)).

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// Something that needs a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The capability's name.
    pub name: &'static str,
    /// Bits of the capabilities of which one suffices.
    bits: u64,
}

/// Netlink changes, TUN devices, XDP programs.
pub const NET_ADMIN: Need = Need { name: "CAP_NET_ADMIN", bits: 1 << 12 };
/// AF_XDP and raw sockets.
pub const NET_RAW: Need = Need { name: "CAP_NET_RAW", bits: 1 << 13 };
/// Loading BPF programs; before Linux 5.8 this was part of CAP_SYS_ADMIN, which still suffices.
pub const BPF: Need = Need { name: "CAP_BPF", bits: 1 << 39 | 1 << 21 };
/// Reading files of others, which root may: its own configuration and keys, as they were at the start.
pub const DAC_READ_SEARCH: Need = Need { name: "CAP_DAC_READ_SEARCH", bits: 1 << 2 };
/// Listening on a port below 1024, that of BGP.
pub const NET_BIND_SERVICE: Need = Need { name: "CAP_NET_BIND_SERVICE", bits: 1 << 10 };

/// The names of what is needed and not there, in the order given.
///
/// # Errors
/// Those of capget(2).
pub fn lacking(needs: &[Need]) -> io::Result<Vec<&'static str>> {
    let effective = capabilities(None)?.effective.bits();
    Ok(needs.iter().filter(|need| need.bits & effective == 0).map(|need| need.name).collect())
}

/// Gives up for good, in this thread and those it starts from now on, every capability but these, and the way to new ones.
///
/// # Errors
/// Those of the system calls.
pub fn give_up_all_but(keep: &[Need]) -> io::Result<()> {
    let has = capabilities(None)?;
    // Where one of several suffices, the narrowest: they are higher numbers than what they were split from.
    let narrowest = |need: &Need| {
        let bits = need.bits & has.permitted.bits();
        bits.checked_ilog2().map_or(0, |bit| 1 << bit)
    };
    let kept = CapabilitySet::from_bits_retain(keep.iter().map(narrowest).fold(0, |all, bit| all | bit));
    clear_ambient_capability_set()?;
    // Only who may change the set must: others cannot gain what is not permitted to them.
    if has.effective.contains(CapabilitySet::SETPCAP) {
        let known = CapabilitySet::all().iter().filter(|capability| !kept.contains(*capability));
        for capability in known {
            match remove_capability_from_bounding_set(capability) {
                // A capability that this kernel does not know.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    set_no_new_privs(true)?;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept & has.permitted, permitted: kept, inheritable })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_does_not_come_back() {
        let this = || capabilities(None).unwrap().effective.bits();
        // Of a thread: the others keep theirs.
        let (before, after, again) = std::thread::spawn(move || {
            let before = this();
            give_up_all_but(&[NET_ADMIN, BPF]).unwrap();
            let after = this();
            let mut sets = capabilities(None).unwrap();
            sets.permitted |= CapabilitySet::NET_RAW;
            (before, after, set_capabilities(None, sets))
        })
        .join()
        .unwrap();
        assert_eq!(after, before & (1 << 12 | 1 << 39));
        assert!(again.is_err());
    }

    #[test]
    fn what_is_not_there_is_named_in_the_order_given() {
        std::thread::spawn(|| {
            give_up_all_but(&[NET_ADMIN]).unwrap();
            assert_eq!(lacking(&[NET_RAW, BPF]).unwrap(), ["CAP_NET_RAW", "CAP_BPF"]);
        })
        .join()
        .unwrap();
        assert!(lacking(&[]).unwrap().is_empty());
    }
}
