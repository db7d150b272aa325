//! Three namespaces in a row: generator, device, sink.

use crate::{
    bench::{
        Sink,
        packets::{CORE_MAC, OUR_MAC, SITE_MAC},
        xtr::MTU,
    },
    lab::{LabError, Link, Namespace, run, veth},
};

/// `out` – `near` of the device, `far` – `in`, and a sink that counts behind it as long as the cable lies.
pub(crate) struct Cable {
    pub(crate) generator: Namespace,
    pub(crate) device: Namespace,
    sink: Namespace,
    counter: Sink,
}

impl Cable {
    /// The interface of the generator.
    pub(crate) const OUT: &'static str = "out";
    /// The interface of the device that receives.
    pub(crate) const NEAR: &'static str = "near";
    /// The interface of the device that sends.
    pub(crate) const FAR: &'static str = "far";

    /// The namespaces are called `<owner>-<name>generator` and so on.
    pub(crate) fn new(owner: &str, name: &str) -> Result<Self, LabError> {
        let make = |role| Namespace::create(owner, &format!("{name}{role}"));
        let (generator, device, sink) = (make("generator")?, make("device")?, make("sink")?);
        for namespace in [&generator, &device, &sink] {
            // Without its own IPv6 the kernel sends nothing by itself: the sink counts the device's frames only.
            run(namespace.command("sysctl").args(["-qw", "net.ipv6.conf.default.disable_ipv6=1"]))?;
        }
        let out = Link { namespace: &generator, name: Self::OUT };
        let near = Link { namespace: &device, name: Self::NEAR };
        let far = Link { namespace: &device, name: Self::FAR };
        let end = Link { namespace: &sink, name: "in" };
        veth(out, near, MTU)?;
        veth(far, end, MTU)?;
        for (link, octets) in [(out, SITE_MAC), (near, OUR_MAC), (end, CORE_MAC)] {
            link.mac(&mac(octets))?;
        }
        let counter = sink.inside(|| Sink::attach("in"))?.map_err(LabError::Wrong)?;
        Ok(Self { generator, device, sink, counter })
    }

    pub(crate) const fn near(&self) -> Link<'_> {
        Link { namespace: &self.device, name: Self::NEAR }
    }

    pub(crate) const fn far(&self) -> Link<'_> {
        Link { namespace: &self.device, name: Self::FAR }
    }

    /// Frames that reached the sink so far.
    pub(crate) fn arrived(&self) -> Result<u64, LabError> {
        self.counter.count().map_err(LabError::Wrong)
    }
}

/// As `ip` writes it.
pub(crate) fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}
