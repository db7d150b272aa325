//! `[rloc-probing]` and `--rloc-probing`.

use std::time::Duration;

use super::*;
use crate::config::flags;

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn with(text: &str) -> Option<prober::Settings> {
    read(&format!("{SITE}{text}")).unwrap().probing
}

#[test]
fn probing_is_on_unless_it_is_switched_off() {
    let defaults = with("").unwrap();
    assert_eq!((defaults.interval, defaults.failover_interval), (seconds(30), seconds(3)));
    assert_eq!((defaults.retries, defaults.retry_interval, defaults.hold_down), (3, seconds(2), seconds(60)));
    assert!(defaults.families.v4 && !defaults.families.v6, "of the RLOCs");
    assert_eq!(with("[rloc-probing]\ninterval = 0"), None);
    let all = "[rloc-probing]\ninterval = 60\nfailover-interval = 5\nretries = 1\nretry-interval = 4\nhold-down = 0";
    let all = with(all).unwrap();
    assert_eq!((all.interval, all.failover_interval, all.retries), (seconds(60), seconds(5), 1));
    assert_eq!((all.retry_interval, all.hold_down), (seconds(4), seconds(0)));
    // Who probes more often than every 3 s does so everywhere.
    assert_eq!(with("[rloc-probing]\ninterval = 2").unwrap().failover_interval, seconds(2));
}

#[test]
fn the_flag_wins_over_the_interval_of_the_file_and_leaves_the_rest() {
    assert_eq!((flags::probing("off"), flags::probing("7")), (Ok(0), Ok(7)));
    assert_eq!(flags::probing("often").unwrap_err(), "the interval is a number, not 'often'; or write off");
    let flag = |text: &str| ProbingDraft {
        interval: Some(Given::by_flag(flags::probing(text).unwrap(), format!("--rloc-probing {text}"))),
        ..ProbingDraft::default()
    };
    let file = format!("{SITE}[rloc-probing]\ninterval = 60\nretries = 1");
    let read = |text: &str| {
        let draft = Draft { probing: flag(text), ..Draft::default() };
        parse(Path::new("x.toml"), &file, draft, &Machine { cores: FOUR_CORES.to_vec() }).unwrap().probing
    };
    assert_eq!(read("off"), None);
    let probing = read("10").unwrap();
    assert_eq!((probing.interval, probing.retries), (seconds(10), 1));
}

#[test]
fn each_mistake_is_told() {
    for (text, said) in [
        ("interval = 3601", "x.toml:9: interval 3601 is out of range"),
        ("failover-interval = 0", "x.toml:9: failover-interval 0 is out of range"),
        ("retries = 21", "x.toml:9: retries 21 is out of range"),
        ("retry-interval = 0", "x.toml:9: retry-interval 0 is out of range"),
        ("hold-down = -1", "x.toml:9: hold-down -1 is out of range"),
        ("intervall = 3", "x.toml:9: unknown field `intervall` in [rloc-probing]"),
        ("interval = 5\nfailover-interval = 6", "x.toml:10: failover-interval 6 is longer than the interval of 5"),
    ] {
        let found = problems(&format!("{SITE}[rloc-probing]\n{text}"));
        assert!(found.iter().any(|problem| problem.starts_with(said)), "\n{said}\nis not among\n{found:#?}");
    }
}
