//! A small run of `altitude-perf lpm`: every kind of case gives a figure, and all structures answered alike before.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

fn run(arguments: &[&str]) -> (bool, String, String) {
    let program = env!("CARGO_BIN_EXE_altitude-perf");
    let output = Command::new(program).arg("lpm").args(arguments).output().expect("the program starts");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_quick_run_gives_every_figure() {
    let (done, lines, said) = run(&["--quick", "--json", "--rounds", "1", "--round", "2"]);
    assert!(done, "{said}");
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut seen = BTreeSet::new();
    for row in &rows {
        let (case, subject) = (row["case"].as_str().unwrap(), row["subject"].as_str().unwrap());
        assert_eq!(row["bench"], "lpm");
        assert!(row["value"].as_f64().is_some_and(|value| value > 0.0), "{row}");
        if let Some(reference) = row["reference"].as_str() {
            assert!(row["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{row}");
            seen.insert(format!("{case} {subject} {reference}"));
        }
        seen.insert(format!("{case} {subject}"));
    }
    let mut wanted = vec![
        "v4/hosts/rand/b32 altitude dir-24-8",
        "v4/1k/rand/b32 altitude dir-24-8",
        "v4/10k/rand/b32 dir-24-8",
        "v4/generated/build altitude",
        "v4/generated/memory altitude dir-24-8",
        "v6/generated/memory/prefix altitude",
        "v6/hosts/zipf/single altitude",
        "small/64 instances/memory altitude",
        "small/64 instances/rand/b32 altitude",
        "memory/12k mappings altitude",
        "memory/12k mappings, all sets distinct/counters altitude",
    ];
    if said.contains("a writer needs a second core") {
        println!("SKIP: no second core for the writer");
    } else {
        wanted.extend([
            "v4/generated/rand/b32/updates 0/s altitude",
            "v4/generated/rand/b32/updates 100k/s altitude no writer",
            "v6/generated/insert 10k/s p99 altitude",
            "v6/generated/remove flood p99.9 altitude",
            "v4/generated/default route insert p50 altitude",
        ]);
    }
    if !said.contains("SKIP: rte_lpm") {
        wanted.extend(["v4/generated/zipf/b64 altitude rte_lpm", "v6/generated/worst/b8 altitude rte_lpm6"]);
    }
    let mut cases: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
    for traffic in ["uniform", "zipf", "rand", "worst"] {
        for batch in ["single", "b8", "b32", "b64"] {
            cases.push(format!("v4/generated/{traffic}/{batch} altitude dir-24-8"));
            cases.push(format!("v6/generated/{traffic}/{batch} altitude"));
        }
    }
    let missing: Vec<_> = cases.into_iter().filter(|case| !seen.contains(case)).collect();
    assert!(missing.is_empty(), "no figure for {missing:#?}\n{said}");
}

#[test]
fn cases_are_chosen_by_name_and_a_name_without_a_case_is_an_error() {
    let (done, lines, said) = run(&["--quick", "--json", "--rounds", "1", "--round", "1", "--only", "v4/1k/rand"]);
    assert!(done && !lines.is_empty(), "{said}");
    assert!(lines.lines().all(|line| line.contains(r#""case":"v4/1k/rand/b32""#)), "{lines}");
    let (done, lines, said) = run(&["--quick", "--only", "v4/nonsense"]);
    assert!(!done && said.contains("v4/nonsense"), "{lines}{said}");
}
