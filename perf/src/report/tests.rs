use std::{fs, path::PathBuf};

use super::{
    case::{Axis, Case, number},
    chart,
    curves::{self, Chart},
    figure::{self, Figure},
    page,
};

const HOSTILE: &str = r#"<script>alert("x")</script>&amp;'"#;

#[test]
fn a_case_is_taken_apart() {
    use Axis::{Batch, Flows, Hits, Load, Offered, Percentile, Prefixes, Size, Updates, Workers};
    for (name, places, words) in [
        ("encap/v4v4/64", &[(Size, 64.0)][..], &["encap", "v4v4"][..]),
        ("encap/v4v4/64/10k", &[(Size, 64.0), (Prefixes, 10_000.0)], &["encap", "v4v4"]),
        ("encap/v4v4/64/900k/rand", &[(Size, 64.0), (Prefixes, 900_000.0)], &["encap", "v4v4", "rand"]),
        ("decap/v6v4/imix", &[], &["decap", "v6v4", "imix"]),
        ("v4/dfz/rand/b32", &[(Batch, 32.0)], &["v4", "dfz", "rand"]),
        ("v4/dfz/rand/single", &[(Batch, 1.0)], &["v4", "dfz", "rand"]),
        ("v4/dfz/rand/b32/100k updates/s", &[(Batch, 32.0), (Updates, 100_000.0)], &["v4", "dfz", "rand"]),
        ("encap/v4v4/64/turn p99.9", &[(Size, 64.0), (Percentile, 99.9)], &["encap", "v4v4", "turn"]),
        (
            "encap/v4v4/64/load 50/latency p50",
            &[(Size, 64.0), (Load, 50.0), (Percentile, 50.0)],
            &["encap", "v4v4", "latency"],
        ),
        ("encap/v4v4/64/1M flows/50% hits", &[(Size, 64.0), (Flows, 1e6), (Hits, 50.0)], &["encap", "v4v4"]),
        ("encap/v4v4/64/hit0/2 workers", &[(Size, 64.0), (Hits, 0.0), (Workers, 2.0)], &["encap", "v4v4"]),
        ("v4/dfz/rand/b32/updates 10k/s", &[(Batch, 32.0), (Updates, 10_000.0)], &["v4", "dfz", "rand"]),
        ("v4/dfz/insert 1k/s p99", &[(Updates, 1000.0), (Percentile, 99.0)], &["v4", "dfz", "insert"]),
        ("v4/dfz/insert flood p99", &[(Percentile, 99.0)], &["v4", "dfz", "insert flood"]),
        ("encap/v4v4/64/ndr/step 3 at 0.512 Mpps", &[(Size, 64.0), (Offered, 0.512)], &["encap", "v4v4", "ndr"]),
        (
            "encap/v4v4/64/latency at 2 Mpps p50",
            &[(Size, 64.0), (Offered, 2.0), (Percentile, 50.0)],
            &["encap", "v4v4", "latency"],
        ),
        ("look at this/that 2 Mpps", &[], &["look at this", "that 2 Mpps"]),
        ("encap/v4v4/64/1M flows vs forwarder", &[(Size, 64.0), (Flows, 1e6)], &["encap", "v4v4", "vs forwarder"]),
        ("encap/v4v4/64 vs forwarder", &[(Size, 64.0)], &["encap", "v4v4", "vs forwarder"]),
        // Not understood, or twice: words.
        ("what/p", &[], &["what", "p"]),
        ("64/3 wishes/10k/20k", &[(Prefixes, 64.0)], &["3 wishes", "10k", "20k"]),
        ("", &[], &[""]),
    ] {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(Case::read(name), Case { places: places.to_vec(), words }, "{name}");
    }
}

#[test]
fn numbers_are_written_as_people_do() {
    let written = [0.0, 64.0, 99.9, 1000.0, 1024.0, 10_000.0, 902_000.0, 1_048_576.0].map(number);
    assert_eq!(written, ["0", "64", "99.9", "1k", "1024", "10k", "902k", "1.05M"]);
    let digits = [0.0, 0.012_345, 1.0, 12.345_6, 1234.5, 7_654_321.0].map(page::digits);
    assert_eq!(digits, ["0.000", "0.01235", "1.000", "12.35", "1234", "7654321"]);
}

fn line(bench: &str, case: &str, subject: &str, value: f64, mode: &str) -> String {
    let line = serde_json::json!({
        "bench": bench, "case": case, "subject": subject, "value": value, "unit": "Mpps", "reference": "forwarder",
        "ratio": value / 10.0, "machine": "a machine", "kernel": "6.18", "mode": mode, "later": [1, 2],
    });
    format!("{line}\n")
}

fn read(lines: &str) -> Vec<Figure> {
    figure::read("test", lines.as_bytes()).unwrap()
}

