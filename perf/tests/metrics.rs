//! What Prometheus makes of a router's metrics: its linter, a real server that scrapes, and the dashboard's questions.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use altitude_perf::lab::{self, Family, Lab, LabError, Namespace, Process, Router, run, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const METRICS: &str = "127.0.0.1:9347";
const SERVER: &str = "127.0.0.1:9090";

#[test]
fn prometheus_takes_every_metric_and_answers_the_dashboard() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    if Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return println!("SKIP: `promtool` is missing: run docker/deps.sh build lab peers");
    }
    let lab = Lab::new().unwrap();
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let _xtr2 = Router::start("xtr2", &lab.xtrs[1], &lab.xtr_flags(1, Family::V4), lab.folder()).unwrap();
    let more = ["--metrics", METRICS, "--rloc-probing", "1"].map(str::to_owned);
    let flags = [lab.xtr_flags(0, Family::V4), more.to_vec()].concat();
    let xtr1 = Router::start("xtr1", &lab.xtrs[0], &flags, lab.folder()).unwrap();
    for to in lab.hosts(1) {
        assert_eq!(lab.ping(0, to, 3).unwrap().answered, 3, "{to}");
    }

    let text = wait_until("answer to an RLOC-probe", LIMIT, || {
        let text = ask(&lab.xtrs[0], METRICS, "/metrics")?;
        Ok(text.contains("altitude_locator_rtt_seconds{locator=\"240.0.254.20\"}").then_some(text))
    })
    .unwrap();
    lint(&text);
    for line in [
        "altitude_worker_events_total{worker=\"0\",event=\"encapsulated\"} 6",
        "altitude_map_cache_entries 2",
        "altitude_port_up{port=\"site\",roles=\"site\",sockets=\"copy\"} 1",
        "altitude_locator_up{locator=\"240.0.254.20\"} 1",
        "altitude_tunnel_up{tunnel=\"alt0\",remote=\"240.0.254.30\"} 1",
    ] {
        assert!(text.lines().any(|said| said == line), "{line} is missing in\n{text}");
    }
    // Every counter that an operator sees is there.
    let counters: Value = serde_json::from_str(&xtr1.show(&["counters", "--json"]).unwrap()).unwrap();
    let worker = counters["workers"][0]["counters"].as_object().unwrap().keys();
    let gauges = [
        "map-cache-entries",
        "map-requests-pending",
        "registrations",
        "subscriptions",
        "subscribers",
        "locators-probed",
        "path-mtus",
        "tables-in-limbo",
    ];
    for name in worker.chain(counters["control"].as_object().unwrap().keys()) {
        let there = text.contains(&format!("\"{name}\"}}")) || gauges.contains(&name.as_str());
        assert!(there, "counter {name} is not among the metrics");
    }

    let _server = prometheus(&lab.xtrs[0], lab.folder());
    wait_until("scrape", LIMIT, || {
        let up = query(&lab.xtrs[0], "up")?;
        Ok((up["data"]["result"][0]["value"][1] == "1").then_some(()))
    })
    .unwrap();
    let scraped = query(&lab.xtrs[0], "altitude_worker_events_total{event=\"encapsulated\"}").unwrap();
    assert_eq!(scraped["data"]["result"][0]["value"][1], "6", "{scraped}");
    dashboard(&lab.xtrs[0], &text);
}

/// Prometheus' own linter has nothing to say.
fn lint(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "promtool: {}\n{text}", String::from_utf8_lossy(&said));
}

fn prometheus(namespace: &Namespace, folder: &Path) -> Process {
    let config = folder.join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: altitude, static_configs: [{{targets: ['{METRICS}']}}]}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    run(Command::new("promtool").args(["check", "config"]).arg(&config)).unwrap();
    let mut command = namespace.command("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
    command.arg(format!("--web.listen-address={SERVER}"));
    let mut server = Process::start("prometheus", &mut command, folder).unwrap();
    server.wait_line(LIMIT, |line| line.contains("Server is ready")).unwrap();
    server
}

/// Each panel asks for metrics that there are, in words that Prometheus understands.
fn dashboard(namespace: &Namespace, text: &str) {
    let dashboard: Value = serde_json::from_str(include_str!("../../docker/grafana.json")).unwrap();
    let mut expressions = Vec::new();
    let mut missing = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(expressions.len() > 15, "{expressions:?}");
    // No Map-Server and no BGP here.
    let elsewhere = ["altitude_map_server_registered", "altitude_bgp_neighbor_up"];
    for expression in &expressions {
        let words = expression.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let names = words.filter(|word| word.starts_with("altitude_") || word.starts_with("process_"));
        missing.extend(names.filter(|name| !text.contains(&format!("# TYPE {name} ")) && !elsewhere.contains(name)));
        let asked = expression.replace("$router", ".*").replace("$__rate_interval", "1m");
        let answer = query(namespace, &asked).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
    assert!(missing.is_empty(), "the dashboard asks for what is not there: {missing:?}");
}

fn query(namespace: &Namespace, expression: &str) -> Result<Value, LabError> {
    let escaped: String = expression.bytes().map(|octet| format!("%{octet:02x}")).collect();
    let answer = ask(namespace, SERVER, &format!("/api/v1/query?query={escaped}"))?;
    serde_json::from_str(&answer).map_err(|error| LabError::Wrong(format!("{error}: {answer}")))
}

/// The body of an answer.
fn ask(namespace: &Namespace, server: &'static str, path: &str) -> Result<String, LabError> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n");
    let answer = namespace.inside(move || {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    })?;
    let answer = answer.map_err(LabError::os("HTTP"))?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| LabError::Wrong(answer.clone()))?;
    Ok(body.to_owned())
}
