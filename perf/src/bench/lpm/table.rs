//! Which prefixes are in the map-cache: real tables, tables of the same shape, host EIDs, and parts of them.

use std::{
    collections::HashSet,
    env,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use altitude_dataplane::mapping::Prefix;
use flate2::read::MultiGzDecoder;

use super::{
    LpmError,
    model::{left, mask},
    random::Random,
};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// Of an address.
    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address with these bits from the left.
    pub(super) fn address(self, left: u128) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from_bits((left >> 96) as u32).into(),
            Self::V6 => std::net::Ipv6Addr::from_bits(left).into(),
        }
    }

    pub(super) fn prefix(self, left: u128, length: u8) -> Prefix {
        Prefix::new(self.address(left), length).expect("a length of the family")
    }
}

/// Prefixes of one family, each once, in random order: that in which Map-Replies come, not that of a sorted file.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) family: Family,
    /// As cases call it: `dfz`, `generated`, `file`, `hosts`, `10k`.
    pub(super) name: &'static str,
    pub(super) prefixes: Vec<Prefix>,
}

/// Prefixes of each length in the real IPv4 table of 2022–24: 901,899.
pub(super) const LENGTHS4: [(u8, usize); 25] = [
    (8, 16),
    (9, 13),
    (10, 38),
    (11, 103),
    (12, 299),
    (13, 581),
    (14, 1203),
    (15, 2100),
    (16, 13_490),
    (17, 8235),
    (18, 13_798),
    (19, 24_870),
    (20, 42_611),
    (21, 50_750),
    (22, 108_623),
    (23, 96_510),
    (24, 537_698),
    (25, 20),
    (26, 3),
    (27, 11),
    (28, 18),
    (29, 17),
    (30, 3),
    (31, 3),
    (32, 886),
];

/// Prefixes of each length in the real IPv6 table of 2022–24: 160,147.
pub(super) const LENGTHS6: [(u8, usize); 45] = [
    (16, 1),
    (19, 1),
    (20, 16),
    (21, 3),
    (22, 7),
    (23, 8),
    (24, 30),
    (25, 8),
    (26, 15),
    (27, 20),
    (28, 193),
    (29, 4371),
    (30, 650),
    (31, 284),
    (32, 22_548),
    (33, 2926),
    (34, 2603),
    (35, 1043),
    (36, 5996),
    (37, 880),
    (38, 1617),
    (39, 1377),
    (40, 13_418),
    (41, 903),
    (42, 2301),
    (43, 1001),
    (44, 14_365),
    (45, 1553),
    (46, 3039),
    (47, 3153),
    (48, 75_488),
    (49, 11),
    (50, 3),
    (52, 1),
    (55, 1),
    (56, 24),
    (58, 20),
    (60, 2),
    (64, 184),
    (112, 2),
    (122, 1),
    (124, 4),
    (125, 9),
    (126, 19),
    (127, 42),
];

/// /128 of the real table: with [`LENGTHS6`] all lengths.
const HOSTS6: (u8, usize) = (128, 6);

/// What the registries give addresses from; generated prefixes start here.
const BLOCKS4: [&str; 2] = ["0.0.0.0/1", "128.0.0.0/2"];
const BLOCKS6: [&str; 6] = ["2001::/16", "2400::/12", "2600::/12", "2800::/12", "2a00::/12", "2c00::/12"];

impl Table {
    /// The real table of a family: from the folder `ALTITUDE_DATA`, or `../shared/data`; where it is absent, one of
    /// the same length histogram.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub(super) fn usual(family: Family) -> Result<Self, LpmError> {
        let folder = env::var_os("ALTITUDE_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
        let path = folder.join(format!("{}.txt.gz", family.name()));
        if !path.exists() {
            return Ok(Self::generated(family, 1));
        }
        let prefixes = read(&path)?.into_iter().filter(|prefix| of(prefix) == family).collect();
        Ok(Self::new(family, "dfz", prefixes))
    }

    /// The tables in a file, one prefix a line, gzip if its name ends so; blank lines and those with # are skipped.
    ///
    /// # Errors
    /// [`LpmError::Table`], [`LpmError::Io`].
    pub(super) fn file(path: &Path) -> Result<Vec<Self>, LpmError> {
        let prefixes = read(path)?;
        let tables = Family::ALL.map(|family| {
            let of_family = prefixes.iter().filter(|prefix| of(prefix) == family).copied().collect();
            Self::new(family, "file", of_family)
        });
        let tables: Vec<Self> = tables.into_iter().filter(|table| !table.prefixes.is_empty()).collect();
        if tables.is_empty() {
            return Err(LpmError::Table { path: path.to_owned(), line: 0, why: "no prefix in it".to_owned() });
        }
        Ok(tables)
    }

    fn new(family: Family, name: &'static str, mut prefixes: Vec<Prefix>) -> Self {
        prefixes.sort_unstable();
        prefixes.dedup();
        Random::new(0x7ab1e).shuffle(&mut prefixes);
        Self { family, name, prefixes }
    }

    /// A table of the real one's length histogram, half of it nested; every count divided by `scale`.
    pub(super) fn generated(family: Family, scale: usize) -> Self {
        let mut random = Random::new(0x9e4e);
        let mut growing = Growing::default();
        let lengths: Vec<(u8, usize)> = match family {
            Family::V4 => LENGTHS4.to_vec(),
            Family::V6 => LENGTHS6.iter().copied().chain([HOSTS6]).collect(),
        };
        let blocks: Vec<Prefix> = match family {
            Family::V4 => BLOCKS4.iter().map(|text| text.parse().expect("a prefix")).collect(),
            Family::V6 => BLOCKS6.iter().map(|text| text.parse().expect("a prefix")).collect(),
        };
        for (length, count) in lengths {
            for _ in 0..count.div_ceil(scale) {
                growing.add(length, &blocks, &mut random);
            }
        }
        let prefixes = growing.list.iter().map(|(left, length)| family.prefix(*left, *length)).collect();
        Self::new(family, "generated", prefixes)
    }