#[test]
fn a_line_that_is_no_figure_is_named() {
    let good = line("mem", "encap/v4v4/64", "altitude", 1.0, "m");
    for (lines, said) in [
        (format!("{good}\nAMD EPYC, kernel 6.18\n"), "test:3: expected value at column 1"),
        (format!("{good}{{\"bench\":\"mem\"}}"), "test:2: missing field `case`"),
        (good[..40].to_owned(), "test:1: EOF while parsing"),
        (good.replace("1.0", "\"fast\""), "test:1: invalid type: string \"fast\", expected f64"),
    ] {
        let error = figure::read("test", lines.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    assert_eq!(read(&good.replace(":1.0", ":null"))[0].value, None);
}

/// Curves of a chart as label and points.
fn drawn(chart: &Chart) -> Vec<(&str, &[(f64, f64)])> {
    chart.curves.iter().map(|curve| (curve.label.as_str(), &curve.points[..])).collect()
}

#[test]
fn figures_that_differ_in_one_number_make_a_curve() {
    let mut lines = String::new();
    for (size, ours, theirs) in [("256", 9.0, 20.0), ("64", 10.0, 22.0), ("imix", 8.0, 19.0), ("64", 11.0, 21.0)] {
        lines += &line("mem", &format!("encap/v4v4/{size}"), "altitude", ours, "m");
        lines += &line("mem", &format!("encap/v4v4/{size}"), "forwarder", theirs, "m");
    }
    lines += &line("mem", "decap/v4v4/64", "altitude", 1.0, "m");
    let charts = curves::charts(&read(&lines));
    let [sizes] = &charts[..] else { panic!("one chart: {charts:?}") };
    assert_eq!((sizes.bench.as_str(), sizes.group.as_str(), sizes.axis), ("mem", "encap/v4v4", Axis::Size));
    // Ascending, and measured again is measured last.
    let expected: [(&str, &[(f64, f64)]); 2] =
        [("altitude", &[(64.0, 11.0), (256.0, 9.0)]), ("forwarder", &[(64.0, 21.0), (256.0, 20.0)])];
    assert_eq!(drawn(sizes), expected);
}

#[test]
fn what_a_name_leaves_out_is_on_the_curve() {
    let cases =
        ["encap/v4v4/64/10k", "encap/v4v4/64/10k/hit 50", "encap/v4v4/64/10k/1 flows", "encap/v4v4/64/10k/rand"];
    let lines: String = (1..).zip(cases).map(|(at, case)| line("mem", case, "altitude", f64::from(at), "")).collect();
    let charts = curves::charts(&read(&lines));
    let expected: [(&str, &[(f64, f64)]); 2] = [
        ("altitude: 64 octets, 10k prefixes", &[(1.0, 3.0), (10_000.0, 1.0)]),
        ("altitude: 64 octets, 10k prefixes", &[(50.0, 2.0), (100.0, 1.0)]),
    ];
    assert_eq!(charts.iter().flat_map(drawn).collect::<Vec<_>>(), expected);
    assert_eq!(charts.iter().map(|chart| chart.axis).collect::<Vec<_>>(), [Axis::Flows, Axis::Hits]);
}

#[test]
fn runs_in_different_settings_are_different_curves() {
    let cases = ["encap/v4v4/64/1k", "encap/v4v4/64/1M"];
    let lines: String =
        ["m", "n"].iter().flat_map(|mode| cases.map(|case| line("mem", case, "altitude", 1.0, mode))).collect();
    let charts = curves::charts(&read(&lines));
    let labels: Vec<&str> = charts.iter().flat_map(drawn).map(|(label, _)| label).collect();
    assert_eq!(labels, ["altitude, run A: 64 octets", "altitude, run B: 64 octets"]);
}

#[test]
fn many_curves_are_spread_over_charts() {
    let mut lines = String::new();
    for direction in ["encap", "decap"] {
        for families in ["v4v4", "v4v6", "v6v4", "v6v6"] {
            for size in ["64", "256", "1400"] {
                for flows in ["1", "1k", "1M"] {
                    lines += &line("mem", &format!("{direction}/{families}/{size}/{flows} flows"), "altitude", 1.0, "");
                }
            }
        }
    }
    let charts = curves::charts(&read(&lines));
    assert!(charts.iter().all(|chart| chart.curves.len() <= 8), "{charts:?}");
    let groups = |axis| charts.iter().filter(move |chart| chart.axis == axis).map(|chart| chart.group.as_str());
    // Twelve curves a direction, three for each of its families: two families share a chart.
    assert!(groups(Axis::Flows).eq(["encap", "encap", "decap", "decap"]), "{charts:?}");
    let labels: Vec<_> = drawn(&charts[0]).into_iter().map(|(label, _)| label).collect();
    assert!(labels.len() == 6 && labels[0] == "altitude: v4v4, 1 flows", "{labels:?}");
    // 24 curves in each direction over three axes would be 72: none is lost, none drawn twice.
    let curves: usize = charts.iter().map(|chart| chart.curves.len()).sum();
    assert_eq!(curves, 2 * 4 * 3 + 2 * 4 * 3);
}

#[test]
fn a_drawing_is_xml_with_every_point() {
    let mut lines = String::new();
    for (case, value) in [("1", 4.0), ("1k", 300.0), ("1M", 0.5), ("0", 2.0)] {
        for subject in ["altitude", HOSTILE] {
            let case = format!("encap/v4v4/64/{case} flows");
            lines += &line("mem", &case, subject, value, "").replace("Mpps", "<&\\\"'>");
        }
    }
    for (percentile, value) in [("50", 1.0), ("99", 2.0), ("100", 30.0)] {
        lines += &line("veth", &format!("latency p{percentile}"), "altitude", value, "");
    }
    let charts = curves::charts(&read(&lines));
    assert_eq!(charts.iter().map(|chart| chart.axis).collect::<Vec<_>>(), [Axis::Flows, Axis::Percentile]);
    for chart in &charts {
        let svg = chart::svg(chart);
        let parsed = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{error} in {svg}"));
        let circles: Vec<_> = parsed.descendants().filter(|node| node.has_tag_name("circle")).collect();
        assert_eq!(circles.len(), chart.curves.iter().map(|curve| curve.points.len()).sum::<usize>());
        for circle in circles {
            let (x, y) = (circle.attribute("cx").unwrap(), circle.attribute("cy").unwrap());
            let inside = |at: &str, end: f64| (0.0..=end).contains(&at.parse().unwrap());
            assert!(inside(x, 720.0) && inside(y, 380.0), "a point outside: {x} {y}");
        }
        let texts = parsed.descendants().filter(|node| node.has_tag_name("text"));
        let texts: Vec<&str> = texts.filter_map(|node| node.text().map(str::trim)).collect();
        for wanted in [chart.axis.title(), &chart.unit] {
            assert!(texts.contains(&wanted), "no {wanted} in {texts:?}");
        }
    }
}

#[test]
fn a_page_has_every_figure_once_and_nothing_from_outside() {
    let folder = std::env::temp_dir().join(format!("altitude-report-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut inputs: Vec<PathBuf> = Vec::new();
    let mut wanted = Vec::new();
    for (file, mode) in [("one", "in the process"), ("two", HOSTILE)] {
        let mut lines = String::new();
        for index in 0..20 {
            let case = format!("encap/v4v4/{}/{}", 64 + index, if mode == HOSTILE { HOSTILE } else { "1k" });
            let value = f64::from(index) + if file == "one" { 0.125 } else { 0.875 };
            lines += &line(if index % 2 == 0 { "mem" } else { "<veth>" }, &case, "altitude", value, mode);
            wanted.push((case, page::digits(value)));
        }
        inputs.push(folder.join(file));
        fs::write(inputs.last().unwrap(), lines).unwrap();
    }
    let output = folder.join("report.html");
    let (figures, charts) = super::write(&inputs, &output).unwrap();
    let page = fs::read_to_string(&output).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!((figures, charts), (40, page.matches("<figure>").count()));
    assert!(charts >= 2, "{charts}");
    let html = page.strip_prefix("<!DOCTYPE html>").unwrap().replace("<meta charset=\"utf-8\">", "");
    let html = html.replace("initial-scale=1\">", "initial-scale=1\"/>");
    let parsed = roxmltree::Document::parse(&html).unwrap_or_else(|error| panic!("{error}"));
    let rows = parsed.descendants().filter(|node| node.has_tag_name("tr"));
    let cells = rows.map(|row| row.children().map(|cell| cell.text().unwrap_or("")).collect::<Vec<_>>());
    let mut shown: Vec<_> =
        cells.filter(|row| row.len() == 7).map(|row| (row[1].to_owned(), row[3].to_owned())).collect();
    assert_eq!(shown.remove(0), ("case".into(), "value".into()));
    shown.retain(|(case, _)| case != "case");
    shown.sort();
    wanted.sort();
    assert_eq!(shown, wanted);
    // Nothing that a browser would run or fetch.
    for tag in ["script", "link", "img", "iframe", "object", "image", "use", "a"] {
        assert!(!parsed.descendants().any(|node| node.has_tag_name(tag)), "<{tag}>");
    }
    for attribute in parsed.descendants().flat_map(|node| node.attributes()) {
        let fetches = ["src", "href"].contains(&attribute.name()) || attribute.value().contains("url(");
        assert!(!fetches && !attribute.name().starts_with("on"), "{attribute:?}");
    }
    assert!(!page.contains("@import"));
}

#[test]
fn nothing_is_no_report() {
    let folder = std::env::temp_dir().join(format!("altitude-report-empty-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (input, output) = (folder.join("empty"), folder.join("report.html"));
    fs::write(&input, "\n\n").unwrap();
    let error = super::write(std::slice::from_ref(&input), &output).unwrap_err().to_string();
    assert_eq!(error, format!("no figure in {}", input.display()));
    let absent = folder.join("absent");
    let error = super::write(std::slice::from_ref(&absent), &output).unwrap_err().to_string();
    assert!(error.starts_with(&absent.display().to_string()), "{error}");
    assert!(!output.exists());
    fs::remove_dir_all(&folder).unwrap();
}
