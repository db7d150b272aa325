//! PETRs: where packets go whose destination is no EID, instead of natively (RFC 6832 §6).
//!
//! One locator-set for each instance stands for all prefixes of it that are natively forwarded; the PETRs share its packets.

use altitude_dataplane::{
    cache::SetId,
    mapping::{InstanceId, Locator},
};

use super::{Paths, Publisher, User, Watch};

/// Priority and weight of each PETR: they share.
const SHARE: (u8, u8) = (1, 100);

impl Publisher {
    /// Whether PETRs take what would go natively.
    pub(super) fn has_petrs(&self) -> bool {
        !self.settings.petrs.is_empty()
    }

    /// The locator-set of the PETRs in an instance, made with its first prefix. `None` if there is no room.
    pub(super) fn through_petrs(
        &mut self,
        instance: InstanceId,
        paths: &dyn Paths,
        todo: &mut Vec<Watch>,
    ) -> Option<SetId> {
        if let Some(id) = self.proxies.get(&instance) {
            return Some(*id);
        }
        for petr in self.settings.petrs.clone() {
            self.join(petr, User::Proxy(instance), todo);
        }
        let choice = self.choose(instance, &self.petrs(), paths);
        let id = self.writer.add_set(&self.settings.petrs, &choice).ok()?;
        self.proxies.insert(instance, id);
        Some(id)
    }

    /// Turns the set of an instance to what the paths to the PETRs allow by now.
    pub(super) fn turn_proxy(&mut self, instance: InstanceId, paths: &dyn Paths) {
        let Some(id) = self.proxies.get(&instance) else { return };
        let choice = self.choose(instance, &self.petrs(), paths);
        match self.writer.change_set(*id, &choice) {
            Ok(()) => self.dirty = true,
            Err(_) if self.unproxied.insert(instance) => self.refused += 1,
            Err(_) => {}
        }
    }

    fn petrs(&self) -> Vec<Locator> {
        self.settings.petrs.iter().map(|petr| Locator::unicast(*petr, SHARE.0, SHARE.1)).collect()
    }
}
