//! Why a message was not acted on: closed sets of named kinds, and how often each was seen.
//!
//! A machine hands its faults out as values; the driver counts them in a [`Tally`], so that every name shows up in
//! `show counters`, the ones at zero included.

#![forbid(unsafe_code)]

use std::marker::PhantomData;

/// A closed set of faults with stable names for operators.
pub trait Fault: Copy + 'static {
    /// Every kind, in the order of the counters.
    const ALL: &'static [Self];

    /// Stable name, as `show counters` and metrics print it.
    fn name(self) -> &'static str;

    /// Its place in [`Fault::ALL`].
    fn index(self) -> usize;
}

/// One counter for each kind of `F`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally<F> {
    counts: Box<[u64]>,
    of: PhantomData<F>,
}

impl<F: Fault> Default for Tally<F> {
    fn default() -> Self {
        Self { counts: vec![0; F::ALL.len()].into(), of: PhantomData }
    }
}

impl<F: Fault> Tally<F> {
    /// Counts one.
    pub fn count(&mut self, fault: F) {
        let counter = &mut self.counts[fault.index()];
        *counter = counter.wrapping_add(1);
    }

    /// How many of `fault` were counted.
    #[must_use]
    pub fn get(&self, fault: F) -> u64 {
        self.counts[fault.index()]
    }

    /// Every fault with its name and count, in the order of [`Fault::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        F::ALL.iter().map(|fault| (fault.name(), self.get(*fault)))
    }
}

/// Declares a fault enum: variants with their documentation and stable names.
macro_rules! faults {
    ($(#[$about:meta])* $set:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $set { $($(#[$doc])* $name,)* }

        impl $crate::fault::Fault for $set {
            const ALL: &'static [Self] = &[$(Self::$name,)*];

            fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use faults;

faults! {
    /// Why a control message came to nothing before a machine saw it, or could not be sent.
    ControlFault {
        /// Lengths, AFIs or fields that contradict the formats.
        Malformed = "control-malformed",
        /// A message type not spoken here.
        UnknownType = "control-unknown-type",
        /// A message could not be sent: no socket of its family, or the kernel refused.
        NotSent = "control-not-sent",
        /// A look-up found no way into the ALT, and no Map-Resolver to ask.
        NoAltRoute = "request-no-alt-route",
        /// A refresh found no locator to ask.
        NoRefreshLocator = "request-no-refresh-locator",
        /// A packet for a tunnel could not be sent, or one from a tunnel not be handed to the kernel.
        TunnelNotSent = "tunnel-not-sent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alt::{
            bgp::{message::BgpFault, speaker::RouteFault},
            datagrams::DatagramFault,
            rib::kernel::RibFault,
            tunnels::GreFault,
        },
        lisp_sec::SecurityFault,
        map_cache::CacheFault,
        map_resolver::{ClientFault, EcmFault},
        map_server::SiteFault,
        nat::{relay::RelayFault, site::NatFault},
        prober::ProbeFault,
        pubsub::PubSubFault,
        registrar::NotifyFault,
        resolver::ResolverFault,
        responder::RequestFault,
        smr::SmrFault,
    };

    fn names<F: Fault>() -> Vec<&'static str> {
        for (index, fault) in F::ALL.iter().enumerate() {
            assert_eq!(fault.index(), index);
        }
        F::ALL.iter().map(|fault| fault.name()).collect()
    }

    /// G-9.
    #[test]
    fn names_are_unique_over_all_machines() {
        let mut all = [
            names::<ResolverFault>(),
            names::<RequestFault>(),
            names::<CacheFault>(),
            names::<GreFault>(),
            names::<DatagramFault>(),
            names::<RouteFault>(),
            names::<EcmFault>(),
            names::<ClientFault>(),
            names::<SiteFault>(),
            names::<NatFault>(),
            names::<NotifyFault>(),
            names::<BgpFault>(),
            names::<RibFault>(),
            names::<ProbeFault>(),
            names::<SmrFault>(),
            names::<PubSubFault>(),
            names::<SecurityFault>(),
            names::<RelayFault>(),
        ]
        .concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_tally_counts_each_kind_apart_and_lists_the_zeros() {
        let mut tally = Tally::<CacheFault>::default();
        tally.count(CacheFault::Evicted);
        tally.count(CacheFault::Evicted);
        assert_eq!((tally.get(CacheFault::Evicted), tally.get(CacheFault::Full)), (2, 0));
        assert_eq!(tally.iter().count(), CacheFault::ALL.len());
        assert!(tally.iter().any(|counted| counted == ("map-cache-evicted", 2)));
    }
}
