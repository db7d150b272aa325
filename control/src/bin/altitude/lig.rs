//! `altitude lig`: asks a Map-Resolver and prints what comes back.
//!
//! The JSON document: `{ "answers": [{ "eid", "instance", "from", "rtt", "request", "records": [{ "eid", "instance", "ttl",
//! "version", "action", "authoritative", "locators": [{ "address", "priority", "weight", "local", "reachable" }…] }…] }…] }`;
//! `rtt` is milliseconds, `ttl` seconds or null where the receiver decides, `action` null where there are locators; `from`, `rtt`
//! and `request` are null where nobody answered. An answer has `lisp-sec` besides: null where it was not asked for, `signed`, or
//! `prefixes-only` where the Map-Server says that an ETR cannot sign; `refused` is why an answer was not believed, or null.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use altitude_control::{
    alt::datagrams::CONTROL_PORT,
    api::{
        Table,
        client::{Client, ClientError},
    },
    config::{self, Machine, Problems},
    fault::Fault,
    lig::{self, Answer, Lig, Output, Proven, Question},
    lisp_sec::{SecurityFault, asking::Asking, keys::SharedKey},
    wire::lisp_sec::Hash,
};
use altitude_dataplane::mapping::{Eid, EidPrefix, Locator, Mapping, Ttl};
use rand_chacha::rand_core::Rng;
use serde_json::{Value, json};

use crate::{cli, driver::nonces, run::RunError, show::table::Columns};

