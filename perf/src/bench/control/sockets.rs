//! The program itself behind UDP sockets, in namespaces: one veth, one client that has so many messages under way.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use super::{PREFIXES, registry};
use crate::{
    bench::meter::Meter,
    lab::{LabError, Link, Namespace, Router, remove_left_over, veth, work_folder},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Messages without an answer yet.
const UNDER_WAY: usize = 128;
/// After which what is under way counts as lost and goes again.
const SILENCE: Duration = Duration::from_millis(200);
/// How long Map-Requests are sent.
const ASKING: Duration = Duration::from_secs(5);
/// Map-Requests made beforehand.
const REQUESTS: usize = 500_000;

/// What came of it.
#[derive(Debug)]
pub(super) struct Measured {
    /// Seconds until all sites had their Map-Notify.
    pub(super) registered: f64,
    /// Map-Replies a second.
    pub(super) replies: f64,
    /// And a second of the program's CPU time.
    pub(super) replies_by_cpu: f64,
}

fn config(sites: u32) -> String {
    let mut text = format!("rlocs = [\"{SERVER}\"]\nstate-dir = \"STATE\"\n");
    for site in 0..sites {
        let eids: Vec<String> =
            (0..PREFIXES).map(|index| format!("\"{}\"", registry::eid(site * PREFIXES + index).prefix)).collect();
        let _ = writeln!(
            text,
            "[[site]]\nname = \"site {site}\"\neid-prefixes = [{}]\nkeys = [{{ secret = \"{}\" }}]",
            eids.join(", "),
            registry::secret(site),
        );
    }
    text
}

/// Sends messages and counts answers until there are as many as `enough`, or the time is over.
fn exchange<'a>(
    socket: &UdpSocket,
    mut messages: impl Iterator<Item = &'a [u8]>,
    enough: usize,
    limit: Duration,
) -> Result<(usize, Duration), LabError> {
    let os = LabError::os("UDP socket");
    let mut run = || -> std::io::Result<(usize, Duration)> {
        let to = SocketAddr::from((SERVER, 4342));
        let (mut answered, mut under_way, mut buffer) = (0, 0, [0; 2048]);
        let start = Instant::now();
        while answered < enough && start.elapsed() < limit {
            while under_way < UNDER_WAY {
                let Some(message) = messages.next() else { break };
                socket.send_to(message, to)?;
                under_way += 1;
            }
            match socket.recv(&mut buffer) {
                Ok(_) => {
                    answered += 1;
                    under_way = under_way.saturating_sub(1);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && under_way > 0 => under_way = 0,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok((answered, start.elapsed()))
    };
    run().map_err(os)
}

/// All of it once.
///
/// # Errors
/// [`LabError`]; also if not every site was told that it is registered.
pub(super) fn run(sites: u32) -> Result<Measured, LabError> {
    let owner = format!("alt{}", std::process::id());
    remove_left_over(&owner);
    let folder = work_folder(&owner)?;
    let measured = measure(sites, &owner, &folder);
    let _ = fs::remove_dir_all(&folder);
    measured
}

fn measure(sites: u32, owner: &str, folder: &std::path::Path) -> Result<Measured, LabError> {
    let (near, world) = (Namespace::create(owner, "router")?, Namespace::create(owner, "world")?);
    let link = (Link { namespace: &near, name: "core" }, Link { namespace: &world, name: "core" });
    veth(link.0, link.1, 1500)?;
    link.0.address(SERVER.into(), 24)?;
    link.1.address(CLIENT.into(), 24)?;
    let file = folder.join("ms.toml");
    let text = config(sites).replace("STATE", &folder.join("state").display().to_string());
    fs::write(&file, text).map_err(LabError::os(file.display().to_string()))?;
    let flags = ["--config".to_owned(), file.display().to_string(), "--log".to_owned(), "info".to_owned()];
    let router = Router::start("ms", &near, &flags, folder)?;
    let open = || -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((CLIENT, 4342))?;
        socket.set_read_timeout(Some(SILENCE))?;
        Ok(socket)
    };
    let socket = world.inside(open)?.map_err(LabError::os("UDP socket"))?;

    let messages = registry::registers(sites, 1, true);
    let limit = Duration::from_secs(120);
    let (mut confirmed, registered) = exchange(&socket, messages.iter().map(Vec::as_slice), messages.len(), limit)?;
    // What was lost on the way goes again; a Map-Register that came before is answered once more.
    if confirmed < messages.len() {
        confirmed = exchange(&socket, messages.iter().map(Vec::as_slice), messages.len(), limit)?.0;
    }
    if confirmed < messages.len() {
        return Err(LabError::Wrong(format!("{confirmed} of {sites} sites are registered")));
    }
    let requests = registry::requests(sites, REQUESTS);
    let meter = Meter::Process(router.process.id());
    let before = meter.read()?;
    let (answered, took) = exchange(&socket, requests.iter().map(Vec::as_slice).cycle(), usize::MAX, ASKING)?;
    let cpu = meter.read()?.saturating_sub(before);
    if answered == 0 {
        return Err(LabError::Wrong("no Map-Request was answered".to_owned()));
    }
    Ok(Measured {
        registered: registered.as_secs_f64(),
        replies: answered as f64 / took.as_secs_f64(),
        replies_by_cpu: answered as f64 / cpu.as_secs_f64(),
    })
}
