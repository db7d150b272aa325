//! Three namespaces in a row: generator, device, sink.

use std::cell::OnceCell;

use crate::{
    bench::{
        Arrived, Sink,
        packets::{CORE_MAC, OUR_MAC, SITE_MAC},
        xtr::MTU,
    },
    lab::{LabError, Link, Namespace, run, veth},
};

/// `out` – `near` of the device, `far` – `in`, and a sink that counts behind it as long as the cable lies.
pub(crate) struct Cable {
    pub(super) generator: Namespace,
    pub(crate) device: Namespace,
    pub(super) sink: Namespace,
    counter: Sink,
    receiving: OnceCell<u32>,
}

impl Cable {
    /// The interface of the generator.
    pub(super) const OUT: &'static str = "out";
    /// The interface of the device that receives.
    pub(crate) const NEAR: &'static str = "near";
    /// The interface of the device that sends.
    pub(crate) const FAR: &'static str = "far";
    /// The interface of the sink.
    pub(super) const IN: &'static str = "in";

    /// The namespaces are called `<owner>-<name>-generator` and so on.
    pub(super) fn new(owner: &str, name: &str, probes: bool) -> Result<Self, LabError> {
        let make = |role| Namespace::create(owner, &format!("{name}-{role}"));
        let (generator, device, sink) = (make("generator")?, make("device")?, make("sink")?);
        for namespace in [&generator, &device, &sink] {
            // Without its own IPv6 the kernel sends nothing by itself: the sink counts the device's frames only.
            run(namespace.command("sysctl").args(["-qw", "net.ipv6.conf.default.disable_ipv6=1"]))?;
        }
        let out = Link { namespace: &generator, name: Self::OUT };
        let near = Link { namespace: &device, name: Self::NEAR };
        let far = Link { namespace: &device, name: Self::FAR };
        let end = Link { namespace: &sink, name: Self::IN };
        veth(out, near, MTU)?;
        veth(far, end, MTU)?;
        for (link, octets) in [(out, SITE_MAC), (near, OUR_MAC), (end, CORE_MAC)] {
            link.mac(&mac(octets))?;
        }
        near.receive_by_napi()?;
        let counter = sink.inside(move || Sink::attach(Self::IN, probes))?.map_err(LabError::Wrong)?;
        Ok(Self { generator, device, sink, counter, receiving: OnceCell::new() })
    }

    /// What reached the sink so far.
    pub(super) fn arrived(&self) -> Result<Arrived, LabError> {
        self.counter.arrived().map_err(LabError::Wrong)
    }

    /// Frames that the kernel took off the device's receiving interface so far, whatever became of them.
    pub(super) fn taken(&self) -> Result<u64, LabError> {
        let file = format!("/sys/class/net/{}/statistics/rx_packets", Self::NEAR);
        let text = run(self.device.command("cat").arg(&file))?;
        text.trim().parse().map_err(|_| LabError::Wrong(format!("{file} holds: {text}")))
    }

    /// The kernel's thread that receives for the device, which runs on `core` from the first call on.
    pub(crate) fn received_on(&self, core: usize) -> Result<u32, LabError> {
        if let Some(thread) = self.receiving.get() {
            return Ok(*thread);
        }
        let near = Link { namespace: &self.device, name: Self::NEAR };
        let thread = near.receive_on(core)?;
        Ok(*self.receiving.get_or_init(|| thread))
    }
}

/// As `ip` writes it.
pub(crate) fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}
