//! `[pubsub]`.

use super::*;

const KEY: &str = "key = { secret = \"of all\" }\n";
const SITES: &str = "[[site]]\nname = \"one\"\neid-prefixes = [\"2.2.0.0/16\"]\nkey = { secret = \"of one\" }\n";

fn config(text: &str) -> Config {
    read(&format!("map-resolvers = [\"240.0.254.40\"]\n{SITE}{text}")).unwrap()
}

/// PS-9, SEC-13: with LISP-SEC no key need be shared beforehand, and strictness wants it on both sides.
#[test]
fn lisp_sec_stands_in_for_shared_keys() {
    let asking = "[lisp-sec]\nkey = { secret = \"with resolvers\" }\n";
    let client = "[[lisp-sec.client]]\nkey = { secret = \"with itrs\" }\n";
    let own = config(&format!("[pubsub]\nsubscribe = \"lookups\"\n{asking}")).pubsub.subscribe.unwrap();
    assert!(own.keys.is_empty() && own.lookups);
    let all = config(&format!("[pubsub]\npublish = true\n{client}{SITES}")).pubsub.publish.unwrap();
    assert_eq!((all.peers.len(), all.peers[0].xtr_id, all.peers[0].keys.len()), (1, None, 0), "whoever may ask");
    let id = "000102030405060708090a0b0c0d0e0f";
    let named = format!("[pubsub]\npublish = true\n[[pubsub.subscriber]]\nxtr-id = \"{id}\"\n{client}{SITES}");
    let problems = read(&format!("map-resolvers = [\"240.0.254.40\"]\n{SITE}{named}")).unwrap_err().to_string();
    assert!(problems.contains("has no key") && problems.contains("an xTR-ID proves nothing"), "{problems}");
    let strict = "[lisp-sec]\nstrict = true\n";
    for (text, remedy) in [
        (format!("[pubsub]\nsubscribe = \"lookups\"\n{KEY}{strict}"), "to [lisp-sec], shared with the"),
        (
            format!("[pubsub]\npublish = true\n{KEY}{strict}key = {{ secret = \"r\" }}\n{SITES}"),
            "add [[lisp-sec.client]] with a key",
        ),
    ] {
        let before = "map-resolvers = [\"240.0.254.40\"]\nresolver = \"off\"\n";
        let problems = read(&format!("{before}{SITE}{text}")).unwrap_err();
        assert!(problems.to_string().contains(remedy), "{text}: {problems}");
    }
}

/// Nothing is subscribed to and nobody can subscribe, unless it is switched on.
#[test]
fn pubsub_is_off_by_default() {
    assert_eq!(config("").pubsub, PubSub::default());
    assert_eq!(config(&format!("[pubsub]\nsubscribe = \"off\"\n{KEY}{SITES}")).pubsub, PubSub::default());
}

#[test]
fn a_subscriber_and_a_publisher_with_all_there_is() {
    let named =
        "[[pubsub.subscriber]]\nxtr-id = \"000102030405060708090a0b0c0d0e0f\"\neid-prefixes = [\"2.0.0.0/8\"]\n";
    let own =
        "[[pubsub.subscriber]]\nxtr-id = \"ff0102030405060708090a0b0c0d0e0f\"\nkey = { id = 7, secret = \"own\" }\n";
    let tuned = "max-subscriptions = 10\nmax-subscribers = 20\nnotify-rate = 500\ntemporary = 30\n";
    let on = "subscribe = \"lookups\"\nprefixes = [\"9.0.0.0/8\"]\ninstance = 5\npublish = true\n";
    let PubSub { subscribe, publish } = config(&format!("[pubsub]\n{on}{tuned}{KEY}{named}{own}{SITES}")).pubsub;
    let subscribe = subscribe.unwrap();
    assert_eq!((subscribe.lookups, subscribe.fixed[0].to_string().as_str()), (true, "[5]9.0.0.0/8"));
    assert_eq!((subscribe.keys.len(), subscribe.max), (1, 10));
    let publish = publish.unwrap();
    let [first, second] = &publish.peers[..] else { panic!("{publish:?}") };
    assert_eq!((first.xtr_id.unwrap()[15], first.keys == subscribe.keys, first.eids.len()), (15, true, 1));
    assert_eq!((second.keys[0].id, second.eids.len()), (7, 0));
    assert_eq!((publish.each_max, publish.all_max, publish.temporary_minutes), (10, 20, 30));
    assert_eq!((publish.pace.burst, publish.pace.every.as_micros()), (50, 2000));
    let all = config(&format!("[pubsub]\npublish = true\n{KEY}{SITES}")).pubsub.publish.unwrap();
    assert_eq!((all.peers.len(), all.peers[0].xtr_id), (1, None), "whoever has the key");
}

#[test]
fn each_mistake_of_pubsub_has_its_remedy() {
    let with = "map-resolvers = [\"240.0.254.40\"]\n";
    let id = "xtr-id = \"000102030405060708090a0b0c0d0e0f\"\n";
    let cases = [
        (with, "subscribe = \"all\"".to_owned(), "write one of lookups, off"),
        (with, "subscribe = \"lookups\"".to_owned(), "add key = { secret-file"),
        ("", format!("subscribe = \"lookups\"\n{KEY}"), "add --map-resolver ADDR"),
        (with, format!("prefixes = [\"1.1.2.0/24\"]\n{KEY}"), "take it away: the site's mappings are known here"),
        (with, format!("publish = true\n{KEY}"), "add a [[site]] with a key"),
        (with, format!("publish = true\n{SITES}"), "add key = { secret-file = \"PATH\" } to [pubsub], or"),
        (with, format!("publish = true\nnotify-rate = 0\n{KEY}{SITES}"), "give 1 to 1000000"),
        (
            with,
            format!("publish = true\n[[pubsub.subscriber]]\n{id}{SITES}"),
            "add key = { secret-file = \"PATH\" } to it",
        ),
        (with, format!("publish = true\n{KEY}[[pubsub.subscriber]]\nxtr-id = \"1\"\n{SITES}"), "write all 32"),
        (
            with,
            format!("publish = true\n{KEY}[[pubsub.subscriber]]\n{id}[[pubsub.subscriber]]\n{id}{SITES}"),
            "keep one, with all its keys",
        ),
        (with, "colour = 7".to_owned(), "subscribe"),
    ];
    for (before, text, remedy) in cases {
        let problems = read(&format!("{before}{SITE}[pubsub]\n{text}")).unwrap_err();
        assert!(problems.to_string().contains(remedy), "{text}: {problems}");
    }
    assert!(config(&format!("[pubsub]\n{KEY}")).warnings[0].to_string().contains("keys that nobody uses"));
}
