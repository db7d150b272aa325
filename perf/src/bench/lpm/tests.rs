//! Whether the references answer right, and whether tables and traffic have the shape they promise.

use std::{collections::BTreeMap, fs, time::Duration};

use altitude_dataplane::mapping::Prefix;

use super::{
    altitude::Altitude,
    dir24::Dir24,
    dpdk::Dpdk,
    model::{Model, NONE},
    subject::Subject,
    table::{LENGTHS4, LENGTHS6},
    traffic::Queries,
    *,
};

const BATCHES: [usize; 4] = [1, 8, 32, 64];

/// Prefixes of all lengths, hosts, and a default route or none.
fn mixed(default_route: bool) -> Table {
    let table = Table::generated(Family::V4, 100);
    let hosts = Table::hosts(Family::V4, 3000);
    let all = default_route.then(|| "0.0.0.0/0".parse().unwrap());
    Table { prefixes: table.prefixes.iter().chain(&hosts.prefixes).copied().chain(all).collect(), ..table }
}

fn expected(model: &Model, queries: &Queries) -> Vec<u32> {
    queries.addresses(queries.len()).into_iter().map(|address| model.find(address)).collect()
}

/// Right answers pass in every batch and pattern; one wrong one does not.
fn answers_right(subject: &mut dyn Subject, table: &Table) {
    let model = Model::new(&table.prefixes);
    for pattern in Pattern::ALL {
        let queries = pattern.queries(table, &model, 1 << 13);
        let mut expected = expected(&model, &queries);
        subject.take(&queries).unwrap();
        for batch in BATCHES {
            subject.verify(batch, &expected).unwrap_or_else(|error| panic!("{pattern:?}, b{batch}: {error}"));
            assert!(subject.round(batch, Duration::from_micros(100)).unwrap() > 0.0);
        }
        expected[77] = if expected[77] == 5 { 6 } else { 5 };
        for batch in BATCHES {
            assert!(subject.verify(batch, &expected).is_err(), "a wrong answer of {} goes unseen", subject.name());
        }
    }
}

#[test]
fn dir_24_8_answers_as_the_model_does() {
    for (huge, default_route) in [(false, false), (true, true)] {
        let table = mixed(default_route);
        answers_right(&mut Dir24::new(&table.prefixes, huge).unwrap(), &table);
    }
}

#[test]
fn altitude_answers_as_the_model_does() {
    for table in [mixed(true), Table::hosts(Family::V6, 2000), Table::generated(Family::V6, 100)] {
        answers_right(&mut Altitude::new(&table).unwrap(), &table);
    }
}

#[test]
fn rte_lpm_answers_as_the_model_does_whether_added_to_or_filled() {
    let program = match Program::compile() {
        Ok(program) => program,
        Err(why) => return println!("SKIP: {why}"),
    };
    let core = core_affinity::get_core_ids().and_then(|cores| cores.last().copied()).map_or(0, |core| core.id);
    let table = mixed(false);
    for direct in [false, true] {
        answers_right(&mut Dpdk::start_filled(&program, core, &table, direct).unwrap(), &table);
    }
    let table = Table::generated(Family::V6, 100);
    answers_right(&mut Dpdk::start(&program, core, &table).unwrap(), &table);
}

#[test]
fn generated_tables_have_the_real_ones_lengths_and_nesting() {
    // The six /128 of IPv6 are kept apart.
    for (family, lengths, total) in
        [(Family::V4, LENGTHS4.as_slice(), 901_899), (Family::V6, LENGTHS6.as_slice(), 160_147 - 6)]
    {
        assert_eq!(lengths.iter().map(|(_, count)| count).sum::<usize>(), total);
        let table = Table::generated(family, 20);
        let mut counts = BTreeMap::new();
        for prefix in &table.prefixes {
            *counts.entry(prefix.length()).or_insert(0_usize) += 1;
        }
        counts.remove(&128);
        let wanted = lengths.iter().map(|(length, count)| (*length, count.div_ceil(20))).collect();
        assert_eq!(counts, wanted, "{family:?}");
        let depths = Model::new(&table.prefixes).depths();
        let nested = depths.iter().filter(|depth| **depth > 0).count() as f64 / depths.len() as f64;
        assert!((0.45..0.6).contains(&nested), "{family:?}: {nested} nested");
    }
}

