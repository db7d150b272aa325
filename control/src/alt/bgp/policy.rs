//! What is taken from a neighbour, and what it is told (RFC 4271 §9.1.1, §9.1.3).

use altitude_dataplane::mapping::Prefix;

use super::{
    route::{AsPath, Attributes, Segment},
    settings::{PrefixList, Rule},
};

/// Most AS numbers of one segment (RFC 4271 §4.3).
const SEGMENT_MAX: usize = 255;
/// Attribute flag (RFC 4271 §4.3).
const TRANSITIVE: u8 = 0x40;
/// LOCAL_PREF where none was given.
const LOCAL_PREF: u32 = 100;

impl Rule {
    fn matches(&self, prefix: &Prefix) -> bool {
        self.prefix.covers(prefix) && (self.ge..=self.le).contains(&prefix.length())
    }
}

impl PrefixList {
    /// Whether a prefix passes.
    #[must_use]
    pub fn permits(&self, prefix: &Prefix) -> bool {
        self.0.iter().find(|rule| rule.matches(prefix)).map_or(self.0.is_empty(), |rule| rule.permit)
    }
}

/// Attributes as a neighbour is told them; `asn` is ours.
///
/// To another AS: our AS number in front of the path, no LOCAL_PREF (RFC 4271 §5.1.5), and MED only of our own routes
/// (§5.1.4). Attributes not understood go on if they are transitive, and end here otherwise (§5); they were marked as partial when
/// they were read.
pub(super) fn exported(attributes: &Attributes, asn: u32, external: bool) -> Attributes {
    let own = attributes.as_path.0.is_empty();
    let foreign = attributes.foreign.iter().filter(|foreign| foreign.flags & TRANSITIVE != 0);
    Attributes {
        origin: attributes.origin,
        as_path: if external { prepended(&attributes.as_path, asn) } else { attributes.as_path.clone() },
        med: attributes.med.filter(|_| own || !external),
        local_pref: (!external).then(|| attributes.local_pref.unwrap_or(LOCAL_PREF)),
        atomic_aggregate: attributes.atomic_aggregate,
        aggregator: attributes.aggregator,
        communities: attributes.communities.clone(),
        foreign: foreign.cloned().collect(),
    }
}

/// The path with `asn` in front (RFC 4271 §5.1.2 b).
fn prepended(path: &AsPath, asn: u32) -> AsPath {
    let (first, rest) = match path.0.split_first() {
        Some((Segment::Sequence(asns), rest)) if asns.len() < SEGMENT_MAX => (&**asns, rest),
        _ => (&[][..], &*path.0),
    };
    let mut asns = Vec::with_capacity(first.len() + 1);
    asns.push(asn);
    asns.extend_from_slice(first);
    let mut segments = Vec::with_capacity(rest.len() + 1);
    segments.push(Segment::Sequence(asns.into()));
    segments.extend_from_slice(rest);
    AsPath(segments.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alt::bgp::{
        rib::tests::attributes,
        route::{Foreign, Origin},
    };

    fn rule(permit: bool, prefix: &str, ge: u8, le: u8) -> Rule {
        Rule { permit, prefix: prefix.parse().unwrap(), ge, le }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let list = PrefixList(vec![
            rule(false, "10.1.0.0/16", 16, 32),
            rule(true, "10.0.0.0/8", 8, 24),
            rule(true, "2001:db8::/32", 48, 48),
        ]);
        for (prefix, permitted) in [
            ("10.0.0.0/8", true),
            ("10.2.3.0/24", true),
            ("10.2.3.0/25", false), // longer than any rule allows
            ("10.1.3.0/24", false), // denied first
            ("11.0.0.0/8", false),  // the end of a list denies
            ("2001:db8:1::/48", true),
            ("2001:db8::/32", false),
        ] {
            assert_eq!(list.permits(&prefix.parse().unwrap()), permitted, "{prefix}");
        }
        assert!(PrefixList::default().permits(&"0.0.0.0/0".parse().unwrap()));
    }

    #[test]
    fn our_as_goes_in_front() {
        let path = |segments: &[Segment]| AsPath(segments.into());
        let sequence = |asns: &[u32]| Segment::Sequence(asns.into());
        let set = Segment::Set([7, 8].into());
        let full: Vec<u32> = (1..=255).collect();
        for (before, after) in [
            (path(&[]), path(&[sequence(&[9])])),
            (path(&[sequence(&[1, 2])]), path(&[sequence(&[9, 1, 2])])),
            (path(std::slice::from_ref(&set)), path(&[sequence(&[9]), set.clone()])),
            (path(&[sequence(&[1]), set.clone()]), path(&[sequence(&[9, 1]), set])),
            (path(&[sequence(&full)]), path(&[sequence(&[9]), sequence(&full)])),
        ] {
            assert_eq!(prepended(&before, 9), after);
        }
    }

    #[test]
    fn what_stays_within_an_as_stays() {
        let learned = Attributes {
            med: Some(5),
            local_pref: Some(200),
            foreign: [
                Foreign { flags: 0xc0, kind: 99, value: [1].into() },
                Foreign { flags: 0x80, kind: 98, value: [2].into() },
            ]
            .into(),
            ..attributes(&[64513])
        };
        let out = exported(&learned, 64512, true);
        let expected = Attributes {
            foreign: [Foreign { flags: 0xc0, kind: 99, value: [1].into() }].into(),
            ..attributes(&[64512, 64513])
        };
        assert_eq!(out, expected);
        let within = exported(&learned, 64512, false);
        assert_eq!((within.med, within.local_pref, within.as_path), (Some(5), Some(200), learned.as_path));
        let own = Attributes { med: Some(7), origin: Origin::Igp, ..attributes(&[]) };
        assert_eq!(exported(&own, 64512, true).med, Some(7));
        assert_eq!(exported(&own, 64512, false).local_pref, Some(100));
    }
}
