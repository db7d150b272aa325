//! The interfaces packets come and go by.

use altitude_dataplane::{counters::PORTS_MAX, mapping::InstanceId};

use super::{Findings, values};
use crate::config::{Draft, Place, Port, PortDraft};

/// Site ports first; an interface named in both lists is one port with both roles.
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
            ports.push(Port { name, site: true, core: false, instance });
        }
    }
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
            None => ports.push(Port { name, site: false, core: true, instance: InstanceId::DEFAULT }),
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

fn name(item: &PortDraft, findings: &mut Findings) -> Option<String> {
    let name = values::interface(&item.name, findings);
    findings.gap(name)
}

fn twice(item: &PortDraft, role: &str, findings: &mut Findings) {
    findings.wrong(
        &item.name.place,
        format!("{role} port {} is named twice", item.name.value),
        "name each interface once; an interface may be a site port and a core port",
    );
}