#[test]
fn tables_grow_by_more_specifics_and_shrink_to_a_part() {
    let table = Table::generated(Family::V4, 500);
    let count = table.prefixes.len();
    let part = table.resized(100, "part").unwrap();
    assert_eq!(part.prefixes, table.prefixes[..100]);
    let more = table.resized(2 * count, "more").unwrap();
    assert_eq!(more.prefixes.iter().collect::<std::collections::HashSet<_>>().len(), 2 * count);
    let inside = |prefix| table.prefixes.iter().any(|shorter| shorter.covers(prefix));
    assert!(more.prefixes[count..].iter().all(inside), "a more-specific of nothing");
    assert!(Table::hosts(Family::V4, 10).resized(11, "none").is_none(), "more-specifics of hosts");
}

#[test]
fn hosts_are_clustered() {
    for (family, subnet, at_least) in [(Family::V4, 24, 60), (Family::V6, 64, 90)] {
        let hosts = Table::hosts(family, 4000).prefixes;
        assert_eq!(hosts.len(), 4000);
        assert!(hosts.iter().all(Prefix::is_host));
        let nets: std::collections::HashSet<_> =
            hosts.iter().map(|host| Prefix::new(host.address(), subnet).unwrap()).collect();
        assert!(hosts.len() / nets.len() >= at_least, "{family:?}: {} subnets", nets.len());
    }
}

#[test]
fn files_are_read_plain_and_zipped_and_wrong_lines_named() {
    let folder = std::env::temp_dir().join(format!("altitude-perf-tables-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let text = "# a comment\n10.0.0.0/8\n\n2001:db8::/32\n10.1.0.0/16\n10.0.0.0/8\n";
    fs::write(folder.join("plain"), text).unwrap();
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(text.as_bytes()).unwrap();
    fs::write(folder.join("zipped.gz"), zipped.finish().unwrap()).unwrap();
    for name in ["plain", "zipped.gz"] {
        let tables = Table::file(&folder.join(name)).unwrap();
        let counts: Vec<_> = tables.iter().map(|table| (table.family, table.prefixes.len())).collect();
        assert_eq!(counts, [(Family::V4, 2), (Family::V6, 1)], "{name}");
    }
    fs::write(folder.join("wrong"), "10.0.0.0/8\n10.0.0.0/33\n").unwrap();
    let error = Table::file(&folder.join("wrong")).unwrap_err().to_string();
    assert!(error.contains("wrong:2:") && error.contains("33"), "{error}");
    assert!(Table::file(&folder.join("absent")).is_err());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn traffic_hits_what_it_says() {
    let table = Table::generated(Family::V4, 100);
    let model = Model::new(&table.prefixes);
    let longest = |pattern: Pattern| {
        let queries = pattern.queries(&table, &model, 1 << 12);
        let found = expected(&model, &queries);
        let hit: Vec<u8> = found.iter().filter(|i| **i != NONE).map(|i| table.prefixes[*i as usize].length()).collect();
        (hit.len(), hit.iter().map(|length| usize::from(*length)).sum::<usize>() as f64 / hit.len() as f64)
    };
    let (uniform, _) = longest(Pattern::Uniform);
    let (rand, mean) = longest(Pattern::Rand);
    let (zipf, _) = longest(Pattern::Zipf);
    let (worst, deepest) = longest(Pattern::Worst);
    assert_eq!([rand, zipf, worst], [1 << 12; 3], "drawn from prefixes and not found");
    assert!(uniform < 1 << 12, "every address is in some prefix");
    assert!(deepest > mean, "worst {deepest}, random {mean}");
}
