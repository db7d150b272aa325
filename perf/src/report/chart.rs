//! A chart as SVG. Legends are the page's: there they wrap, and cover no curve.

use std::ops::Range;

use plotters::{
    coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    prelude::{ChartBuilder, Circle, IntoDrawingArea, PathElement, SVGBackend},
    style::{Color, IntoFont, RGBColor},
};

use super::{
    case::{Axis, number},
    curves::Chart,
};

/// Pixels of the drawing; the page scales it.
const SIZE: (u32, u32) = (720, 380);
/// Ticks closer than this part of the axis would write over each other.
const TICK_GAP: f64 = 0.055;
/// From the largest to the smallest value; above it the value axis is logarithmic.
const LINEAR_MAX: f64 = 30.0;
const GRID: RGBColor = RGBColor(225, 225, 225);
const INK: RGBColor = RGBColor(60, 60, 60);

/// Told apart by people with any colour vision (Okabe and Ito's palette, its yellow darkened for a white ground).
pub(super) const COLOURS: [(u8, u8, u8); 8] = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
    (110, 110, 110),
    (176, 160, 0),
];

/// Draws a chart.
pub(super) fn svg(chart: &Chart) -> String {
    let mut svg = String::new();
    draw(chart, &mut svg).expect("writing to a string");
    svg
}

fn draw(chart: &Chart, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&RGBColor(255, 255, 255))?;
    let mut area = ChartBuilder::on(&root)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(Scale::of_axis(chart), Scale::of_values(chart))?;
    let font = |size: u32| ("sans-serif", size).into_font().color(&INK);
    area.configure_mesh()
        .light_line_style(GRID)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(font(17))
        .axis_desc_style(font(18))
        .x_desc(chart.axis.title())
        .y_desc(chart.unit.as_str())
        .draw()?;
    for (curve, (red, green, blue)) in chart.curves.iter().zip(COLOURS.into_iter().cycle()) {
        let colour = RGBColor(red, green, blue);
        // Ours stand out; a reference is thin and its points are hollow.
        let width = if curve.ours { 3 } else { 1 };
        area.draw_series([PathElement::new(curve.points.clone(), colour.stroke_width(width))])?;
        let point = if curve.ours { colour.filled() } else { colour.stroke_width(2) };
        area.draw_series(curve.points.iter().map(|at| Circle::new(*at, 4, point)))?;
    }
    root.present()?;
    Ok(())
}

/// How numbers are laid out along an axis: where they are, and which are written.
#[derive(Debug, Clone)]
struct Scale {
    kind: Kind,
    /// Ends of the axis, as places.
    low: f64,
    high: f64,
    /// Numbers that are written, ascending.
    named: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    /// Zero is one decade below the smallest number above it.
    Log {
        smallest: f64,
    },
    /// As far from 90 to 99 as from 99 to 99.9.
    Tail,
}

impl Kind {
    fn place(self, number: f64) -> f64 {
        match self {
            Self::Linear => number,
            Self::Log { smallest } if number <= 0.0 => smallest.log10() - 1.0,
            Self::Log { .. } => number.log10(),
            Self::Tail => -(1.0 - number / 100.0).max(1e-6).log10(),
        }
    }
}

impl Scale {
    /// The axis that the chart is over: the numbers of its figures are written.
    fn of_axis(chart: &Chart) -> Self {
        let mut numbers: Vec<f64> =
            chart.curves.iter().flat_map(|curve| curve.points.iter().map(|(x, _)| *x)).collect();
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        let smallest = numbers.iter().copied().find(|number| *number > 0.0).unwrap_or(1.0);
        let kind = match chart.axis {
            Axis::Size | Axis::Hits | Axis::Load | Axis::Offered | Axis::Workers => Kind::Linear,
            Axis::Flows | Axis::Prefixes | Axis::Batch | Axis::Updates => Kind::Log { smallest },
            Axis::Percentile => Kind::Tail,
        };
        let ends = [numbers[0], numbers[numbers.len() - 1]].map(|number| kind.place(number));
        let margin = (ends[1] - ends[0]) * 0.04;
        let (low, high) = (ends[0] - margin, ends[1] + margin);
        let gap = (high - low) * TICK_GAP;
        // From the far end on: it is the one that is asked for.
        let mut named: Vec<f64> = Vec::new();
        for number in numbers.iter().rev() {
            if named.last().is_none_or(|next| kind.place(*next) - kind.place(*number) >= gap) {
                named.push(*number);
            }
        }
        named.reverse();
        Self { kind, low, high, named }
    }

    /// The values: from zero on, or over decades if they are far apart.
    fn of_values(chart: &Chart) -> Self {
        let values = || chart.curves.iter().flat_map(|curve| curve.points.iter().map(|(_, y)| *y));
        let largest = values().fold(0.0, f64::max);
        let smallest = values().fold(f64::INFINITY, f64::min);
        if smallest > 0.0 && largest / smallest > LINEAR_MAX {
            let decades = smallest.log10().floor() as i32..=largest.log10().ceil() as i32;
            let steps = |decade: i32| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade));
            let (low, high) = (smallest.log10() - 0.1, largest.log10() + 0.1);
            let shown = |number: &f64| (low..=high).contains(&number.log10());
            let mut named: Vec<f64> = decades.clone().flat_map(steps).filter(shown).collect();
            if named.len() > 10 {
                named = decades.map(|decade| 10_f64.powi(decade)).filter(shown).collect();
            }
            return Self { kind: Kind::Log { smallest }, low, high, named };
        }
        let high = if largest > 0.0 { largest * 1.08 } else { 1.0 };
        let low = smallest.min(0.0) * 1.08;
        let decade = 10_f64.powf(((high - low) / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade).into_iter().find(|step| (high - low) / step <= 7.0);
        let step = step.unwrap_or(high);
        let named =
            ((low / step).ceil() as i64..=(high / step).floor() as i64).map(|tick| tick as f64 * step).collect();
        Self { kind: Kind::Linear, low, high, named }
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, number: &f64, pixels: (i32, i32)) -> i32 {
        let part = (self.kind.place(*number) - self.low) / (self.high - self.low);
        pixels.0 + (part * f64::from(pixels.1 - pixels.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.named.clone()
    }

    /// Not the ends: nobody asks for them.
    fn range(&self) -> Range<f64> {
        self.named.first().copied().unwrap_or(0.0)..self.named.last().copied().unwrap_or(1.0)
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, tick: &f64) -> String {
        if *tick != 0.0 && tick.abs() < 0.01 { format!("{tick:.0e}") } else { number(*tick) }
    }
}
