//! Map-versions as they arrive: has newer mappings fetched, and knows when nobody can hold an old one of ours any more.
//!
//! ```text
//! source version newer than the cached mapping ─▶ the mapping is asked for, at a bounded pace
//! dest version older than ours                 ─▶ an SMR (`smr`); once our old record's TTL is over, workers drop it
//! ```
//!
//! A version in a packet proves nothing: whatever it says, the mapping comes from where it always comes from. Versions of our
//! own mappings are what the configuration says, never counted here, so that all xTRs of a site say the same.
//!
//! Sources: RFC 9302 §5, §7.1, §7.2, §9.

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, MapVersion, Mapping, Ttl};

use crate::{
    fault::faults,
    rate::{Limited, Limits, Rate},
};

/// Map-Requests for one cached prefix that versions cause: the pace of those that SMRs cause (RFC 9301 §6.1).
const EACH: Rate = Rate { burst: 1, every: Duration::from_secs(3) };
/// The same altogether.
const ALL: Rate = Rate { burst: 100, every: Duration::from_millis(10) };
/// Most prefixes whose rate is watched.
const WATCHED_MAX: usize = 16_384;

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum Input {
    /// A packet said that the mapping of its source is of this version.
    Newer {
        /// The cached prefix.
        eid: EidPrefix,
        /// As cached; `None` without one.
        cached: Option<MapVersion>,
        /// As the packet said.
        said: MapVersion,
        /// The mapping was configured, so that asking would bring nothing.
        fixed: bool,
    },
    /// The time of [`Versions::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Ask for this cached prefix again.
    Ask(EidPrefix),
    /// Whoever holds an older version of this prefix of ours holds it beyond its TTL.
    Outlived(EidPrefix),
    /// Count this.
    Discard(VersionFault),
}

faults! {
    /// Why a version in a packet had no effect.
    VersionFault {
        /// The mapping that is cached by now is as new.
        Known = "version-known",
        /// The mapping is a configured one.
        Static = "version-of-static-mapping",
        /// That prefix was asked for a moment ago because of a version.
        Limited = "version-rate-limited",
        /// As many Map-Requests as versions may cause altogether.
        LimitedOverall = "version-rate-limited-overall",
        /// As many prefixes as can be watched.
        WatchedFull = "version-rate-table-full",
    }
}

/// A mapping of ours with a version.
#[derive(Debug, Clone, Copy)]
struct Own {
    version: u16,
    /// When the last record of the version before ends, wherever it is kept; `None`: it has.
    ends: Option<Instant>,
}

/// The machine.
#[derive(Debug)]
pub struct Versions {
    own: BTreeMap<EidPrefix, Own>,
    deadlines: BTreeSet<(Instant, EidPrefix)>,
    asked: Limits<EidPrefix>,
}

impl Versions {
    /// A machine for our own mappings. What was told of them before the start is not known, so an older version may be held
    /// for a whole TTL from now on.
    #[must_use]
    pub fn new(database: &[Mapping], now: Instant) -> Self {
        let asked = Limits::new(EACH, ALL, WATCHED_MAX);
        let mut versions = Self { own: BTreeMap::new(), deadlines: BTreeSet::new(), asked };
        versions.set_database(database, now);
        versions
    }

    /// Replaces our own mappings: of those with a new version the time of the one before begins to run.
    pub fn set_database(&mut self, database: &[Mapping], now: Instant) {
        let before = std::mem::take(&mut self.own);
        self.deadlines.clear();
        for mapping in database.iter().filter(|mapping| mapping.version != 0) {
            let same = before.get(&mapping.eid).filter(|own| own.version == mapping.version);
            let ends = match (same, mapping.ttl) {
                (Some(own), _) => own.ends,
                (None, Ttl::Minutes(minutes)) => now.checked_add(Duration::from_secs(u64::from(minutes) * 60)),
                // Whoever decides for himself may keep it; what is kept for no time is nowhere.
                (None, Ttl::ReceiverDecides) => Some(now + crate::map_cache::LOCAL_POLICY_TTL),
                (None, Ttl::Remove) => None,
            };
            self.own.insert(mapping.eid, Own { version: mapping.version, ends });
            self.deadlines.extend(ends.map(|ends| (ends, mapping.eid)));
        }
    }

