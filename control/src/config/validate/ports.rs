//! The interfaces packets come and go by.

use altitude_dataplane::{counters::PORTS_MAX, mapping::InstanceId};

use super::{Findings, values};
use crate::config::{Draft, Place, Port, PortDraft};

/// Site ports first, then native ones; an interface that is named as a core port too is one port with both roles.
pub(super) fn ports(draft: &Draft, findings: &mut Findings) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for item in &draft.site_ports {
        let instance = match &item.instance {
            None => Some(InstanceId::DEFAULT),
            Some(given) => values::instance(given, findings),
        };
        let Some((name, instance)) = name(item, findings).zip(instance) else { continue };
        if ports.iter().any(|port| port.name == name) {
            twice(item, "site", findings);
        } else {
            ports.push(Port { name, site: true, core: false, native: false, instance });
        }
    }
    native_ports(draft, &mut ports, findings);
    for item in &draft.core_ports {
        if let Some(instance) = &item.instance {
            findings.wrong(
                &instance.place,
                "a core port has no Instance-ID",
                "take it away: packets from the core carry their own",
            );
        }
        let Some(name) = name(item, findings) else { continue };
        match ports.iter_mut().find(|port| port.name == name) {
            Some(port) if port.core => twice(item, "core", findings),
            Some(port) => port.core = true,
            None => ports.push(Port { name, site: false, core: true, native: false, instance: InstanceId::DEFAULT }),
        }
    }
    if ports.len() > PORTS_MAX {
        findings.wrong(
            &Place::Whole,
            format!("{} ports are more than the {PORTS_MAX} of one router", ports.len()),
            "start a second instance for the others",
        );
    }
    ports
}

fn native_ports(draft: &Draft, ports: &mut Vec<Port>, findings: &mut Findings) {
    for item in &draft.native_ports {
        let instance = match &item.instance {
            None => Some(InstanceId::DEFAULT),
            Some(given) => values::instance(given, findings),
        };
        let Some((name, instance)) = name(item, findings).zip(instance) else { continue };
        match ports.iter().find(|port| port.name == name) {
            Some(port) if port.site => findings.wrong(
                &item.name.place,
                format!("port {name} is named as a site port and as a native one"),
                "hosts with EIDs and networks without LISP are behind interfaces of their own",
            ),
            Some(_) => twice(item, "native", findings),
            None => ports.push(Port { name, site: false, core: false, native: true, instance }),
        }
    }
}

fn name(item: &PortDraft, findings: &mut Findings) -> Option<String> {
    let name = values::interface(&item.name, findings);
    findings.gap(name)
}

fn twice(item: &PortDraft, role: &str, findings: &mut Findings) {
    findings.wrong(
        &item.name.place,
        format!("{role} port {} is named twice", item.name.value),
        "name each interface once; a site port or a native one may be a core port, too",
    );
}
