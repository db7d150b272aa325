//! The page: one HTML file, styles and drawings inside, no script, nothing fetched.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    chart::{self, COLOURS},
    curves::{Chart, run, runs as runs_of},
    figure::{Figure, settings},
};

const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto; max-width: 100rem; padding: 0 1.5rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .15rem .8rem .15rem 0; text-align: left }
th { border-bottom: 1px solid #999; font-weight: 600 } tbody tr:nth-child(even) { background: #f5f5f5 }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(34rem, 1fr)); gap: 1.5rem }
figure { margin: 0; border: 1px solid #ddd; padding: .6rem; break-inside: avoid }
figure h3 { font-size: 1rem; margin: 0 0 .3rem } figure svg { width: 100%; height: auto }
figcaption { columns: 2 15rem; font-size: .85rem } figcaption div { break-inside: avoid }
.swatch { display: inline-block; width: 1.6em; vertical-align: middle; margin-right: .5em }
";

/// The page of all figures.
pub(super) fn page(figures: &[Figure], charts: &[Chart]) -> String {
    let mut benches: Vec<&str> = Vec::new();
    for figure in figures {
        if !benches.contains(&figure.bench.as_str()) {
            benches.push(&figure.bench);
        }
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Altitude: figures" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Altitude: figures" }
                (runs(figures))
                p {
                    "A ratio is the subject's value over that of the reference it was measured beside, in turns, in the "
                    "same run: compare ratios; a value alone says as much of the machine as of the program. Where a "
                    "figure was measured more than once in a run, the curves show the last."
                }
                @for bench in benches {
                    h2 { (bench) }
                    @if settings(figures).len() > 1 {
                        p { "Measured in: " (runs_of(figures, bench).into_iter().map(run).collect::<Vec<_>>().join(", ")) }
                    }
                    div.charts {
                        @for chart in charts.iter().filter(|chart| chart.bench == bench) { (drawing(chart)) }
                    }
                    (table(figures, bench))
                }
            }
        }
    };
    page.into_string()
}

/// Where and how the figures were measured.
fn runs(figures: &[Figure]) -> Markup {
    html! {
        table.runs {
            thead { tr { th { "run" } th { "machine" } th { "kernel" } th { "how" } } }
            tbody {
                @for (index, setting) in settings(figures).iter().enumerate() {
                    tr { td { (run(index)) } td { (setting.machine) } td { (setting.kernel) } td { (setting.mode) } }
                }
            }
        }
    }
}

fn drawing(chart: &Chart) -> Markup {
    html! {
        figure {
            h3 {
                @if !chart.group.is_empty() { (chart.group) ": " }
                (chart.unit) " against " (chart.axis.title())
            }
            (PreEscaped(chart::svg(chart)))
            figcaption {
                @for (curve, (red, green, blue)) in chart.curves.iter().zip(COLOURS.into_iter().cycle()) {
                    div {
                        span.swatch style={
                            "border-top: " (if curve.ours { 3 } else { 1 }) "px solid rgb(" (red) "," (green) "," (blue) ")"
                        } {}
                        (curve.label)
                    }
                }
            }
        }
    }
}

/// Every figure of a bench, in the order of the lines.
fn table(figures: &[Figure], bench: &str) -> Markup {
    let settings = settings(figures);
    let several = runs_of(figures, bench).len() > 1;
    html! {
        table.figures {
            thead {
                tr {
                    @if several { th { "run" } }
                    th { "case" } th { "subject" } th.number { "value" } th { "unit" }
                    th.number { "ratio" } th { "to" }
                }
            }
            tbody {
                @for figure in figures.iter().filter(|figure| figure.bench == bench) {
                    tr {
                        @if several {
                            td { (settings.iter().position(|of| **of == figure.setting).map(run).unwrap_or_default()) }
                        }
                        td { (figure.case) } td { (figure.subject) }
                        td.number { (figure.value.map_or_else(|| "–".into(), digits)) }
                        td { (figure.unit) }
                        td.number { (figure.ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default()) }
                        td { (figure.reference.as_deref().unwrap_or_default()) }
                    }
                }
            }
        }
    }
}

/// Four significant digits, more before the point if there are more.
pub(super) fn digits(value: f64) -> String {
    let before = if value == 0.0 { 1 } else { value.abs().log10().floor() as i32 + 1 };
    let after = usize::try_from(4 - before).unwrap_or(0).min(9);
    format!("{value:.after$}")
}
