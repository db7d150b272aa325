//! Which figures make a curve, and which curves share a chart.

use super::{
    case::{Axis, Case},
    figure::{Figure, Setting, settings},
};

/// Curves of one chart; more than these cannot be told apart.
const CURVES_MAX: usize = 8;

/// Figures that differ in one number of their case alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    /// What they have in common: subject, words, other numbers.
    pub(super) label: String,
    /// Whether they are ours and no reference's.
    pub(super) ours: bool,
    /// At least two, ascending.
    pub(super) points: Vec<(f64, f64)>,
}

/// Curves over one axis, in one unit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    pub(super) bench: String,
    /// Words that all its curves begin with.
    pub(super) group: String,
    pub(super) axis: Axis,
    pub(super) unit: String,
    pub(super) curves: Vec<Curve>,
}

/// A curve with what sorts it into charts.
struct Found {
    bench: String,
    unit: String,
    rest: Case,
    subject: String,
    setting: usize,
    points: Vec<(f64, f64)>,
}

/// All charts, bench by bench in the order in which they first appear.
pub(super) fn charts(figures: &[Figure]) -> Vec<Chart> {
    let mut benches: Vec<&str> = Vec::new();
    for figure in figures {
        if !benches.contains(&figure.bench.as_str()) {
            benches.push(&figure.bench);
        }
    }
    let mut charts = Vec::new();
    for bench in benches {
        let several = runs(figures, bench).len() > 1;
        for axis in Axis::ALL {
            let mut found = along(figures, bench, axis);
            while let Some(first) = found.first() {
                let unit = first.unit.clone();
                let same: Vec<Found> = found.extract_if(.., |curve| curve.unit == unit).collect();
                share(same, axis, several, &mut charts);
            }
        }
    }
    charts
}

/// The curves of a bench over an axis. Of a figure that was measured again in the same setting, the last one counts.
fn along(figures: &[Figure], bench: &str, axis: Axis) -> Vec<Found> {
    let settings = settings(figures);
    let mut found: Vec<Found> = Vec::new();
    // Usual places come last: they belong to curves that are there already, and make none. Backwards, because of
    // figures at the same place the first one stays.
    for usual in [false, true] {
        for figure in figures.iter().rev().filter(|figure| figure.bench == bench) {
            let case = Case::read(&figure.case);
            let place = match (case.along(axis), usual) {
                (Some(place), false) => Some(place),
                (None, true) => case.implied(axis).map(|at| (at, case)),
                _ => None,
            };
            let (Some((x, rest)), Some(y)) = (place, figure.value) else { continue };
            let setting = settings.iter().position(|setting| **setting == figure.setting).unwrap_or(0);
            let same = |curve: &&mut Found| {
                (&curve.unit, &curve.subject, curve.setting) == (&figure.unit, &figure.subject, setting)
                    && curve.rest == rest
            };
            if let Some(curve) = found.iter_mut().find(same) {
                if curve.points.iter().all(|(other, _)| *other != x) {
                    curve.points.push((x, y));
                }
            } else if !usual {
                let (unit, subject) = (figure.unit.clone(), figure.subject.clone());
                found.push(Found { bench: bench.into(), unit, rest, subject, setting, points: vec![(x, y)] });
            }
        }
    }
    found.reverse();
    found.retain(|curve| curve.points.len() > 1);
    for curve in &mut found {
        curve.points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    }
    found
}

/// Spreads curves of one unit over as few charts as can be read: those with the same first word together if they are
/// few, else split by the next word, as often as it takes; neighbours that are few share a chart again.
fn share(curves: Vec<Found>, axis: Axis, several: bool, charts: &mut Vec<Chart>) {
    for part in split(curves, 0) {
        for few in packed(part, 1) {
            charts.push(chart(&few, axis, several));
        }
    }
}

/// Groups of at most [`CURVES_MAX`] of curves that have their first `words` words in common.
fn packed(mut curves: Vec<Found>, words: usize) -> Vec<Vec<Found>> {
    if curves.len() <= CURVES_MAX {
        return vec![curves];
    }
    if curves.iter().all(|curve| curve.rest.words.len() <= words) {
        let mut parts = Vec::new();
        while !curves.is_empty() {
            parts.push(curves.drain(..CURVES_MAX.min(curves.len())).collect());
        }
        return parts;
    }
    let mut groups: Vec<Vec<Found>> = Vec::new();
    for part in split(curves, words).into_iter().flat_map(|part| packed(part, words + 1)) {
        match groups.last_mut() {
            Some(last) if last.len() + part.len() <= CURVES_MAX => last.extend(part),
            _ => groups.push(part),
        }
    }
    groups
}

/// Parts whose curves have the same word at `index`.
fn split(mut curves: Vec<Found>, index: usize) -> Vec<Vec<Found>> {
    let mut parts = Vec::new();
    while let Some(first) = curves.first() {
        let word = first.rest.words.get(index).cloned();
        parts.push(curves.extract_if(.., |curve| curve.rest.words.get(index) == word.as_ref()).collect());
    }
    parts
}

/// A chart, named by the words that its curves begin with.
fn chart(curves: &[Found], axis: Axis, several: bool) -> Chart {
    let first = &curves[0].rest.words;
    let in_common = |word: &usize| curves.iter().all(|curve| curve.rest.words.get(*word) == first.get(*word));
    let words = (0..first.len()).take_while(in_common).count();
    let curve = |curve: &Found| {
        let subject = match several {
            true => format!("{}, run {}", curve.subject, run(curve.setting)),
            false => curve.subject.clone(),
        };
        let label = [subject, curve.rest.label(words)].into_iter().filter(|part| !part.is_empty());
        Curve {
            label: label.collect::<Vec<_>>().join(": "),
            ours: curve.subject == "altitude",
            points: curve.points.clone(),
        }
    };
    Chart {
        bench: curves[0].bench.clone(),
        group: first[..words].join("/"),
        axis,
        unit: curves[0].unit.clone(),
        curves: curves.iter().map(curve).collect(),
    }
}

/// Settings that figures of a bench were measured in, by their numbers.
pub(super) fn runs(figures: &[Figure], bench: &str) -> Vec<usize> {
    let all = settings(figures);
    let in_bench =
        |setting: &&Setting| figures.iter().any(|figure| figure.bench == bench && figure.setting == **setting);
    (0..all.len()).filter(|index| in_bench(&all[*index])).collect()
}

/// Name of a setting: A, B, … Z, 27, 28…
pub(super) fn run(setting: usize) -> String {
    u8::try_from(setting)
        .ok()
        .filter(|setting| *setting < 26)
        .map_or_else(|| (setting + 1).to_string(), |setting| char::from(b'A' + setting).to_string())
}