/// Largest Map-Reply, octets.
const MESSAGE_MAX: usize = 65_536;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LigError {
    /// The router that `self` is about.
    #[error(transparent)]
    Router(#[from] ClientError),
    /// No random nonces.
    #[error(transparent)]
    Random(#[from] RunError),
    /// A router without a site.
    #[error("the router on this machine has no EID-prefix: name an EID instead of self")]
    NoPrefix,
    /// No address to ask from.
    #[error("there is no address to ask {0} from: {1}; give one with {2}")]
    NoAddress(IpAddr, io::Error, &'static str),
    /// The source and the EID, or RLOC and Map-Resolver, do not fit.
    #[error("{0} and {1} are of two families: correct {2}")]
    Families(IpAddr, IpAddr, &'static str),
    /// Of the socket.
    #[error("{0}: {1}")]
    Socket(String, io::Error),
    /// The configuration that has the key.
    #[error(transparent)]
    Config(#[from] Problems),
    /// One without a key.
    #[error("{0} has no key for Map-Resolvers: add key = {{ secret-file = \"PATH\" }} to its [lisp-sec]")]
    NoKey(String),
    /// The file with the key.
    #[error(
        "secret file {0} cannot be used: {1}; give the path of a file whose first line is the secret, 1 to 256 octets"
    )]
    Secret(String, String),
    /// Nobody answered.
    #[error(
        "no answer about {0}: is {1} a Map-Resolver that serves {2}, and does it know the EID? \
         {3}"
    )]
    Silence(String, IpAddr, IpAddr, &'static str),
    /// Somebody answered without proof.
    #[error("not believed: the answer about {0}; somebody on the way may be lying, or speaks no LISP-SEC{1}")]
    Unproven(String, String),
    /// Standard output.
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// Asks and prints.
pub(crate) fn lig(arguments: &cli::Lig) -> Result<(), LigError> {
    let eids = match arguments.eid {
        cli::EidOrSelf::Eid(eid) => vec![eid],
        cli::EidOrSelf::Own => own(arguments)?,
    };
    let server = SocketAddr::new(arguments.map_resolver, CONTROL_PORT);
    let rloc = match arguments.rloc {
        None => leaves_from(server).map_err(|error| LigError::NoAddress(server.ip(), error, "--rloc"))?,
        Some(rloc) if rloc.is_ipv4() == server.is_ipv4() => rloc,
        Some(rloc) => return Err(LigError::Families(rloc, server.ip(), "--rloc")),
    };
    let security = security(arguments)?;
    let (mut answers, mut failed) = (Vec::new(), Failed::default());
    for eid in eids {
        let (answer, refused) = ask(arguments, server, rloc, eid, security.clone())?;
        match (&answer, refused) {
            (Some(_), _) => {}
            (None, Some((_, fault))) => failed.unproven.push(format!("{} ({})", text(eid), fault.name())),
            (None, None) => failed.silent.push(text(eid)),
        }
        if !arguments.json {
            print(&table(arguments, eid, answer.as_ref(), refused))?;
        }
        answers.push(document(eid, answer.as_ref(), refused));
    }
    if arguments.json {
        print(&format!("{:#}\n", json!({ "answers": answers })))?;
    }
    let hint = match security {
        Some(_) => "Does it share the key of this question, under the same Key ID?",
        None => "With strict LISP-SEC it takes no question without a key: --lisp-sec-key-file, or --config",
    };
    failed.verdict(server.ip(), rloc, hint)
}

/// The EIDs about which nothing is known.
#[derive(Debug, Default)]
struct Failed {
    /// Nobody answered.
    silent: Vec<String>,
    /// Somebody did without proof; each with what was wrong.
    unproven: Vec<String>,
}

impl Failed {
    /// The error that names them all.
    fn verdict(&self, server: IpAddr, rloc: IpAddr, hint: &'static str) -> Result<(), LigError> {
        let silent = self.silent.join(", ");
        if !self.unproven.is_empty() {
            let rest = if silent.is_empty() { silent } else { format!(". No answer at all about {silent}") };
            return Err(LigError::Unproven(self.unproven.join(", "), rest));
        }
        if silent.is_empty() { Ok(()) } else { Err(LigError::Silence(silent, server, rloc, hint)) }
    }
}

/// How the question is protected.
fn security(arguments: &cli::Lig) -> Result<Option<Asking>, LigError> {
    if let Some(path) = &arguments.config {
        let config = config::load(Some(path), config::Draft::default(), &Machine::here())?;
        let asking = config.lisp_sec.and_then(|settings| settings.asking);
        return asking.map(Some).ok_or_else(|| LigError::NoKey(path.display().to_string()));
    }
    let Some(path) = &arguments.lisp_sec_key_file else { return Ok(None) };
    let wrong = |why: String| LigError::Secret(path.display().to_string(), why);
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let secret = text.lines().next().unwrap_or_default();
    if !(1..=256).contains(&secret.len()) {
        return Err(wrong(format!("its first line has {} octets", secret.len())));
    }
    let key = SharedKey::new(arguments.lisp_sec_key_id, secret.as_bytes());
    Ok(Some(Asking { key, algorithms: vec![Hash::Sha256, Hash::Sha1], downgrade: arguments.lisp_sec_downgrade }))
}

/// The first address of every EID-prefix of the router on this machine.
fn own(arguments: &cli::Lig) -> Result<Vec<Eid>, LigError> {
    let entries = Client::connect(&arguments.api)?.dump(Table::Database)?;
    let eids: Vec<Eid> =
        entries.iter().map(|entry| Eid { instance: entry.eid.instance, address: entry.eid.prefix.address() }).collect();
    if eids.is_empty() { Err(LigError::NoPrefix) } else { Ok(eids) }
}

/// The address that packets to `to` leave from; nothing is sent.
fn leaves_from(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// What was answered, and what was answered and not believed.
type Said = (Option<Answer>, Option<(IpAddr, SecurityFault)>);

fn ask(
    arguments: &cli::Lig,
    server: SocketAddr,
    rloc: IpAddr,
    eid: Eid,
    security: Option<Asking>,
) -> Result<Said, LigError> {
    let fits = |address: IpAddr| address.is_ipv4() == eid.address.is_ipv4();
    let source = match arguments.source {
        Some(source) if fits(source) => source,
        Some(source) => return Err(LigError::Families(source, eid.address, "--source")),
        None if fits(rloc) => rloc,
        None => leaves_from(SocketAddr::new(eid.address, CONTROL_PORT))
            .map_err(|error| LigError::NoAddress(eid.address, error, "--source"))?,
    };
    let tried = |error| LigError::Socket(format!("ask {server} from {rloc}"), error);
    let socket = UdpSocket::bind((rloc, 0)).map_err(tried)?;
    let question = Question {
        eid,
        rloc: socket.local_addr().map_err(tried)?,
        source,
        tries: arguments.count,
        patience: Duration::from_secs(arguments.timeout),
    };
    let mut random = nonces()?;
    let mut lig = Lig::new(question, security);
    let mut octets = vec![0; MESSAGE_MAX];
    loop {
        let left = lig.due(Instant::now()).saturating_duration_since(Instant::now());
        let output = if left.is_zero() {
            Some(lig.wake(Instant::now(), &mut || random.next_u64()))
        } else {
            socket.set_read_timeout(Some(left)).map_err(tried)?;
            hear(&socket, &mut lig, &mut octets).map_err(tried)?
        };
        match output {
            Some(Output::Send(message)) => drop(socket.send_to(&message, server).map_err(tried)?),
            Some(Output::Answered(answer)) => return Ok((Some(answer), lig.refused())),
            Some(Output::GaveUp) => return Ok((None, lig.refused())),
            None => {}
        }
    }
}

fn hear(socket: &UdpSocket, lig: &mut Lig, octets: &mut [u8]) -> io::Result<Option<lig::Output>> {
    match socket.recv_from(octets) {
        Ok((length, from)) => Ok(lig.heard(Instant::now(), from.ip(), &octets[..length])),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(eid: Eid) -> String {
    EidPrefix::host(eid).to_string().rsplit_once('/').map_or(String::new(), |(host, _)| host.to_owned())
}

/// What a person reads of one question.
fn table(arguments: &cli::Lig, eid: Eid, answer: Option<&Answer>, refused: Option<(IpAddr, SecurityFault)>) -> String {
    let (eid, count) = (text(eid), arguments.count);
    let Some(answer) = answer else {
        if let Some((from, fault)) = refused {
            return format!("{eid}: {from} answered, and was not believed: {}\n", fault.name());
        }
        return format!("{eid}: no answer to {count} Map-Requests, after {} s each\n", arguments.timeout);
    };
    let proof = match answer.proof {
        None => "",
        Some(Proven::Signed) => ", LISP-SEC: signed, and verified",
        Some(Proven::PrefixesOnly) => ", LISP-SEC: the EID-prefixes are verified; an ETR cannot sign the rest",
    };
    let rtt = answer.rtt.as_secs_f64() * 1000.0;
    let mut columns = Columns::new(["EID-PREFIX", ">TTL", "LOCATOR", ">PRIORITY/WEIGHT", "STATE", "SAID BY"]);
    for record in &answer.records {
        let ttl = match record.ttl {
            Ttl::Minutes(minutes) => format!("{minutes} min"),
            Ttl::Remove => "0".to_owned(),
            Ttl::ReceiverDecides => "any".to_owned(),
        };
        let whose = if record.authoritative { "the site" } else { "its Map-Server" };
        let head = [record.eid.to_string(), ttl];
        if record.is_negative() {
            columns.row(head.clone().into_iter().chain([record.action.to_string()]));
        }
        for (number, locator) in record.locators.iter().enumerate() {
            let (head, whose) = if number == 0 { (head.clone(), whose) } else { Default::default() };
            columns.row(head.into_iter().chain(row(locator)).chain([whose.to_owned()]));
        }
    }
    format!(
        "{eid}: {} answered in {rtt:.2} ms, request {} of {count}{proof}\n{}",
        answer.from,
        answer.of,
        columns.render()
    )
}

fn row(locator: &Locator) -> [String; 3] {
    let state = match (locator.usable(), locator.reachable) {
        (true, _) => "up",
        (false, true) => "not offered",
        (false, false) => "unreachable",
    };
    [locator.address.to_string(), format!("{}/{}", locator.priority, locator.weight), state.to_owned()]
}

fn document(eid: Eid, answer: Option<&Answer>, refused: Option<(IpAddr, SecurityFault)>) -> Value {
    let proof = answer.and_then(|answer| answer.proof).map(|proof| match proof {
        Proven::Signed => "signed",
        Proven::PrefixesOnly => "prefixes-only",
    });
    let records: Vec<Value> = answer.iter().flat_map(|answer| &answer.records).map(record).collect();
    json!({
        "eid": eid.address.to_string(),
        "instance": eid.instance.get(),
        "from": answer.map(|answer| answer.from.to_string()),
        "rtt": answer.map(|answer| answer.rtt.as_secs_f64() * 1000.0),
        "request": answer.map(|answer| answer.of),
        "lisp-sec": proof,
        "refused": refused.map(|(_, fault)| fault.name()),
        "records": records,
    })
}

fn record(mapping: &Mapping) -> Value {
    let locator = |locator: &Locator| {
        json!({
            "address": locator.address.to_string(),
            "priority": locator.priority,
            "weight": locator.weight,
            "local": locator.local,
            "reachable": locator.reachable,
        })
    };
    let ttl = match mapping.ttl {
        Ttl::Minutes(minutes) => Some(u64::from(minutes) * 60),
        Ttl::Remove => Some(0),
        Ttl::ReceiverDecides => None,
    };
    json!({
        "eid": mapping.eid.prefix.to_string(),
        "instance": mapping.eid.instance.get(),
        "ttl": ttl,
        "version": mapping.version,
        "action": mapping.is_negative().then(|| mapping.action.to_string()),
        "authoritative": mapping.authoritative,
        "locators": mapping.locators.iter().map(locator).collect::<Vec<_>>(),
    })
}

fn print(text: &str) -> Result<(), LigError> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(LigError::Print(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What failed is named whole, whatever else failed, each with its own reason.
    #[test]
    fn every_eid_without_an_answer_is_named() {
        let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let said = |silent: &[&str], unproven: &[&str]| {
            let failed = Failed { silent: all(silent), unproven: all(unproven) };
            failed.verdict([240, 0, 254, 1].into(), [240, 0, 254, 2].into(), "hint").map_err(|error| error.to_string())
        };
        assert_eq!(said(&[], &[]), Ok(()));
        let silent = said(&["3.3.3.3", "4.4.4.4"], &[]).unwrap_err();
        assert!(silent.contains("3.3.3.3, 4.4.4.4") && silent.contains("240.0.254.1") && silent.contains("hint"));
        let both = said(&["3.3.3.3"], &["1.1.1.1 (mac)", "2.2.2.2 (stripped)"]).unwrap_err();
        assert!(["1.1.1.1 (mac)", "2.2.2.2 (stripped)", "3.3.3.3"].iter().all(|text| both.contains(text)), "{both}");
    }
}
