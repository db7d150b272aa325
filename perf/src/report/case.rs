//! The grammar of case names: which words of `encap/v4v4/64/10k` are numbers on an axis.
//!
//! ```text
//! case      = word *( "/" word ) [ " vs " reference ]
//! word      = word " " percentile                             turn p50, latency p99.9
//!           | octets                                          64, 1400: after the families
//!           | "b" number | "single"                           looked up together: b32
//!           | number axis | axis number | number              10k flows, hit 50, updates 100k/s; alone: prefixes
//!           | [ word " " ] "at " number " Mpps"               offered: latency at 2 Mpps
//!           | anything else                                   encap, v4v6, imix, dfz, rand
//! number    = digits [ "." digits ] [ "k" | "M" | "%" ] [ "/s" ]
//! ```
//!
//! What is not understood stays a word: the figure is in its table then, and on no curve.

/// A number of a case that curves are drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Axis {
    /// Octets of a frame, check sequence included.
    Size,
    /// Flows that packets belong to.
    Flows,
    /// Prefixes in the table.
    Prefixes,
    /// Packets in 100 whose mapping is in the map-cache.
    Hits,
    /// Addresses looked up, or frames taken, together.
    Batch,
    /// Changes of the table a second.
    Updates,
    /// Worker threads.
    Workers,
    /// Offered load in 100 of the loss-free rate.
    Load,
    /// Offered load in millions of packets a second.
    Offered,
    /// Percentile of a distribution.
    Percentile,
}

impl Axis {
    /// In the order in which their charts come.
    pub(super) const ALL: [Self; 10] = [
        Self::Size,
        Self::Flows,
        Self::Prefixes,
        Self::Hits,
        Self::Load,
        Self::Offered,
        Self::Percentile,
        Self::Batch,
        Self::Updates,
        Self::Workers,
    ];

    /// As under a chart.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Size => "frame size (octets)",
            Self::Flows => "flows",
            Self::Prefixes => "prefixes in the table",
            Self::Hits => "hit ratio (%)",
            Self::Batch => "batch",
            Self::Updates => "updates per second",
            Self::Workers => "workers",
            Self::Load => "offered load (% of the loss-free rate)",
            Self::Offered => "offered load (Mpps)",
            Self::Percentile => "percentile",
        }
    }

    /// A place on it, in words: `10k flows`.
    pub(super) fn words(self, at: f64) -> String {
        let number = number(at);
        match self {
            Self::Size => format!("{number} octets"),
            Self::Flows => format!("{number} flows"),
            Self::Prefixes => format!("{number} prefixes"),
            Self::Hits => format!("{number} % hits"),
            Self::Batch => format!("batch {number}"),
            Self::Updates => format!("{number} updates/s"),
            Self::Workers => format!("{number} workers"),
            Self::Load => format!("{number} % load"),
            Self::Offered => format!("{number} Mpps offered"),
            Self::Percentile => format!("p{number}"),
        }
    }

    /// By the name that a case gives it; lower case.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "octets" | "size" => Self::Size,
            "flow" | "flows" => Self::Flows,
            "prefix" | "prefixes" | "mapping" | "mappings" | "route" | "routes" => Self::Prefixes,
            "hit" | "hits" => Self::Hits,
            "batch" | "b" => Self::Batch,
            "update" | "updates" | "insert" | "remove" => Self::Updates,
            "worker" | "workers" => Self::Workers,
            "load" => Self::Load,
            _ => return None,
        })
    }
}

/// A case taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    /// Each axis at most once, in the order of [`Axis`].
    pub(super) places: Vec<(Axis, f64)>,
    /// The rest, in the order of the name.
    pub(super) words: Vec<String>,
}

impl Case {
    /// Takes a case name apart. Never fails: what is not understood is a word.
    pub(super) fn read(case: &str) -> Self {
        let mut read = Self { places: Vec::new(), words: Vec::new() };
        let (path, reference) = case.split_once(" vs ").map_or((case, None), |(path, other)| (path, Some(other)));
        let mut after_families = false;
        // Of `updates 10k/s` the unit is no word.
        let path = path.replace("/s/", "/").replace("/s ", " ");
        for word in path.strip_suffix("/s").unwrap_or(&path).split('/') {
            let octets = word.parse().ok().filter(|octets: &f64| after_families && (46.0..=9216.0).contains(octets));
            after_families = is_families(word);
            if let Some(octets) = octets {
                read.place(Axis::Size, octets, word);
            } else {
                read.word(word);
            }
        }
        read.words.extend(reference.map(|reference| format!("vs {reference}")));
        read.places.sort_by_key(|(axis, _)| *axis);
        read
    }

    /// Where it is on an axis, and what is left of it without.
    pub(super) fn along(&self, axis: Axis) -> Option<(f64, Self)> {
        let at = self.places.iter().find(|(of, _)| *of == axis)?.1;
        let places = self.places.iter().filter(|(of, _)| *of != axis).copied().collect();
        Some((at, Self { places, words: self.words.clone() }))
    }

