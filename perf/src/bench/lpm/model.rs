//! What the right answer is: a sorted list whose members know what they are nested in.

use std::net::IpAddr;

use altitude_dataplane::mapping::Prefix;

/// The bits of an address from the left, so that both families sort and nest alike.
pub(super) fn left(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The first `length` bits set.
pub(super) fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// Index of no prefix.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Member {
    left: u128,
    length: u8,
    /// In the slice that the model was made of.
    index: u32,
    /// The member that it is nested in; [`NONE`].
    parent: u32,
    /// How many hold it.
    depth: u8,
}

/// Longest-prefix match that is too plain to be wrong. The prefixes are of one family.
#[derive(Debug)]
pub(super) struct Model {
    sorted: Vec<Member>,
}

impl Model {
    pub(super) fn new(prefixes: &[Prefix]) -> Self {
        let mut sorted: Vec<Member> = prefixes
            .iter()
            .zip(0..)
            .map(|(prefix, index)| Member {
                left: left(prefix.address()),
                length: prefix.length(),
                index,
                parent: NONE,
                depth: 0,
            })
            .collect();
        sorted.sort_by_key(|member| (member.left, member.length));
        for place in 1..sorted.len() {
            let parent = Self::climb(&sorted, place as u32 - 1, sorted[place].left);
            if parent != NONE {
                sorted[place].parent = parent;
                sorted[place].depth = sorted[parent as usize].depth.saturating_add(1);
            }
        }
        Self { sorted }
    }

    /// The first of `place`, what holds it, what holds that and so on, that holds `address`.
    fn climb(sorted: &[Member], mut place: u32, address: u128) -> u32 {
        while let Some(member) = sorted.get(place as usize) {
            if address & mask(member.length) == member.left {
                return place;
            }
            place = member.parent;
        }
        NONE
    }

    /// Index of the longest prefix that holds the address; [`NONE`].
    pub(super) fn find(&self, address: IpAddr) -> u32 {
        let address = left(address);
        let after = self.sorted.partition_point(|member| member.left <= address);
        let Some(last) = after.checked_sub(1) else { return NONE };
        let found = Self::climb(&self.sorted, last as u32, address);
        self.sorted.get(found as usize).map_or(NONE, |member| member.index)
    }

    /// How many other prefixes hold each, in the order of the slice that the model was made of.
    pub(super) fn depths(&self) -> Vec<u8> {
        let mut depths = vec![0; self.sorted.len()];
        for member in &self.sorted {
            depths[member.index as usize] = member.depth;
        }
        depths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_longest_and_knows_the_nesting() {
        let texts = ["10.1.2.0/24", "10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8", "10.1.2.3/32", "10.2.0.0/16"];
        let prefixes: Vec<Prefix> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let model = Model::new(&prefixes);
        assert_eq!(model.depths(), [2, 0, 1, 0, 3, 1]);
        for (address, expected) in [
            ("10.1.2.3", 4),
            ("10.1.2.4", 0),
            ("10.1.3.0", 2),
            ("10.2.255.255", 5),
            ("10.3.0.0", 1),
            ("11.255.255.255", 3),
            ("9.255.255.255", NONE),
            ("12.0.0.0", NONE),
        ] {
            assert_eq!(model.find(address.parse().unwrap()), expected, "{address}");
        }
        let prefixes: Vec<Prefix> = ["::/0", "2001:db8::/32"].map(|text| text.parse().unwrap()).to_vec();
        let model = Model::new(&prefixes);
        assert_eq!(model.find("2001:db8::1".parse().unwrap()), 1);
        assert_eq!(model.find("ffff::".parse().unwrap()), 0);
    }
}
