//! The program's mapping API: how soon a client has its answer, how many mappings a second it can put in, and what that costs.

use std::{
    fs,
    time::{Duration, Instant},
};

use altitude_control::api::{
    Offer, Operation, Table,
    client::{Client, ClientError},
};
use altitude_dataplane::mapping::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Ttl};
use hdrhistogram::Histogram;

use crate::{
    bench::meter::Meter,
    lab::{LabError, Link, Namespace, Router, remove_left_over, veth, work_folder},
};

/// Mappings put in one after another, which is also how many there are at the end.
const ADDS: u32 = 50_000;
const ADDS_QUICK: u32 = 1000;

/// What came of it.
#[derive(Debug)]
pub(super) struct Measured {
    /// Microseconds from a GET to its answer, the router idle otherwise: median and 99th percentile.
    pub(super) get: [f64; 2],
    /// The same of ADD.
    pub(super) add: [f64; 2],
    /// ADDs a second, each sent after the answer to the one before.
    pub(super) adds: f64,
    /// Share of a core, in percent, that the program takes for ten thousand ADDs a second.
    pub(super) share: f64,
}

/// All of it once.
///
/// # Errors
/// [`LabError`].
pub(super) fn run(quick: bool) -> Result<Measured, LabError> {
    let owner = format!("alt{}", std::process::id());
    remove_left_over(&owner);
    let folder = work_folder(&owner)?;
    let measured = measure(if quick { ADDS_QUICK } else { ADDS }, &owner, &folder);
    let _ = fs::remove_dir_all(&folder);
    measured
}

fn measure(adds: u32, owner: &str, folder: &std::path::Path) -> Result<Measured, LabError> {
    // The far end is only there for the router to have a tunnel to it.
    let (near, far) = (Namespace::create(owner, "router")?, Namespace::create(owner, "far")?);
    let link = Link { namespace: &near, name: "core" };
    veth(link, Link { namespace: &far, name: "core" }, 1500)?;
    link.address([203, 0, 113, 1].into(), 24)?;
    let flags = "--rloc 203.0.113.1 --alt-tunnel alt0,remote=203.0.113.2 --rloc-probing off";
    let flags: Vec<String> = flags.split(' ').map(str::to_owned).collect();
    let router = Router::start("api", &near, &flags, folder)?;
    let wrong = |error: ClientError| LabError::Wrong(error.to_string());
    let mut client = Client::connect(&router.api).map_err(wrong)?;

    let mut added = times();
    let meter = Meter::Process(router.process.id());
    let (before, start) = (meter.read()?, Instant::now());
    for number in 0..adds {
        let sent = Instant::now();
        client.perform(&Operation::Add(offer(number))).map_err(wrong)?;
        added.saturating_record(sent.elapsed().as_nanos() as u64);
    }
    let (took, cpu) = (start.elapsed(), meter.read()?.saturating_sub(before));
    let mut got = times();
    for number in 0..adds {
        // One after the other, with a pause in which the router falls asleep.
        std::thread::sleep(Duration::from_micros(200));
        let eid = Eid { instance: InstanceId::DEFAULT, address: address(number.wrapping_mul(2_654_435_761) % adds) };
        let sent = Instant::now();
        let found = client.get(Table::Cache, eid).map_err(wrong)?;
        got.saturating_record(sent.elapsed().as_nanos() as u64);
        if found.is_none() {
            return Err(LabError::Wrong(format!("no mapping for {eid}")));
        }
    }
    let quantiles = |times: &Histogram<u64>| [0.5, 0.99].map(|part| times.value_at_quantile(part) as f64 / 1e3);
    Ok(Measured {
        get: quantiles(&got),
        add: quantiles(&added),
        adds: f64::from(adds) / took.as_secs_f64(),
        share: cpu.as_secs_f64() / f64::from(adds) * 10_000.0 * 100.0,
    })
}

fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds that hold")
}

fn address(number: u32) -> std::net::IpAddr {
    (0x0a00_0000 + number).to_be_bytes().into()
}

fn offer(number: u32) -> Offer {
    let eid = EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: address(number) });
    let last = (number % 100) as u8 + 100;
    let locators = vec![Locator::unicast([203, 0, 113, last].into(), 1, 100)];
    let mapping = Mapping { locators, ..Mapping::negative(eid, Ttl::ReceiverDecides, Action::NoAction) };
    Offer { table: Table::Cache, mapping, life: None, ephemeral: false, foreign: false }
}
