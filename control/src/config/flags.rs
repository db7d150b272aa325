//! The values of the flags that name more than one thing; what [`Draft`](super::Draft) lists are made of.
//!
//! The form alone is checked here (a mistake is one of usage); the meaning is checked together with the file.

use super::{
    EidPrefixDraft, Given, KeyDraft, MapServerDraft, NeighborDraft, PitrPrefixDraft, PortDraft, RibDraft, RouteDraft,
    TunnelDraft,
};

/// `--site-port IF[:IID]`.
///
/// # Errors
/// What to write instead.
pub fn site_port(text: &str) -> Result<PortDraft, String> {
    port("--site-port", text)
}

/// `--native-port IF[:IID]`.
///
/// # Errors
/// What to write instead.
pub fn native_port(text: &str) -> Result<PortDraft, String> {
    port("--native-port", text)
}

fn port(flag: &str, text: &str) -> Result<PortDraft, String> {
    let flag = || format!("{flag} {text}");
    let (name, instance) = match text.split_once(':') {
        None => (text, None),
        Some((name, instance)) => (name, Some(Given::by_flag(number("the Instance-ID", instance)?, flag()))),
    };
    Ok(PortDraft { name: Given::by_flag(filled("an interface name", name)?, flag()), instance })
}

/// `--core-port IF`.
///
/// # Errors
/// What to write instead.
pub fn core_port(text: &str) -> Result<PortDraft, String> {
    let name = Given::by_flag(filled("an interface name", text)?, format!("--core-port {text}"));
    Ok(PortDraft { name, instance: None })
}

/// `--eid-prefix PREFIX[,instance=N][,ttl=MINUTES][,version=N]`.
///
/// # Errors
/// What to write instead.
pub fn eid_prefix(text: &str) -> Result<EidPrefixDraft, String> {
    let flag = || format!("--eid-prefix {text}");
    let (prefix, options) = split(text);
    let prefix = Given::by_flag(filled("a prefix", prefix)?, flag());
    let mut draft = EidPrefixDraft { prefix, instance: None, ttl: None, version: None, locators: None };
    for (key, value) in options {
        match (key, value) {
            ("instance", Some(value)) => draft.instance = Some(Given::by_flag(number("instance", value)?, flag())),
            ("ttl", Some(value)) => draft.ttl = Some(Given::by_flag(number("ttl", value)?, flag())),
            ("version", Some(value)) => draft.version = Some(Given::by_flag(number("version", value)?, flag())),
            _ => return Err(unknown(key, "instance=N, ttl=MINUTES, version=N")),
        }
    }
    Ok(draft)
}

/// `--pitr-prefix PREFIX[,instance=N]`.
///
/// # Errors
/// What to write instead.
pub fn pitr_prefix(text: &str) -> Result<PitrPrefixDraft, String> {
    let flag = || format!("--pitr-prefix {text}");
    let (prefix, options) = split(text);
    let mut draft = PitrPrefixDraft { prefix: Given::by_flag(filled("a prefix", prefix)?, flag()), instance: None };
    for (key, value) in options {
        match (key, value) {
            ("instance", Some(value)) => draft.instance = Some(Given::by_flag(number("instance", value)?, flag())),
            _ => return Err(unknown(key, "instance=N")),
        }
    }
    Ok(draft)
}

