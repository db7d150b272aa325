//! Which packets, through which table: the cases and their names.

use altitude_dataplane::worker::{BATCH_DEFAULT, SourceCheck};

use super::traffic::{Order, Shape};
use crate::bench::{Direction, Families, Size, xtr::Tuning};

const SIZES: [Size; 4] = [Size::Octets(64), Size::Octets(256), Size::Octets(1400), Size::Imix];
const FLOWS: [u32; 4] = [1, 1000, 100_000, 1_000_000];
const PREFIXES: [u32; 4] = [256, 10_000, 100_000, 900_000];
/// Flows of traffic drawn by chance.
const MANY: u32 = 1 << 20;

/// Which cases are measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Choice {
    /// Only cases whose name holds this text
    #[arg(long)]
    pub only: Option<String>,
    /// Every combination, instead of the usual selection: takes hours
    #[arg(long)]
    pub all: bool,
    /// Flows, in every case (10k and 1M are numbers too)
    #[arg(long, value_parser = number)]
    pub flows: Option<u32>,
    /// Mappings, in every case
    #[arg(long, value_parser = number)]
    pub prefixes: Option<u32>,
    /// Locator-sets that the mappings share, in every case; one for twelve mappings if not given
    #[arg(long, value_parser = number)]
    pub sets: Option<u32>,
    /// Most frames of a turn, 1 to 256, in every case
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub batch: Option<u16>,
    /// Count instructions a packet instead, under valgrind
    #[arg(long)]
    pub instructions: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) direction: Direction,
    pub(super) families: Families,
    pub(super) size: Size,
    /// Remote prefixes in the table.
    pub(super) prefixes: u32,
    pub(super) sets: Option<u32>,
    pub(super) flows: u32,
    pub(super) order: Order,
    /// Share of packets with a mapping, percent.
    pub(super) hit: u8,
    pub(super) workers: u8,
    pub(super) tuning: Tuning,
}

/// What cases need the same table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableKey {
    pub(super) families: Families,
    pub(super) prefixes: u32,
    pub(super) sets: Option<u32>,
}

impl Case {
    /// IPv4 in IPv4, smallest packets, a flow to every prefix.
    pub(super) const fn usual(direction: Direction, prefixes: u32) -> Self {
        Self {
            direction,
            families: Families { inner4: true, outer4: true },
            size: Size::Octets(64),
            prefixes,
            sets: None,
            flows: prefixes,
            order: Order::Turns,
            hit: 100,
            workers: 1,
            tuning: Tuning { source_check: SourceCheck::Standard, batch: BATCH_DEFAULT },
        }
    }

    const fn secure(mut self) -> Self {
        self.tuning.source_check = SourceCheck::Secure;
        self
    }

    /// Traffic by chance.
    const fn drawn(self, order: Order) -> Self {
        Self { order, flows: MANY, ..self }
    }

    /// `encap/v4v4/64/10k`, and what differs from the usual behind it: `/rand`, `/zipf`, `/1k flows`, `/hit 50`,
    /// `/secure`, `/batch 32`, `/2 workers`.
    pub(super) fn name(&self) -> String {
        let Self { direction, families, size, prefixes, sets, flows, order, hit, workers, tuning } = *self;
        let mut name = format!("{}/{}/{}/{}", direction.name(), families.name(), size.name(), short(prefixes));
        match order {
            Order::Turns if flows != prefixes => name += &format!("/{} flows", short(flows)),
            Order::Turns => {}
            Order::Random => name += "/rand",
            Order::Zipf => name += "/zipf",
        }
        if order != Order::Turns && flows != MANY {
            name += &format!("/{} flows", short(flows));
        }
        if let Some(sets) = sets {
            name += &format!("/{} sets", short(sets));
        }
        if hit != 100 {
            name += &format!("/hit {hit}");
        }
        match tuning.source_check {
            SourceCheck::Standard => {}
            SourceCheck::Notify => name += "/notify",
            SourceCheck::Secure => name += "/secure",
        }
        if tuning.batch != BATCH_DEFAULT {
            name += &format!("/batch {}", tuning.batch);
        }
        if workers != 1 {
            name += &format!("/{workers} workers");
        }
        name
    }

    pub(super) const fn shape(&self) -> Shape {
        let Self { direction, families, size, flows, order, hit, .. } = *self;
        Shape { direction, families, size, flows, order, hit }
    }

    pub(super) const fn table(&self) -> TableKey {
        TableKey { families: self.families, prefixes: self.prefixes, sets: self.sets }
    }
}

