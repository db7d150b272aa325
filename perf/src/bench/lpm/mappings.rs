//! What whole mappings occupy: prefix, locator-set, headers, counters and the writer's books.

use std::{collections::HashSet, fs};

use altitude_dataplane::{
    cache::{self, Forwarding, SetId},
    mapping::Prefix,
};

use super::{
    Bench, LpmError,
    altitude::{GROUP, eid, pair},
    random::Random,
    table::{Family, Table},
};

/// RLOCs that locators are drawn from.
const RLOCS: usize = 4096;

impl Bench<'_> {
    /// Mappings of two locators each: once with few distinct locator-sets, as sites with several prefixes have them,
    /// and once with as many as there are mappings.
    pub(super) fn mappings(&self, tables: &[Table]) -> Result<(), LpmError> {
        let sizes = &self.sizes;
        let name = format!("memory/{} mappings", sizes.mappings_name);
        let cases = [(sizes.sets, name.clone()), (sizes.mappings.iter().sum(), format!("{name}, all sets distinct"))];
        if !cases.iter().any(|(_, case)| self.wants(case)) {
            return Ok(());
        }
        let mut prefixes: Vec<Prefix> = Vec::new();
        for (family, count) in Family::ALL.into_iter().zip(sizes.mappings) {
            let table = tables.iter().find(|table| table.family == family).cloned();
            let table = table.map_or_else(|| Table::usual(family), Ok)?;
            let Some(table) = table.resized(count, "mappings") else {
                self.skip(&format!("{name}: the table has no room for more-specifics"));
                return Ok(());
            };
            prefixes.extend(table.prefixes);
        }
        Random::new(0x3a9).shuffle(&mut prefixes);
        for (sets, case) in cases {
            if self.wants(&case) {
                self.progress(&format!("{case}: {} prefixes, {sets} locator-sets", prefixes.len()));
                self.occupied(&case, &prefixes, sets)?;
            }
        }
        Ok(())
    }

    fn occupied(&self, case: &str, prefixes: &[Prefix], sets: usize) -> Result<(), LpmError> {
        let pairs = distinct_pairs(sets);
        let before = resident();
        let (mut writer, _readers) = cache::new(prefixes.len(), 1);
        let mut made: Vec<Option<SetId>> = vec![None; sets];
        let mut random = Random::new(0x5e7);
        for (index, prefix) in prefixes.iter().enumerate() {
            // Each set is used by someone.
            let set = if index < sets { index } else { random.below(sets) };
            let id = match made[set] {
                Some(id) => id,
                None => {
                    let (members, choice) = pair(pairs[set]);
                    *made[set].insert(writer.add_set(&members, &choice)?)
                }
            };
            writer.insert(eid(*prefix), Forwarding::Encapsulate(id))?;
            if index % GROUP == 0 {
                writer.publish();
            }
        }
        writer.publish();
        let grown = resident().saturating_sub(before + 4 * sets);
        let octets = writer.octets();
        let parts = [("trie", octets.trie), ("values", octets.values), ("records", octets.records)];
        let per_mapping = |octets: usize| octets as f64 / prefixes.len() as f64;
        self.figure(case.to_owned(), "altitude", per_mapping(octets.total()), "octets/mapping");
        for (part, octets) in parts.into_iter().chain([("counters", octets.counters), ("resident", grown)]) {
            self.figure(format!("{case}/{part}"), "altitude", per_mapping(octets), "octets/mapping");
        }
        Ok(())
    }
}

/// Pairs of RLOCs, no two alike.
fn distinct_pairs(count: usize) -> Vec<[u32; 2]> {
    let mut random = Random::new(0x9a12);
    let mut known = HashSet::with_capacity(count);
    while known.len() < count {
        let [first, second] = [random.below(RLOCS) as u32, random.below(RLOCS) as u32];
        if first != second {
            known.insert([first.min(second), first.max(second)]);
        }
    }
    known.into_iter().collect()
}

/// Of this process, octets; 0 where the kernel does not say.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}