/// `--alt-tunnel NAME,remote=ADDR[,local=ADDR][,key=N][,checksum][,address=ADDR/LEN]...` and what else a tunnel can have.
///
/// # Errors
/// What to write instead.
pub fn tunnel(text: &str) -> Result<TunnelDraft, String> {
    let flag = || format!("--alt-tunnel {text}");
    let (name, options) = split(text);
    let name = Given::by_flag(filled("a tunnel name", name)?, flag());
    let (mut remote, mut local, mut key, mut checksum, mut addresses) = (None, None, None, None, Vec::new());
    let (mut ingress_rate, mut keepalive, mut keepalive_losses, mut kernel) = (None, None, None, None);
    for (option, value) in options {
        match (option, value) {
            ("remote", Some(value)) => remote = Some(Given::by_flag(value.to_owned(), flag())),
            ("local", Some(value)) => local = Some(Given::by_flag(value.to_owned(), flag())),
            ("key", Some(value)) => key = Some(Given::by_flag(number("key", value)?, flag())),
            ("checksum", None) => checksum = Some(Given::by_flag(true, flag())),
            ("address", Some(value)) => addresses.push(Given::by_flag(value.to_owned(), flag())),
            ("ingress-rate", Some(value)) => {
                ingress_rate = Some(Given::by_flag(number("ingress-rate", value)?, flag()));
            }
            ("keepalive", Some(value)) => keepalive = Some(Given::by_flag(number("keepalive", value)?, flag())),
            ("keepalive-losses", Some(value)) => {
                keepalive_losses = Some(Given::by_flag(number("keepalive-losses", value)?, flag()));
            }
            ("kernel", None) => kernel = Some(Given::by_flag(true, flag())),
            _ => {
                let known = "remote=ADDR, local=ADDR, key=N, checksum, address=ADDR/LEN, ingress-rate=N, keepalive=SEC, \
                             keepalive-losses=N, kernel";
                return Err(unknown(option, known));
            }
        }
    }
    let remote = remote.ok_or("the far end is missing: add ,remote=ADDR")?;
    Ok(TunnelDraft { name, remote, local, key, checksum, addresses, ingress_rate, keepalive, keepalive_losses, kernel })
}

/// `--alt-route PREFIX=TUNNEL|discard[,instance=N][,announce]`.
///
/// # Errors
/// What to write instead.
pub fn route(text: &str) -> Result<RouteDraft, String> {
    let flag = || format!("--alt-route {text}");
    let (route, options) = split(text);
    let (prefix, via) = route.split_once('=').ok_or("write PREFIX=TUNNEL or PREFIX=discard")?;
    let mut draft = RouteDraft {
        prefix: Given::by_flag(filled("a prefix", prefix)?, flag()),
        via: Given::by_flag(filled("a tunnel name", via)?, flag()),
        instance: None,
        announce: None,
    };
    for (key, value) in options {
        match (key, value) {
            ("instance", Some(value)) => draft.instance = Some(Given::by_flag(number("instance", value)?, flag())),
            ("announce", None) => draft.announce = Some(Given::by_flag(true, flag())),
            _ => return Err(unknown(key, "instance=N, announce")),
        }
    }
    Ok(draft)
}

/// `--alt-rib [INSTANCE=]SOURCE`.
///
/// # Errors
/// What to write instead.
pub fn rib(text: &str) -> Result<RibDraft, String> {
    let flag = || format!("--alt-rib {text}");
    // `netlink:table=N` has an equals sign of its own.
    let (instance, source) = match text.split_once('=') {
        Some((instance, source)) if !instance.contains(':') => {
            (Some(Given::by_flag(number("the Instance-ID", instance)?, flag())), source)
        }
        _ => (None, text),
    };
    Ok(RibDraft { instance, source: Given::by_flag(filled("a source", source)?, flag()) })
}

/// What `--alt-neighbor` takes beside the address.
const NEIGHBOR_OPTIONS: &str = "as=N, name=TEXT, instance=N, password-file=PATH, ttl-security, hold=SECONDS, \
    connect-retry=SECONDS, advertisement-interval=SECONDS, passive, max-prefixes=N, graceful-restart=BOOL, dampening, \
    default-originate";