    /// Host EIDs as mobility makes them: IPv4 hosts in /24s a third full, IPv6 hosts in /64s of a hundred, half with
    /// low interface identifiers and half with random ones.
    pub(super) fn hosts(family: Family, count: usize) -> Self {
        let mut random = Random::new(0x4057);
        let (subnet, blocks, of_subnet) = match family {
            Family::V4 => (24, BLOCKS4.as_slice(), 85),
            Family::V6 => (64, BLOCKS6.as_slice(), 100),
        };
        let blocks: Vec<Prefix> = blocks.iter().map(|text| text.parse().expect("a prefix")).collect();
        let mut hosts = HashSet::with_capacity(count);
        while hosts.len() < count {
            let block = blocks[random.below(blocks.len())];
            let net = inside(block, &mut random) & mask(subnet);
            for host in 0..of_subnet.min(count - hosts.len()) {
                let identifier = match family {
                    Family::V4 => u128::from(random.next() & 0xff) << 96,
                    Family::V6 if host % 2 == 0 => u128::from(random.next() & 0x3ff),
                    Family::V6 => u128::from(random.next()),
                };
                hosts.insert(net | identifier);
            }
        }
        let hosts = hosts.into_iter().map(|host| family.prefix(host, family.bits())).collect();
        Self::new(family, "hosts", hosts)
    }

    /// `count` prefixes: a random part of these, or these and more-specifics of them; `None` if those do not suffice.
    pub(super) fn resized(&self, count: usize, name: &'static str) -> Option<Self> {
        let mut prefixes: Vec<Prefix> = self.prefixes.iter().take(count).copied().collect();
        let mut known: HashSet<Prefix> = prefixes.iter().copied().collect();
        let longest = match self.family {
            Family::V4 => 24,
            Family::V6 => 48,
        };
        let mut random = Random::new(0x517e);
        let mut attempts = 0;
        while prefixes.len() < count {
            attempts += 1;
            if attempts > 20 * count || self.prefixes.is_empty() {
                return None;
            }
            let parent = self.prefixes[random.below(self.prefixes.len())];
            let longer = more_specific(self.family, parent, longest.max(parent.length() + 1), &mut random);
            if let Some(longer) = longer.filter(|longer| known.insert(*longer)) {
                prefixes.push(longer);
            }
        }
        Some(Self { family: self.family, name, prefixes })
    }
}

/// A random prefix inside `parent`, at most `longest` long; none inside a host prefix.
pub(super) fn more_specific(family: Family, parent: Prefix, longest: u8, random: &mut Random) -> Option<Prefix> {
    let room = longest.min(family.bits()).checked_sub(parent.length()).filter(|room| *room > 0)?;
    let length = parent.length() + 1 + random.below(usize::from(room)) as u8;
    Some(family.prefix(inside(parent, random), length))
}

/// The bits from the left of a random address inside a prefix; for IPv4 only the first 32 count.
pub(super) fn inside(prefix: Prefix, random: &mut Random) -> u128 {
    left(prefix.address()) | (random.wide() & !mask(prefix.length()))
}

const fn of(prefix: &Prefix) -> Family {
    match prefix.address() {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

/// A table that grows from short prefixes to long ones.
#[derive(Default)]
struct Growing {
    list: Vec<(u128, u8)>,
    known: HashSet<(u128, u8)>,
    /// Lengths so far, ascending.
    lengths: Vec<u8>,
    /// How many of `list` are shorter than the last length.
    shorter: usize,
    nested: usize,
}

impl Growing {
    /// How often a place outside of all prefixes is sought; short prefixes fill much of the space.
    const TRIES: usize = 100;

    fn add(&mut self, length: u8, blocks: &[Prefix], random: &mut Random) {
        if self.lengths.last() != Some(&length) {
            self.lengths.push(length);
            self.shorter = self.list.len();
        }
        let nest = self.shorter > 0 && self.nested * 2 < self.list.len();
        for attempt in 0.. {
            let drawn = if nest {
                let (left, length) = self.list[random.below(self.shorter)];
                left | (random.wide() & !mask(length))
            } else {
                inside(blocks[random.below(blocks.len())], random)
            };
            let left = drawn & mask(length);
            let nested = nest || self.covered(left, length);
            if (nested && !nest && attempt < Self::TRIES) || !self.known.insert((left, length)) {
                continue;
            }
            self.nested += usize::from(nested);
            self.list.push((left, length));
            return;
        }
    }

    fn covered(&self, left: u128, length: u8) -> bool {
        let shorter = self.lengths.iter().take_while(|shorter| **shorter < length);
        shorter.into_iter().any(|shorter| self.known.contains(&(left & mask(*shorter), *shorter)))
    }
}

fn read(path: &Path) -> Result<Vec<Prefix>, LpmError> {
    let io = |error: io::Error| LpmError::Io(format!("{}", path.display()), error);
    let file = File::open(path).map_err(io)?;
    let gzip = path.extension().is_some_and(|extension| extension == "gz");
    let octets: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut prefixes = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(octets).lines()) {
        let text = text.map_err(io)?;
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let wrong = |error| LpmError::Table { path: path.to_owned(), line, why: format!("{error}") };
        prefixes.push(text.parse::<Prefix>().map_err(wrong)?);
    }
    Ok(prefixes)
}
