//! What is printed, and what the command line makes of its arguments.

use std::time::{Duration, UNIX_EPOCH};

use altitude_control::api::{Entry, Event, Filter, Method, MissReason, Offer, Op, Origin, client::Told};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Mapping, Ttl};
use clap::Parser;

use super::{monitor::*, *};
use crate::cli::{Cli, Command};

fn parsed(arguments: &[&str]) -> Result<Map, clap::Error> {
    Cli::try_parse_from(["altitude", "map"].iter().chain(arguments)).map(|cli| match cli.command {
        Command::Map(map) => map,
        other => panic!("{other:?} is not map"),
    })
}

fn asked(arguments: &[&str]) -> Operation {
    operation(&parsed(arguments).unwrap().what).1
}

fn eid(text: &str, instance: u32) -> EidPrefix {
    EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix: text.parse().unwrap() }
}

#[test]
fn arguments_become_operations() {
    let add = asked(&["add", "[5]10.0.0.0/8", "240.0.254.20,2,60", "2001:db8::20", "--ttl=90", "--version=7"]);
    let locators = vec![
        Locator::unicast([240, 0, 254, 20].into(), 2, 60),
        Locator::unicast("2001:db8::20".parse().unwrap(), 1, 100),
    ];
    let negative = |eid, action| Mapping::negative(eid, Ttl::ReceiverDecides, action);
    let offer = |mapping| Offer { table: Table::Cache, mapping, life: None, ephemeral: false, foreign: false };
    let mapping = Mapping { version: 7, locators, ..negative(eid("10.0.0.0/8", 5), Action::NoAction) };
    assert_eq!(add, Operation::Add(Offer { life: Some(Duration::from_secs(90)), ..offer(mapping) }));
    let hole = offer(negative(eid("8.0.0.0/8", 0), Action::NativelyForward));
    let change = asked(&["change", "8.0.0.0/8", "--action", "natively-forward", "--since", "9"]);
    assert_eq!(change, Operation::Change { offer: hole, unless_after: Some(9) });
    let delete = Operation::Delete { table: Table::Cache, eid: eid("8.0.0.0/8", 0), unless_after: None };
    assert_eq!((asked(&["del", "8.0.0.0/8"]), asked(&["delete", "8.0.0.0/8"])), (delete.clone(), delete));
    let own = asked(&["add", "1.9.0.0/16", "240.0.254.11", "--database", "--foreign"]);
    let Operation::Add(Offer { table: Table::Database, foreign: true, .. }) = own else { panic!("{own:?}") };
    let own = asked(&["del", "1.9.0.0/16", "--database"]);
    assert!(matches!(own, Operation::Delete { table: Table::Database, .. }), "{own:?}");
    let flush = |instance, all| Operation::Flush { table: Table::Cache, instance, all };
    assert_eq!(asked(&["flush"]), flush(None, false));
    assert_eq!(asked(&["flush", "--instance=3", "--all"]), flush(InstanceId::new(3), true));
    let own = Operation::Flush { table: Table::Database, instance: None, all: false };
    assert_eq!(asked(&["flush", "--database"]), own);
    let locator = Judged::Locator([240, 0, 254, 20].into());
    assert_eq!(asked(&["badreach", "240.0.254.20"]), Operation::Judge { judged: locator, up: false });
    let judged = Judged::Mapping(eid("2.2.2.2/32", 0));
    assert_eq!(asked(&["reach", "--eid", "2.2.2.2"]), Operation::Judge { judged, up: true });
    let MapCommand::Monitor { only, eid: within, .. } =
        parsed(&["monitor", "--only=miss,add", "--eid=2.0.0.0/8"]).unwrap().what
    else {
        panic!("not monitor")
    };
    let wanted = Filter {
        prefix: Some("2.0.0.0/8".parse().unwrap()),
        instance: InstanceId::new(0),
        ..Filter::of(&[Op::MISS, Op::ADD])
    };
    assert_eq!(filter(&only, within), wanted);
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for arguments in [
        &["add", "2.2.0.0/16"][..],
        &["add", "2.2.0.0/16", "240.0.254.20", "--action=drop"],
        &["add", "2.2.0.0/16", "240.0.254.20,300"],
        &["add", "2.2.0.0/16", "240.0.254.20,1,2,3"],
        &["add", "2.2.0.0/16", "240.0.254.20", "--ttl=0"],
        &["add", "2.2.0.0/16", "240.0.254.20", "--foreign"],
        &["add", "2.2.0.0/16", "--action=drop", "--database"],
        &["apply"],
        &["add", "2.2.0.0/16", "240.0.254.20", "--version=4096"],
        &["reach"],
        &["reach", "240.0.254.20", "--eid=2.2.2.2"],
        &["flush", "--instance=16777216"],
        &["flush", "--database", "--all"],
        &["monitor", "--only=everything"],
        &["get"],
    ] {
        assert!(parsed(arguments).is_err(), "{arguments:?}");
    }
}