/// `--alt-neighbor ADDR,as=N[,option]...`.
///
/// # Errors
/// What to write instead.
pub fn neighbor(text: &str) -> Result<NeighborDraft, String> {
    let flag = || format!("--alt-neighbor {text}");
    let (address, options) = split(text);
    let options: Vec<_> = options.collect();
    let asn = options.iter().find(|(option, _)| *option == "as").and_then(|(_, value)| *value);
    let asn = number("as", asn.ok_or("the neighbour's AS is missing: add ,as=N")?)?;
    let address = Given::by_flag(filled("an address", address)?, flag());
    let mut draft = NeighborDraft::new(address, Given::by_flag(asn, flag()));
    let count = |option: &str, value: &str| number(option, value).map(|value| Some(Given::by_flag(value, flag())));
    let text = |value: &str| Some(Given::by_flag(value.to_owned(), flag()));
    let yes = || Some(Given::by_flag(true, flag()));
    for (option, value) in options {
        match (option, value) {
            ("as", _) => {}
            ("name", Some(value)) => draft.name = text(value),
            ("instance", Some(value)) => draft.instance = count(option, value)?,
            ("password-file", Some(value)) => draft.password_file = text(value),
            ("password", _) => return Err("whoever lists processes reads it here: write password-file=PATH".to_owned()),
            ("ttl-security", None) => draft.ttl_security = yes(),
            ("hold", Some(value)) => draft.hold = count(option, value)?,
            ("connect-retry", Some(value)) => draft.connect_retry = count(option, value)?,
            ("advertisement-interval", Some(value)) => draft.advertisement_interval = count(option, value)?,
            ("passive", None) => draft.passive = yes(),
            ("max-prefixes", Some(value)) => draft.max_prefixes = count(option, value)?,
            ("graceful-restart", Some(value)) => {
                let value = value.parse().map_err(|_| "graceful-restart is true or false")?;
                draft.graceful_restart = Some(Given::by_flag(value, flag()));
            }
            ("dampening", None) => draft.dampening = yes(),
            ("default-originate", None) => draft.default_originate = yes(),
            _ => return Err(unknown(option, NEIGHBOR_OPTIONS)),
        }
    }
    Ok(draft)
}

/// `--map-server ADDR,key-file=PATH[,option]...`.
///
/// # Errors
/// What to write instead.
pub fn map_server(text: &str) -> Result<MapServerDraft, String> {
    let flag = || format!("--map-server {text}");
    let (address, options) = split(text);
    let address = Given::by_flag(filled("an address", address)?, flag());
    let (mut key, mut proxy, mut merge, mut legacy) = (KeyDraft::default(), None, None, Vec::new());
    for (option, value) in options {
        match (option, value) {
            ("key-file", Some(value)) => key.secret_file = Some(Given::by_flag(value.to_owned(), flag())),
            ("key" | "secret", _) => {
                return Err("whoever lists processes reads it here: write key-file=PATH".to_owned());
            }
            ("key-id", Some(value)) => key.id = Some(Given::by_flag(number("key-id", value)?, flag())),
            ("algorithm", Some(value)) => key.algorithm = Some(Given::by_flag(value.to_owned(), flag())),
            ("proxy", None) => proxy = Some(Given::by_flag(true, flag())),
            ("merge", None) => merge = Some(Given::by_flag(true, flag())),
            ("legacy", Some(value)) => legacy.push(Given::by_flag(value.to_owned(), flag())),
            _ => {
                let known = "key-file=PATH, key-id=N, algorithm=NAME, proxy, merge, legacy=SWITCH";
                return Err(unknown(option, known));
            }
        }
    }
    if key.secret_file.is_none() {
        return Err("the key shared with it is missing: add ,key-file=PATH".to_owned());
    }
    Ok(MapServerDraft { address, key: Some(key), keys: None, proxy, merge, legacy: Some(legacy) })
}

/// `--rloc-probing off|SECONDS`: 0 is off.
///
/// # Errors
/// What to write instead.
pub fn probing(text: &str) -> Result<i64, String> {
    if text == "off" { Ok(0) } else { number("the interval", text).map_err(|error| format!("{error}; or write off")) }
}

/// What stands before the first comma, and the options after it.
fn split(text: &str) -> (&str, impl Iterator<Item = (&str, Option<&str>)>) {
    let mut parts = text.split(',');
    let first = parts.next().unwrap_or_default();
    (first, parts.map(|part| part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)))))
}

fn filled(what: &str, text: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("{what} is missing")) } else { Ok(text.to_owned()) }
}

fn number(what: &str, text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{what} is a number, not '{text}'"))
}

fn unknown(option: &str, known: &str) -> String {
    format!("'{option}' is no option here: the options are {known}")
}
