//! A small run of `altitude-perf alt`: every case gives a figure, and no speaker said less than it must.

use std::process::Command;

use altitude_perf::lab;
use serde_json::Value;

#[test]
fn a_quick_run_gives_every_figure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_altitude-perf"));
    let output = command.args(["alt", "--quick", "--json", "--rounds", "1"]).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut wanted = vec![
        ("scale/process", "altitude"),
        ("scale/process/memory", "altitude"),
        ("scale/process/step", "altitude"),
        ("datagrams/process", "altitude"),
    ];
    match lab::available() {
        Ok(()) => wanted.extend([
            ("scale/tcp", "altitude"),
            ("scale/tcp/memory", "altitude"),
            ("scale/tcp/elapsed", "altitude"),
            ("datagrams/gre", "altitude"),
        ]),
        Err(why) => println!("SKIP: {why}"),
    }
    if wanted.len() > 4 && !said.contains("SKIP scale/tcp of BIRD") {
        wanted.extend([("scale/tcp", "bird"), ("scale/tcp/memory", "bird")]);
    }
    for (case, subject) in wanted {
        let row = rows.iter().find(|row| row["case"] == case && row["subject"] == subject);
        let value = row.and_then(|row| row["value"].as_f64());
        assert!(value.is_some_and(|value| value > 0.0), "{case} of {subject}: {row:?}");
    }
    assert!(rows.iter().all(|row| row["bench"] == "alt"));
}
