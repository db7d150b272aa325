//! Which capabilities the process lacks for what it is about to do (capabilities(7)).

use std::{fs, io};

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

/// Listening on a port below 1024, that of BGP.
pub const NET_BIND_SERVICE: Need = Need { name: "CAP_NET_BIND_SERVICE", bits: 1 << 10 };

/// The names of what is needed and not there, in the order given.
///
/// # Errors
/// Those of reading `/proc/self/status`, or `InvalidData` if it names no capabilities.
pub fn lacking(needs: &[Need]) -> io::Result<Vec<&'static str>> {
    let effective = effective(&fs::read_to_string("/proc/self/status")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status names no capabilities"))?;
    Ok(needs.iter().filter(|need| need.bits & effective == 0).map(|need| need.name).collect())
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        assert_eq!(effective("Name:\tx\nCapInh:\t0\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
        assert!(lacking(&[]).unwrap().is_empty());
    }
}