    /// Whether nobody can hold an older version of this prefix of ours.
    #[must_use]
    pub fn outlived(&self, eid: &EidPrefix) -> bool {
        self.own.get(eid).is_some_and(|own| own.ends.is_none())
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input, todo: &mut Vec<Output>) {
        if let Input::Newer { eid, cached, said, fixed } = input {
            todo.push(match self.newer(now, eid, cached, said, fixed) {
                Ok(()) => Output::Ask(eid),
                Err(fault) => Output::Discard(fault),
            });
        }
        while let Some(&(ends, eid)) = self.deadlines.first().filter(|(ends, _)| *ends <= now) {
            self.deadlines.remove(&(ends, eid));
            if let Some(own) = self.own.get_mut(&eid) {
                own.ends = None;
                todo.push(Output::Outlived(eid));
            }
        }
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(ends, _)| *ends)
    }

    fn newer(
        &mut self,
        now: Instant,
        eid: EidPrefix,
        cached: Option<MapVersion>,
        said: MapVersion,
        fixed: bool,
    ) -> Result<(), VersionFault> {
        // The answer may have come while the news was on its way; without a version there is nothing to compare.
        if cached.is_none_or(|cached| !said.order(cached).is_gt()) {
            return Err(VersionFault::Known);
        }
        if fixed {
            return Err(VersionFault::Static);
        }
        self.asked.take(now, &[eid]).map_err(|limited| match limited {
            Limited::Spent => VersionFault::Limited,
            Limited::Overall => VersionFault::LimitedOverall,
            Limited::TableFull => VersionFault::WatchedFull,
        })
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::{Action, InstanceId};

    use super::*;

    fn eid(text: &str) -> EidPrefix {
        EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
    }

    fn own(text: &str, version: u16, minutes: u32) -> Mapping {
        let ttl = Ttl::Minutes(minutes);
        Mapping { version, ..Mapping::negative(eid(text), ttl, Action::NoAction) }
    }

    fn newer(cached: u16, said: u16) -> Input {
        let said = MapVersion::new(said).unwrap();
        Input::Newer { eid: eid("2.2.0.0/16"), cached: MapVersion::new(cached), said, fixed: false }
    }

    struct World {
        versions: Versions,
        start: Instant,
    }

    impl World {
        fn new(database: &[Mapping]) -> Self {
            let start = Instant::now();
            Self { versions: Versions::new(database, start), start }
        }

        fn at(&mut self, ms: u64, input: Input) -> Vec<Output> {
            let mut todo = Vec::new();
            self.versions.step(self.start + Duration::from_millis(ms), input, &mut todo);
            todo
        }
    }

    /// MV-7: a newer version has the mapping asked for; one that is cached by now, older, or of a mapping without versions
    /// does not.
    #[test]
    fn a_newer_version_has_the_mapping_asked_for() {
        let ask = Output::Ask(eid("2.2.0.0/16"));
        let known = Output::Discard(VersionFault::Known);
        for (cached, said, expected) in [(5, 6, ask), (5, 5, known), (5, 4, known), (4095, 1, ask), (0, 7, known)] {
            assert_eq!(World::new(&[]).at(0, newer(cached, said)), [expected], "{cached} {said}");
        }
        let said = MapVersion::new(6).unwrap();
        let fixed = Input::Newer { eid: eid("2.2.0.0/16"), cached: MapVersion::new(5), said, fixed: true };
        assert_eq!(World::new(&[]).at(0, fixed), [Output::Discard(VersionFault::Static)]);
    }

    /// MV-7: 1e5 random versions within three seconds: one Map-Request, and one more after them.
    #[test]
    fn what_versions_cause_has_a_rate() {
        let mut world = World::new(&[]);
        let mut asked = Vec::new();
        for n in 0..100_000_u64 {
            let said = (n * 7919 % 2047 + 2) as u16;
            let outputs = world.at(n * 30 / 1000, newer(1, said));
            asked.extend(outputs.contains(&Output::Ask(eid("2.2.0.0/16"))).then_some(n * 30 / 1000));
        }
        assert_eq!(asked, [0]);
        assert_eq!(world.at(3_000, newer(1, 2)), [Output::Ask(eid("2.2.0.0/16"))]);
        // Of a thousand prefixes at once no more than all together may.
        let said = MapVersion::new(2).unwrap();
        let all = (0..1_000).flat_map(|n| {
            let eid = eid(&format!("10.{}.{}.0/24", n / 250, n % 250));
            world.at(20_000, Input::Newer { eid, cached: MapVersion::new(1), said, fixed: false })
        });
        let all: Vec<Output> = all.collect();
        assert_eq!(all.iter().filter(|output| matches!(output, Output::Ask(_))).count(), 100);
        assert!(all.contains(&Output::Discard(VersionFault::LimitedOverall)));
    }

    /// MV-6: an old version may be in use for as long as its record lived, from the start on or from the change on; after
    /// that it may not.
    #[test]
    fn old_versions_end_with_the_record_ttl() {
        let minute = 60_000;
        let (short, long, none) = (own("1.1.0.0/16", 7, 10), own("1.2.0.0/16", 8, 20), own("1.3.0.0/16", 0, 10));
        let mut world = World::new(&[short.clone(), long.clone(), none.clone()]);
        assert_eq!(world.versions.due(), Some(world.start + Duration::from_secs(600)));
        assert_eq!(world.at(10 * minute - 1, Input::Wake), []);
        assert!(!world.versions.outlived(&short.eid));
        assert_eq!(world.at(10 * minute, Input::Wake), [Output::Outlived(short.eid)]);
        assert_eq!([&short, &long, &none].map(|own| world.versions.outlived(&own.eid)), [true, false, false]);
        // The short one changes; the long one does not, and its time goes on.
        let changed = Mapping { version: 9, ..short.clone() };
        world.versions.set_database(&[changed, long.clone()], world.start + Duration::from_secs(15 * 60));
        assert_eq!([&short, &long].map(|own| world.versions.outlived(&own.eid)), [false, false]);
        assert_eq!(world.at(20 * minute, Input::Wake), [Output::Outlived(long.eid)]);
        assert_eq!(world.at(25 * minute, Input::Wake), [Output::Outlived(short.eid)]);
        assert_eq!(world.versions.due(), None);
    }
}
