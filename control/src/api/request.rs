//! What a request says, before anything is made of it.

use std::net::IpAddr;

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Locator, Prefix};

use super::{
    BindingsAfter, Filter, SubscriptionsAfter, Table, batch, bgp,
    entry::{self, Terms},
    event, locators,
    message::{Fields, ProtocolError, Tlvs, kind},
    nat, sites,
    status::Detail,
    subscriptions,
};

/// What the TLVs of a request say; each at most once.
#[derive(Default)]
pub(super) struct Request {
    pub(super) table: Option<Option<Table>>,
    pub(super) instance: Option<InstanceId>,
    pub(super) prefix: Option<Prefix>,
    pub(super) terms: Option<Terms>,
    /// In the order of the RLOCs, as many as there are.
    pub(super) locators: Vec<Locator>,
    pub(super) must_generation: Option<u64>,
    pub(super) filters: Vec<Filter>,
    pub(super) detail: Option<Detail>,
    pub(super) cursor: Option<EidPrefix>,
    pub(super) next: Option<u32>,
    pub(super) subscriptions: Option<SubscriptionsAfter>,
    pub(super) bindings: Option<BindingsAfter>,
    /// Name of a neighbour, or nothing for all, and whether its session stays.
    pub(super) clear: Option<(Option<String>, bool)>,
    pub(super) after: Option<IpAddr>,
    /// It is of a batch that is to be tried.
    pub(super) trial: Option<()>,
    /// What trials before it would have made of the table.
    pub(super) ahead: Option<i32>,
}

impl Request {
    pub(super) fn read(body: &[u8]) -> Result<Self, ProtocolError> {
        fn once<T>(place: &mut Option<T>, value: T) -> Result<(), ProtocolError> {
            match place.replace(value) {
                None => Ok(()),
                Some(_) => Err(ProtocolError::Value("a TLV is there twice")),
            }
        }
        let mut request = Self::default();
        for tlv in Tlvs(body) {
            let (kind, fields) = tlv?;
            match kind {
                kind::TABLE => once(&mut request.table, entry::table(fields)?)?,
                kind::IID => once(&mut request.instance, entry::instance(fields)?)?,
                kind::EID => once(&mut request.prefix, entry::prefix(fields)?)?,
                kind::MAPPING => once(&mut request.terms, entry::terms(fields)?)?,
                kind::RLOC => request.locators.push(entry::locator(fields)?.locator),
                kind::MUST_GEN => once(&mut request.must_generation, generation(fields)?)?,
                kind::REACH_INFO => drop(event::reach_info(fields)?),
                kind::FILTER => request.filters.push(Filter::read(fields)?),
                kind::DETAIL => once(&mut request.detail, Detail::read(fields)?)?,
                kind::CURSOR => once(&mut request.cursor, bgp::cursor(fields)?)?,
                kind::NEXT => once(&mut request.next, sites::next(fields)?)?,
                kind::SUBSCRIPTIONS_AFTER => once(&mut request.subscriptions, subscriptions::after(fields)?)?,
                kind::BINDINGS_AFTER => once(&mut request.bindings, nat::after(fields)?)?,
                kind::AFTER => once(&mut request.after, locators::after(fields)?)?,
                kind::TRIAL => once(&mut request.trial, fields.end()?)?,
                kind::AHEAD => once(&mut request.ahead, batch::ahead(fields)?)?,
                kind::CLEAR => once(&mut request.clear, bgp::clear(fields)?)?,
                other if other & kind::MANDATORY != 0 => return Err(ProtocolError::Unknown(other)),
                _ => {}
            }
        }
        Ok(request)
    }

    /// The EID-prefix named.
    pub(super) fn eid(&self) -> Option<EidPrefix> {
        self.prefix.map(|prefix| EidPrefix { instance: self.instance.unwrap_or_default(), prefix })
    }

    /// The tables asked for: the cache if none is named.
    pub(super) fn tables(&self) -> &'static [Table] {
        match self.table {
            None | Some(Some(Table::Cache)) => &[Table::Cache],
            Some(Some(Table::Database)) => &[Table::Database],
            Some(None) => &[Table::Cache, Table::Database],
        }
    }
}

fn generation(mut fields: Fields<'_>) -> Result<u64, ProtocolError> {
    let generation = fields.u64()?;
    fields.end()?;
    Ok(generation)
}
