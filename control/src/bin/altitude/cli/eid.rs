//! EIDs and EID-prefixes as arguments.

use altitude_dataplane::mapping::{Eid, EidPrefix, InstanceId};

use super::EidOrSelf;

/// What stands behind an instance in brackets, if there is one.
fn in_instance(text: &str) -> Result<(InstanceId, &str), String> {
    match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        None => Ok((InstanceId::DEFAULT, text)),
        Some((instance, rest)) => {
            let number = instance.parse().ok().and_then(InstanceId::new);
            Ok((number.ok_or("the Instance-ID is a number of 24 bits")?, rest))
        }
    }
}

/// An EID, perhaps with its instance in brackets in front, or `self`.
pub(super) fn eid_or_self(text: &str) -> Result<EidOrSelf, String> {
    if text == "self" {
        return Ok(EidOrSelf::Own);
    }
    let (instance, address) = in_instance(text)?;
    let address = address.parse().map_err(|_| "write an IPv4 or IPv6 address, or self")?;
    Ok(EidOrSelf::Eid(Eid { instance, address }))
}

/// A prefix, perhaps with its instance in brackets in front.
pub(super) fn eid_prefix(text: &str) -> Result<EidPrefix, String> {
    let (instance, prefix) = in_instance(text)?;
    let prefix = prefix.parse().map_err(|error: altitude_dataplane::mapping::PrefixError| error.to_string())?;
    Ok(EidPrefix { instance, prefix })
}

/// An EID or a prefix, perhaps with its instance in brackets in front.
pub(super) fn eid_or_prefix(text: &str) -> Result<EidPrefix, String> {
    if text.contains('/') {
        return eid_prefix(text);
    }
    let (instance, address) = in_instance(text)?;
    let address = address.parse().map_err(|_| "write an IPv4 or IPv6 address, or a prefix")?;
    Ok(EidPrefix::host(Eid { instance, address }))
}
