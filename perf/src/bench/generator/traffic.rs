//! What the veth bench and `altitude-perf gen` ask for.

use std::str::FromStr;

use altitude_dataplane::mapping::Prefix;
use serde::{Deserialize, Serialize};

use crate::bench::{
    Direction, Families, Size,
    packets::{CORE_MAC, OUR_MAC, SITE_MAC, local, rloc},
};

use super::{
    recipe::{Recipe, site},
    stream::FLOWS_MAX,
};

/// Which flow each packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
pub enum Distribution {
    /// Each flow in its turn, all equally often.
    #[default]
    Uniform,
    /// Drawn by chance, flow n with a weight of 1 ÷ n: few make most of the traffic.
    Zipf,
}

impl Distribution {
    /// As `zipf`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// What is sent in a bench: between the site's host and far hosts, numbered prefixes behind one RLOC.
///
/// Far prefix n is [`Traffic::far`], and [`Traffic::stranger`] is one that must have no mapping.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args)]
pub struct Traffic {
    /// The path that it takes in the router
    #[arg(long)]
    pub direction: Direction,
    /// Inner and outer family: v4v4, v4v6, v6v4, v6v6
    #[arg(long, default_value = "v4v4")]
    pub families: Families,
    /// Octets of the site's packets, or imix
    #[arg(long, default_value = "64")]
    pub size: Size,
    /// Flows: far host and ports
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=i64::from(FLOWS_MAX)))]
    pub flows: u32,
    /// Far prefixes that the flows are spread over in turns
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=i64::from(FLOWS_MAX)))]
    pub prefixes: u32,
    /// Which flow each packet belongs to
    #[arg(long, value_enum, default_value_t)]
    pub distribution: Distribution,
    /// Share of packets whose far host has a mapping, percent
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(..=100))]
    pub hit_percent: u8,
    /// Packets a second, such as 250k; without it, as many as can be sent
    #[arg(long, value_parser = pps)]
    pub rate: Option<f64>,
    /// Every so many-th packet is a probe that carries the time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub probes: Option<u32>,
}

impl Traffic {
    /// As much as can be sent of 1024 flows to 256 prefixes, all with a mapping, no probes.
    #[must_use]
    pub const fn new(direction: Direction, families: Families, size: Size) -> Self {
        Self {
            direction,
            families,
            size,
            flows: 1024,
            prefixes: 256,
            distribution: Distribution::Uniform,
            hit_percent: 100,
            rate: None,
            probes: None,
        }
    }

    /// Command line words that clap reads as this very value.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut words = vec![
            "--direction".into(),
            self.direction.name().into(),
            "--families".into(),
            self.families.name(),
            "--size".into(),
            self.size.name(),
            "--flows".into(),
            self.flows.to_string(),
            "--prefixes".into(),
            self.prefixes.to_string(),
            "--distribution".into(),
            self.distribution.name().into(),
            "--hit-percent".into(),
            self.hit_percent.to_string(),
        ];
        if let Some(rate) = self.rate {
            words.extend(["--rate".into(), rate.to_string()]);
        }
        if let Some(probes) = self.probes {
            words.extend(["--probes".into(), probes.to_string()]);
        }
        words
    }

    /// Far prefix `index`, below 2²⁰: 2.2.0.0/24 and on, or 2001:db8:2::/64 and on. To be mapped.
    #[must_use]
    pub fn far(v4: bool, index: u32) -> Prefix {
        site(v4, 2, index)
    }

    /// A prefix `index`, below 2²⁰, outside all far ones, for packets that find no mapping.
    #[must_use]
    pub fn stranger(v4: bool, index: u32) -> Prefix {
        site(v4, 32, index)
    }

    /// The packets in full: the addresses of the bench are filled in.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        let Self { direction, families, size, flows, distribution, hit_percent, probes, .. } = *self;
        let v4 = families.inner4;
        Recipe {
            macs: (if direction == Direction::Decap { CORE_MAC } else { SITE_MAC }, OUR_MAC),
            direction,
            outer4: families.outer4,
            size,
            near: local(v4, 0),
            far: (0..self.prefixes).map(|index| Self::far(v4, index)).collect(),
            strangers: (0..self.prefixes).map(|index| Self::stranger(v4, index)).collect(),
            rlocs: (rloc(families.outer4, false), rloc(families.outer4, true)),
            instance: None,
            flows,
            distribution,
            hit_percent,
            probes,
        }
    }
}

/// Reads a number of packets a second: `250000`, `250k`, `1.5M`, `1Mpps`.
///
/// # Errors
/// A line for the user.
pub fn pps(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("pps").unwrap_or(text);
    let (number, unit) = match number.char_indices().next_back() {
        Some((at, 'k')) => (&number[..at], 1e3),
        Some((at, 'M')) => (&number[..at], 1e6),
        _ => (number, 1.0),
    };
    match f64::from_str(number).map(|number| number * unit) {
        Ok(rate) if (1e-3..=1e9).contains(&rate) => Ok(rate),
        _ => Err("packets a second, such as 1000, 250k, 1.5M or 1Mpps".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        traffic: Traffic,
    }

    #[test]
    fn arguments_are_read_as_the_same_traffic() {
        let usual = Traffic::new(Direction::Decap, Families::ALL[1], Size::Imix);
        let other = Traffic {
            flows: 1 << 20,
            prefixes: 9,
            distribution: Distribution::Zipf,
            hit_percent: 0,
            rate: Some(123_456.75),
            probes: Some(3),
            ..usual
        };
        for traffic in [usual, other] {
            let words = std::iter::once("line".to_owned()).chain(traffic.arguments());
            assert_eq!(Line::try_parse_from(words).unwrap().traffic, traffic);
        }
        let shortest = Line::try_parse_from(["line", "--direction", "encap"]).unwrap().traffic;
        assert_eq!(shortest, Traffic::new(Direction::Encap, Families::ALL[0], Size::Octets(64)));
        for wrong in [["--flows", "0"], ["--flows", "1048577"], ["--hit-percent", "101"], ["--probes", "0"]] {
            assert!(Line::try_parse_from(["line", "--direction", "encap"].iter().chain(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
