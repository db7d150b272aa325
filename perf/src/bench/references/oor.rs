//! openoverlayrouter (Debian's package), the only other LISP router in C that is kept: packets go through a TUN device
//! and leave by a raw socket, one system call each.
//!
//! Its mappings are static, so it needs nobody to ask. What the kernel does before its TUN device is not counted, in
//! its favour.

use std::fs;

use super::{START_LIMIT, Setup};
use crate::{
    bench::{
        Direction, Families, Traffic,
        packets::{CORE_MAC, local, rloc},
        veth::{Cable, mac},
        xtr::site_prefix,
    },
    lab::{LabError, Process, run, wait_until},
};

pub(super) const PROGRAM: &str = "oor";

pub(super) fn start(setup: &Setup) -> Result<Process, LabError> {
    let Traffic { families: Families { inner4, outer4 }, direction, .. } = *setup.traffic;
    if !(inner4 && outer4 && direction == Direction::Encap) {
        return Err(LabError::Wrong("set up for encapsulation of IPv4 in IPv4 only".into()));
    }
    let namespace = &setup.cable.device;
    let host = local(true, 0).to_string();
    namespace.ip(&format!("address replace {}/16 dev {}", host.replace(".1.1", ".0.1"), Cable::NEAR))?;
    namespace.ip(&format!("address replace {}/24 dev {}", rloc(true, true), Cable::FAR))?;
    let peer = rloc(true, false);
    namespace.ip(&format!("neighbour replace {peer} lladdr {} dev {} nud permanent", mac(CORE_MAC), Cable::FAR))?;
    // It sends through the gateway of the interface.
    namespace.ip(&format!("route replace default via {peer}"))?;
    run(namespace.command("sysctl").args(["-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"]))?;
    run(namespace.command("sysctl").args(["-qw", "net.ipv4.conf.near.rp_filter=0"]))?;

    let file = setup.folder.join("oor.conf");
    fs::write(&file, configuration(setup.traffic)).map_err(LabError::os(file.display().to_string()))?;
    let core = setup.cores.device.to_string();
    let mut command = namespace.command("taskset");
    command.args(["-c", &core, PROGRAM, "-d", "0", "-f"]).arg(&file);
    let process = Process::start(PROGRAM, &mut command, setup.folder)?;
    // Packets of the site go into its device once this rule stands; until then the kernel forwards them.
    let site = format!("from {} lookup", site_prefix(true));
    wait_until("rule for the site's packets", START_LIMIT, || Ok(namespace.ip("rule")?.contains(&site).then_some(())))?;
    wait_until("route into its device", START_LIMIT, || {
        Ok(namespace.ip("route show table all")?.contains("default dev lispTun0").then_some(()))
    })?;
    Ok(process)
}

fn configuration(traffic: &Traffic) -> String {
    let (ours, peer) = (rloc(true, true), rloc(true, false));
    let locator = |address| format!("rloc-address {{\n address = {address}\n priority = 1\n weight = 100\n }}\n");
    let mut text = format!(
        "debug = 0\nmap-request-retries = 1\noperating-mode = xTR\nencapsulation = LISP\n\
         rloc-probing {{\n rloc-probe-interval = 0\n rloc-probe-retries = 1\n rloc-probe-retries-interval = 5\n}}\n\
         map-resolver = {{ {peer} }}\n\
         map-server {{\n address = {peer}\n key-type = 1\n key = bench\n proxy-reply = off\n}}\n\
         database-mapping {{\n eid-prefix = {}\n iid = 0\n {}}}\n",
        site_prefix(true),
        locator(ours)
    );
    for index in 0..traffic.prefixes {
        let prefix = Traffic::far(true, index);
        text += &format!("static-map-cache {{\n eid-prefix = {prefix}\n iid = 0\n {}}}\n", locator(peer));
    }
    text
}