fn entry() -> Entry {
    let locators = vec![
        Locator::unicast([240, 0, 254, 20].into(), 1, 60),
        Locator::unicast("2001:db8::20".parse().unwrap(), 2, 40),
    ];
    let mapping =
        Mapping { locators, ..Mapping::negative(eid("2.2.0.0/16", 0), Ttl::ReceiverDecides, Action::NoAction) };
    Entry::new(Table::Cache, &mapping, Origin::Api, UNIX_EPOCH, |rloc| rloc.is_ipv4())
}

fn events() -> Vec<Event> {
    let hole = Mapping::negative(eid("8.0.0.0/8", 7), Ttl::Minutes(1), Action::Drop);
    let judged = |up, method, state, rtt| Event::Judged { locator: [240, 0, 254, 20].into(), up, method, state, rtt };
    vec![
        Event::Added(entry()),
        Event::Changed(Entry::new(Table::Cache, &hole, Origin::Static, UNIX_EPOCH, |_| false)),
        Event::Deleted { table: Table::Cache, eid: eid("2.2.0.0/16", 0), expired: true },
        Event::Flushed { table: Table::Cache, instance: InstanceId::new(7), all: true },
        Event::Missed {
            eid: eid("2.2.2.2/32", 0),
            reason: MissReason::NoEntry,
            suppressed: 3,
            from: Some([1, 1, 1, 1].into()),
            packet: Vec::new(),
        },
        judged(true, Method::Probe, "up", Some(Duration::from_micros(1500))),
        judged(false, Method::Admin, "unknown", None),
    ]
}

fn told(event: Event) -> Told {
    Told { number: 9, overrun: false, event }
}

#[test]
fn events_stand_in_columns_for_people() {
    let time = clock(UNIX_EPOCH + Duration::from_millis(86_400_000 + 3_661_007));
    let text: String = events().into_iter().map(|event| lines(&told(event), &time)).collect();
    assert_eq!(
        text,
        "01:01:01.007  add       2.2.0.0/16                api  240.0.254.20 1/60, 2001:db8::20 2/40 (not up)\n\
         01:01:01.007  change    [7]8.0.0.0/8              static  drop\n\
         01:01:01.007  delete    2.2.0.0/16                its time was over\n\
         01:01:01.007  flush     map-cache                 emptied, instance 7, static mappings too\n\
         01:01:01.007  miss      2.2.2.2/32                no-entry  from 1.1.1.1  and 3 before\n\
         01:01:01.007  reach     240.0.254.20              probe  probes say up  rtt 1500 µs\n\
         01:01:01.007  badreach  240.0.254.20              admin  probes say unknown\n"
    );
    let lost = lines(&Told { overrun: true, ..told(events().remove(2)) }, &time);
    assert!(lost.starts_with("01:01:01.007  events were lost: read the tables again\n01:01:01.007  delete"), "{lost}");
}

#[test]
fn events_are_objects_for_programs() {
    let documents: Vec<_> = events().into_iter().map(|event| document(&told(event))).collect();
    assert!(documents.iter().all(|document| document["number"] == 9 && document["overrun"] == false));
    assert_eq!(documents[0]["entry"]["locators"][0]["address"], "240.0.254.20");
    let common = |event: &str| json!({ "event": event, "number": 9, "overrun": false });
    let with = |event: &str, more: serde_json::Value| {
        let mut document = common(event);
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document
    };
    assert_eq!(
        documents[2..],
        [
            with("delete", json!({ "table": "map-cache", "eid": "2.2.0.0/16", "instance": 0, "expired": true })),
            with("flush", json!({ "table": "map-cache", "instance": 7, "all": true })),
            with(
                "miss",
                json!({ "eid": "2.2.2.2/32", "instance": 0, "reason": "no-entry", "suppressed": 3, "from": "1.1.1.1" })
            ),
            with("reach", json!({ "locator": "240.0.254.20", "method": "probe", "state": "up", "rtt": 1500 })),
            with("badreach", json!({ "locator": "240.0.254.20", "method": "admin", "state": "unknown", "rtt": null })),
        ]
    );
}

#[test]
fn changes_say_what_they_did() {
    let done = |entry, count| Performed { generation: 17, entry, count };
    let add = asked(&["add", "2.2.0.0/16", "240.0.254.20"]);
    assert_eq!(said("add", &add, &done(None, 1), false), "added 2.2.0.0/16\n");
    assert_eq!(said("add", &add, &done(None, 1), true), "{\"count\":1,\"done\":\"add\",\"generation\":17}\n");
    let delete = said("del", &asked(&["del", "2.2.0.0/16"]), &done(Some(entry()), 1), false);
    assert!(
        delete.starts_with("took out 2.2.0.0/16, which was\nEID-PREFIX ") && delete.contains("240.0.254.20"),
        "{delete}"
    );
    assert_eq!(said("flush", &asked(&["flush"]), &done(None, 12), false), "took out 12 mappings\n");
    let own = said("flush", &asked(&["flush", "--database"]), &done(None, 1), false);
    assert_eq!(own, "undid 1 change\n");
    assert_eq!(said("x", &asked(&["badreach", "::2"]), &done(None, 1), false), "out of use: 1 locator\n");
}