impl Choice {
    /// The cases, those with the same table side by side.
    pub(super) fn cases(&self) -> Vec<Case> {
        let mut cases = if self.all { every() } else { usual() };
        for case in &mut cases {
            if let Some(prefixes) = self.prefixes {
                let flow_each = case.order == Order::Turns && case.flows == case.prefixes;
                case.prefixes = prefixes;
                case.flows = if flow_each { prefixes } else { case.flows };
            }
            case.flows = self.flows.unwrap_or(case.flows);
            case.sets = self.sets.or(case.sets);
            case.tuning.batch = self.batch.map_or(case.tuning.batch, usize::from);
        }
        let mut kept: Vec<Case> = Vec::new();
        for case in cases {
            let wanted = self.only.as_ref().is_none_or(|only| case.name().contains(only.as_str()));
            if wanted && !kept.contains(&case) {
                kept.push(case);
            }
        }
        let keys: Vec<TableKey> = kept.iter().map(Case::table).collect();
        kept.sort_by_key(|case| keys.iter().position(|key| *key == case.table()));
        kept
    }

    /// The case of this name, chance-drawn or not.
    pub(super) fn named(name: &str) -> Option<Case> {
        usual().into_iter().chain(every()).find(|case| case.name() == name)
    }
}

/// What a developer wants to see: some two minutes.
fn usual() -> Vec<Case> {
    let encap = |prefixes| Case::usual(Direction::Encap, prefixes);
    let mut cases = Vec::new();
    for direction in [Direction::Encap, Direction::Decap] {
        let few = Case::usual(direction, 10_000);
        cases.extend(Families::ALL.map(|families| Case { families, ..few }));
        cases.extend(SIZES[1..].iter().map(|size| Case { size: *size, ..few }));
        cases.push(Case { workers: 2, ..few });
    }
    cases.extend(FLOWS.map(|flows| Case { flows, ..encap(10_000) }));
    cases.extend([50, 0].map(|hit| Case { hit, ..encap(10_000) }));
    cases.extend([1000, 10_000, 100_000, 900_000].map(|prefixes| encap(prefixes).drawn(Order::Random)));
    cases.push(encap(900_000).drawn(Order::Zipf));
    let decap = |prefixes| Case::usual(Direction::Decap, prefixes);
    cases.push(decap(900_000).drawn(Order::Random));
    cases.extend([decap(10_000), decap(900_000).drawn(Order::Random)].map(Case::secure));
    cases
}

/// The whole matrix.
fn every() -> Vec<Case> {
    let mut cases = Vec::new();
    for families in Families::ALL {
        for prefixes in PREFIXES {
            for direction in [Direction::Encap, Direction::Decap] {
                for size in SIZES {
                    let plain = Case { families, size, ..Case::usual(direction, prefixes) };
                    let turns = FLOWS.map(|flows| Case { flows, ..plain });
                    let all = turns.into_iter().chain([plain.drawn(Order::Random), plain.drawn(Order::Zipf)]);
                    for case in all {
                        cases.push(case);
                        cases.push(Case { workers: 2, ..case });
                        match direction {
                            Direction::Encap => cases.extend([50, 0].map(|hit| Case { hit, ..case })),
                            Direction::Decap => cases.push(case.secure()),
                        }
                    }
                }
            }
        }
    }
    cases
}

/// `10000` as `10k`.
fn short(number: u32) -> String {
    match number {
        0 => "0".into(),
        _ if number.is_multiple_of(1_000_000) => format!("{}M", number / 1_000_000),
        _ if number.is_multiple_of(1000) => format!("{}k", number / 1000),
        _ => number.to_string(),
    }
}

/// `10k` as 10000.
fn number(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((digits, "k")) => (digits, 1000),
        Some((digits, "M")) => (digits, 1_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    number.filter(|number| (1..=10_000_000).contains(number)).ok_or_else(|| "a number from 1 to 10M".into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_tell_cases_apart() {
        let cases = every();
        let names: HashSet<String> = cases.iter().map(Case::name).collect();
        assert_eq!(names.len(), cases.len());
        assert_eq!(Case::usual(Direction::Encap, 10_000).name(), "encap/v4v4/64/10k");
        let case = Case::usual(Direction::Decap, 900_000).drawn(Order::Random);
        assert_eq!(case.name(), "decap/v4v4/64/900k/rand");
        for case in usual() {
            assert_eq!(Choice::named(&case.name()), Some(case));
        }
    }

    #[test]
    fn numbers_have_short_forms() {
        for (text, value) in [("1", 1), ("256", 256), ("10k", 10_000), ("1M", 1_000_000)] {
            assert_eq!(number(text), Ok(value));
            assert_eq!(short(value), text);
        }
        for text in ["", "k", "0", "-1", "11M", "1G"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
