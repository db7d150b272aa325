//! When an entry is asked for again.

use std::net::IpAddr;

use altitude_dataplane::mapping::EidPrefix;

/// Between 75 and 90 % of the life that begins at `tick`, by a hash of the prefix: prefixes learned together are not asked
/// for again together, and a replay does the same.
pub(super) fn refresh_at(eid: &EidPrefix, tick: u64, expires: u64) -> u64 {
    let mut hash = Fnv1a::default();
    hash.add(&eid.instance.get().to_be_bytes());
    match eid.prefix.address() {
        IpAddr::V4(v4) => hash.add(&v4.octets()),
        IpAddr::V6(v6) => hash.add(&v6.octets()),
    }
    hash.add(&[eid.prefix.length()]);
    let life = u128::from(expires.saturating_sub(tick));
    let spread = (life * 3 / 20 * u128::from(hash.high())) >> 32;
    tick + (life * 3).div_ceil(4) as u64 + spread as u64
}

/// FNV-1a, 64 bits: the same on every machine and in every run, unlike the standard library's hasher.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn add(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = (self.0 ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// 32 bits, stirred once more: neighbouring prefixes differ in one octet near the end.
    const fn high(&self) -> u32 {
        ((self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }
}