    /// Where it is on an axis that its name does not speak of, because that is the usual place.
    pub(super) fn implied(&self, axis: Axis) -> Option<f64> {
        match axis {
            Axis::Hits => Some(100.0),
            Axis::Workers => Some(1.0),
            Axis::Updates => Some(0.0),
            // The veth bench's; others name theirs.
            Axis::Prefixes => Some(256.0),
            // One to each prefix, unless they come by chance.
            Axis::Flows if !self.words.iter().any(|word| word == "rand" || word == "zipf") => {
                Some(self.along(Axis::Prefixes).map_or(1024.0, |(prefixes, _)| prefixes))
            }
            _ => None,
        }
    }

    /// For a legend, without the first `known` words: `v4v4, 64 octets`.
    pub(super) fn label(&self, known: usize) -> String {
        let places = self.places.iter().map(|(axis, at)| axis.words(*at));
        let words = Some(self.words[known.min(self.words.len())..].join("/")).filter(|words| !words.is_empty());
        words.into_iter().chain(places).collect::<Vec<_>>().join(", ")
    }

    fn word(&mut self, word: &str) {
        if let Some((name, percentile)) = percentile(word) {
            self.place(Axis::Percentile, percentile, word);
            name.into_iter().for_each(|name| self.word(name));
        } else if word == "single" {
            self.place(Axis::Batch, 1.0, word);
        } else if let Some((name, at)) = offered(word) {
            self.place(Axis::Offered, at, word);
            name.into_iter().for_each(|name| self.word(name));
        } else if let Some((axis, at)) = quantity(word) {
            self.place(axis, at, word);
            // What the changes are is more than how many they are.
            self.words.extend(["insert", "remove"].into_iter().find(|name| word.starts_with(name)).map(Into::into));
        } else {
            self.words.push(word.to_owned());
        }
    }

    /// A second number of the same axis cannot be told from the first: it stays a word.
    fn place(&mut self, axis: Axis, at: f64, word: &str) {
        if self.places.iter().any(|(of, _)| *of == axis) {
            self.words.push(word.to_owned());
        } else {
            self.places.push((axis, at));
        }
    }
}

/// `v4v6` and its kind.
fn is_families(word: &str) -> bool {
    ["v4", "v6"].iter().any(|inner| word.strip_prefix(inner).is_some_and(|outer| outer == "v4" || outer == "v6"))
}

/// `turn p99.9` is the percentile 99.9 of `turn`.
fn percentile(word: &str) -> Option<(Option<&str>, f64)> {
    let (name, last) = word.rsplit_once(' ').map_or((None, word), |(name, last)| (Some(name), last));
    let percentile = last.strip_prefix('p')?.parse().ok()?;
    (0.0..=100.0).contains(&percentile).then_some((name, percentile))
}

/// `latency at 2 Mpps` is 2 of `latency`; which `step 3 at 0.512 Mpps` was says nothing.
fn offered(word: &str) -> Option<(Option<&str>, f64)> {
    let (name, rate) = word.strip_prefix("at ").map_or_else(|| word.rsplit_once(" at "), |rate| Some(("", rate)))?;
    let at = rate.strip_suffix(" Mpps")?.parse().ok()?;
    let step = name.strip_prefix("step ").is_some_and(|number| number.parse::<u32>().is_ok());
    Some((Some(name).filter(|name| !step && !name.is_empty()), at))
}

/// `10k flows`, `hit50`, `50%`, `10k`.
fn quantity(word: &str) -> Option<(Axis, f64)> {
    let is_number = |letter: char| letter.is_ascii_digit() || letter == '.';
    let start = word.find(is_number)?;
    let (before, rest) = word.split_at(start);
    let end = rest.find(|letter| !is_number(letter)).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    let (scale, after) = match after.chars().next() {
        Some('k') => (1e3, &after[1..]),
        Some('M') => (1e6, &after[1..]),
        Some('%') => (1.0, &after[1..]),
        _ => (1.0, after),
    };
    let at = digits.parse::<f64>().ok()? * scale;
    let names = [before, after].map(|name| name.trim().to_lowercase());
    let axis = match &names.each_ref().map(String::as_str) {
        ["", ""] => Axis::Prefixes,
        [name, ""] | ["", name] => Axis::named(name)?,
        _ => return None,
    };
    Some((axis, at))
}

/// As people write it: `64`, `10k`, `1M`, `99.9`.
pub(super) fn number(value: f64) -> String {
    let scaled = |value: f64| {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value.abs() {
        million if million >= 1e6 => scaled(value / 1e6) + "M",
        thousand if thousand >= 1e4 || thousand >= 1e3 && thousand % 1e3 == 0.0 => scaled(value / 1e3) + "k",
        _ => scaled(value),
    }
}
