//! The kernel's own paths: forwarding, and VXLAN encapsulation.

use std::{fmt::Write, fs, net::IpAddr};

use super::Setup;
use crate::{
    bench::{
        Traffic,
        meter::Meter,
        packets::{CORE_MAC, local, rloc},
        veth::{Cable, mac},
        xtr::MTU,
    },
    lab::{LabError, run},
};

/// The device of the encapsulation, and the next hop behind it.
const VXLAN: &str = "vxlan";
const BEHIND_MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];

/// Routes to the far prefixes through `far`.
pub(super) fn forwarding(setup: &Setup) -> Result<Meter, LabError> {
    switch_on(setup)?;
    let v4 = setup.traffic.families.inner4;
    let mut lines = addresses(v4, v4);
    let (next, far) = (rloc(v4, false), Cable::FAR);
    lines += &neighbour(next, CORE_MAC, far);
    routes(&mut lines, setup.traffic, next, far);
    configure(setup, &lines)
}

/// Routes to the far prefixes through a tunnel device whose only peer is the sink.
pub(super) fn vxlan(setup: &Setup) -> Result<Meter, LabError> {
    let (inner4, outer4) = (setup.traffic.families.inner4, setup.traffic.families.outer4);
    let namespace = &setup.cable.device;
    switch_on(setup)?;
    if namespace.ip(&format!("link show {VXLAN}")).is_err() {
        let (ours, peer) = (rloc(outer4, true), rloc(outer4, false));
        // Without the outer UDP checksum, as LISP sends it (RFC 9300 §5.3), and over IPv4 the default.
        let checksums = if outer4 { "noudpcsum" } else { "udp6zerocsumtx" };
        namespace.ip(&format!(
            "link add {VXLAN} mtu {} type vxlan id 42 local {ours} remote {peer} dstport 4789 dev {} {checksums}",
            MTU - 70,
            Cable::FAR
        ))?;
        namespace.ip(&format!("link set {VXLAN} up"))?;
        let fdb = ["fdb", "append", &mac(BEHIND_MAC), "dev", VXLAN, "dst", &peer.to_string()];
        run(namespace.command("bridge").args(fdb))?;
    }
    let mut lines = addresses(inner4, outer4);
    lines += &neighbour(rloc(outer4, false), CORE_MAC, Cable::FAR);
    let next: IpAddr = if inner4 { [10, 9, 9, 2].into() } else { [0xfd09, 0, 0, 0, 0, 0, 0, 2].into() };
    let own: IpAddr = if inner4 { [10, 9, 9, 1].into() } else { [0xfd09, 0, 0, 0, 0, 0, 0, 1].into() };
    let length = if inner4 { 24 } else { 64 };
    let _ = writeln!(lines, "address replace {own}/{length} dev {VXLAN}");
    lines += &neighbour(next, BEHIND_MAC, VXLAN);
    routes(&mut lines, setup.traffic, next, VXLAN);
    configure(setup, &lines)
}

/// Addresses of both interfaces, as lines for `ip -batch`.
fn addresses(inner4: bool, outer4: bool) -> String {
    let near: IpAddr = match local(inner4, 0) {
        IpAddr::V4(host) => (host.to_bits() & 0xffff_0000 | 1).to_be_bytes().into(),
        IpAddr::V6(host) => (host.to_bits() & !0xffff | 0xffff).to_be_bytes().into(),
    };
    let (near_length, far_length) = (if inner4 { 16 } else { 64 }, if outer4 { 24 } else { 64 });
    let far = rloc(outer4, true);
    format!(
        "address replace {near}/{near_length} dev {}\naddress replace {far}/{far_length} dev {}\n",
        Cable::NEAR,
        Cable::FAR
    )
}

fn neighbour(address: IpAddr, octets: [u8; 6], interface: &str) -> String {
    format!("neighbour replace {address} lladdr {} dev {interface} nud permanent\n", mac(octets))
}

fn routes(lines: &mut String, traffic: &Traffic, next: IpAddr, interface: &str) {
    for index in 0..traffic.prefixes {
        let _ = writeln!(
            lines,
            "route replace {} via {next} dev {interface}",
            Traffic::far(traffic.families.inner4, index)
        );
    }
}

/// Lets the namespace forward, whoever sent the packets.
fn switch_on(setup: &Setup) -> Result<(), LabError> {
    let switches = [
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.default.rp_filter=0",
        "net.ipv4.conf.near.rp_filter=0",
        "net.ipv6.conf.default.disable_ipv6=0",
        "net.ipv6.conf.near.disable_ipv6=0",
        "net.ipv6.conf.far.disable_ipv6=0",
        "net.ipv6.conf.all.forwarding=1",
    ];
    run(setup.cable.device.command("sysctl").arg("-qw").args(switches)).map(drop)
}

/// Applies the lines, and gives the receiving interface to a thread on the device's core.
fn configure(setup: &Setup, lines: &str) -> Result<Meter, LabError> {
    let file = setup.folder.join("ip-batch");
    fs::write(&file, lines).map_err(LabError::os(file.display().to_string()))?;
    run(setup.cable.device.command("ip").arg("-batch").arg(&file))?;
    setup.cable.received_on(setup.cores.device).map(Meter::Thread)
}
