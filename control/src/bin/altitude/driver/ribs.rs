//! EID routes out of tables of the kernel's.

use std::{collections::BTreeMap, time::Instant};

use altitude_control::{
    alt::{
        rib::{
            kernel::{self, KernelRib},
            sources::RibSource,
        },
        tunnels::TunnelId,
    },
    config::Config,
    os::netlink::table::RouteTable,
};

use nix::net::if_::if_nametoindex;

use super::Driver;

/// Datagrams of the kernel's taken in one round: some ten thousand routes.
const ROUND: usize = 16;

/// A machine for each table that is a source, in the order of their instances; their sockets are in the same order.
///
/// The interfaces are there by now, be they TUN devices of ours or the kernel's GRE.
pub(super) fn tables(config: &Config, now: Instant) -> Vec<KernelRib> {
    let tunnels = config.tunnels.iter().enumerate();
    let devices: BTreeMap<u32, TunnelId> =
        tunnels.filter_map(|(id, tunnel)| Some((if_nametoindex(tunnel.name.as_str()).ok()?, TunnelId(id)))).collect();
    let table = |(instance, source): (&_, &RibSource)| match source {
        RibSource::Netlink { table } => Some(KernelRib::new(*instance, *table, devices.clone(), now)),
        RibSource::Static | RibSource::Embedded => None,
    };
    config.ribs.iter().filter_map(table).collect()
}

/// The sockets of [`tables`].
pub(crate) fn open(config: &Config) -> std::io::Result<Vec<RouteTable>> {
    let open = |source: &RibSource| match source {
        RibSource::Netlink { table } => Some(RouteTable::open(*table)),
        RibSource::Static | RibSource::Embedded => None,
    };
    config.ribs.values().filter_map(open).collect()
}

impl Driver<'_> {
    /// Reads what the kernel says of a table; true if it may have more to say.
    pub(super) fn serve_table(&mut self, index: usize, now: Instant) -> bool {
        let mut inputs = Vec::new();
        let more = self.sockets.tables[index].receive(ROUND, &mut inputs).unwrap_or_else(|error| {
            tracing::warn!(%error, "a routing table cannot be followed; it is read again");
            inputs.push(kernel::Input::Lost);
            false
        });
        for input in inputs {
            self.tell_table(index, now, input);
        }
        more
    }

    /// When a table is to be read again.
    pub(super) fn tables_due(&self) -> Option<Instant> {
        self.rib.kernel.iter().filter_map(KernelRib::due).min()
    }

    pub(super) fn wake_tables(&mut self, now: Instant) {
        for index in 0..self.rib.kernel.len() {
            if self.rib.kernel[index].due().is_some_and(|due| due <= now) {
                self.tell_table(index, now, kernel::Input::Wake);
            }
        }
    }

    fn tell_table(&mut self, index: usize, now: Instant, input: kernel::Input) {
        let mut todo = Vec::new();
        self.rib.kernel[index].step(now, input, &mut todo);
        for output in todo {
            match output {
                kernel::Output::Dump => {
                    let mut inputs = Vec::new();
                    if let Err(error) = self.sockets.tables[index].dump(&mut inputs) {
                        tracing::warn!(%error, "the kernel was not asked for a routing table; tried again");
                        inputs.push(kernel::Input::Refused);
                    }
                    for input in inputs {
                        self.tell_table(index, now, input);
                    }
                }
                kernel::Output::Fault(fault) => self.faults.rib.count(fault),
            }
        }
    }
}
