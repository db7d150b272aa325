//! What the control thread counts.

use altitude_control::{
    alt::{datagrams::DatagramFault, rib::kernel::RibFault, tunnels::GreFault},
    fault::{ControlFault, Tally},
    lisp_sec::SecurityFault,
    map_cache::CacheFault,
    map_resolver::{ClientFault, EcmFault},
    map_server::SiteFault,
    resolver::ResolverFault,
    responder::RequestFault,
};

/// How often each fault was seen.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) control: Tally<ControlFault>,
    pub(super) resolver: Tally<ResolverFault>,
    pub(super) request: Tally<RequestFault>,
    pub(super) cache: Tally<CacheFault>,
    pub(super) gre: Tally<GreFault>,
    pub(super) datagram: Tally<DatagramFault>,
    pub(super) rib: Tally<RibFault>,
    pub(super) ecm: Tally<EcmFault>,
    pub(super) client: Tally<ClientFault>,
    pub(super) site: Tally<SiteFault>,
    pub(super) security: Tally<SecurityFault>,
}

/// Messages by kind, and what met a bound.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) map_requests_in: u64,
    pub(super) map_requests_out: u64,
    pub(super) map_replies_in: u64,
    /// Map-Requests with a One-Time Key of ours.
    pub(super) secured_out: u64,
    /// Map-Replies that proved what they said.
    pub(super) replies_proven: u64,
    pub(super) map_replies_out: u64,
    pub(super) alt_forwarded: u64,
    /// Map-Requests that our Map-Server handed to an ETR.
    pub(super) map_requests_to_sites: u64,
    pub(super) map_registers_in: u64,
    pub(super) map_notifies_out: u64,
    pub(super) icmp_errors_out: u64,
    pub(super) misses: u64,
    /// Of those, what others than our site may not have looked up that often.
    pub(super) misses_limited: u64,
    /// EIDs that nobody answered for.
    pub(super) given_up: u64,
    /// Destinations without a path because as many are watched as may be.
    pub(super) paths_refused: u64,
    /// API clients turned away because as many are connected as may be.
    pub(super) clients_refused: u64,
}
