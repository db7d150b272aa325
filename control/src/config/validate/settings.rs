//! Cores, rings, frames and the other single values.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use altitude_dataplane::{port::BATCH, worker::BATCH_DEFAULT};

use super::{Findings, map_server, values};
use crate::config::{
    API_PATH, Bind, DscpName, FRAMES, Given, Hold, Identity, LogFormat, LogLevel, MAP_CACHE_MAX, Machine, PathMtuName,
    Place, RING, ResolverName, STATE_DIR, Settings, SiteRoutes, SourceCheck, XdpMode,
};

/// Longest path of a Unix socket, octets (`sun_path` without its NUL).
const SOCKET_PATH_MAX: usize = 107;
/// Frames kept for held packets and the batch in hand, beyond those in rings.
const FRAMES_ASIDE: usize = 1024 + 64;
/// Most frames of a worker: 2 GiB of memory.
const FRAMES_MAX: i64 = 1 << 20;

/// The single values, read and checked.
pub(super) struct Tuning {
    pub(super) identity: Identity,
    pub(super) workers: Vec<usize>,
    pub(super) control_core: Option<usize>,
    pub(super) xdp: XdpMode,
    pub(super) bind: Bind,
    pub(super) busy_poll: Option<u32>,
    pub(super) ring: u32,
    pub(super) frames: usize,
    pub(super) hugepages: bool,
    pub(super) map_cache_max: usize,
    pub(super) batch: usize,
    pub(super) hold: Hold,
    pub(super) source_check: SourceCheck,
    pub(super) dscp: DscpName,
    pub(super) path_mtu: PathMtuName,
    pub(super) site_routes: SiteRoutes,
    pub(super) resolver: ResolverName,
    pub(super) api: PathBuf,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) api_read_only: Option<PathBuf>,
    pub(super) state_dir: PathBuf,
    pub(super) log: LogLevel,
    pub(super) log_format: LogFormat,
}

/// Reads them all before giving up, so that every mistake is found.
pub(super) fn tuning(given: &Settings, ports: usize, machine: &Machine, findings: &mut Findings) -> Option<Tuning> {
    let identity = map_server::identity(given, findings);
    let last = machine.cores.last().copied().unwrap_or(0);
    let workers = or(&given.workers, vec![last], |given| values::cores(given, &machine.cores, findings));
    let control_core = or(&given.control_core, None, |given| {
        let core = values::number(given, "control core", 0..=i64::from(u16::MAX), findings)?;
        values::core_known(core, &machine.cores, &given.place, findings).then_some(Some(core))
    });
    let xdp = or(&given.xdp, XdpMode::Auto, |given| values::choice(given, "XDP mode", findings));
    let bind = or(&given.bind, Bind::Auto, |given| values::choice(given, "bind mode", findings));
    let busy_poll = or(&given.busy_poll, 0, |given| values::number(given, "busy-poll", 0..=10_000, findings));
    let ring = or(&given.ring, RING, |given| ring(given, findings));
    let frames = ring.and_then(|ring| frames(given.frames.as_ref(), ring, ports, findings));
    let hugepages = given.hugepages.as_ref().is_some_and(|given| given.value);
    let map_cache_max =
        or(&given.map_cache_max, MAP_CACHE_MAX, |given| values::number(given, "map-cache-max", 1..=1 << 24, findings));
    let batch = or(&given.batch, BATCH_DEFAULT, |given| values::number(given, "batch", 8..=BATCH as i64, findings));
    let hold = or(&given.hold, Hold::Queue, |given| values::choice(given, "hold", findings));
    let source_check =
        or(&given.source_check, SourceCheck::Standard, |given| values::choice(given, "source check", findings));
    let dscp = or(&given.dscp, DscpName::Uniform, |given| values::choice(given, "DSCP model", findings));
    let path_mtu = or(&given.path_mtu, PathMtuName::Link, |given| values::choice(given, "path-mtu", findings));
    let site_routes = or(&given.site_routes, SiteRoutes::Heed, |given| values::choice(given, "site-routes", findings));
    let resolver = or(&given.resolver, ResolverName::BuiltIn, |given| values::choice(given, "resolver", findings));
    let api = or(&given.api, PathBuf::from(API_PATH), |given| api(given, findings));
    let metrics = or(&given.metrics, None, |given| metrics(given, findings).map(Some));
    let read_only = read_only(given, api.as_deref(), findings);
    let state_dir = or(&given.state_dir, PathBuf::from(STATE_DIR), |given| map_server::state_dir(given, findings));
    let log = or(&given.log, LogLevel::Info, |given| values::choice(given, "log level", findings));
    let log_format = or(&given.log_format, LogFormat::Text, |given| values::choice(given, "log format", findings));
    Some(Tuning {
        identity,
        workers: workers?,
        control_core: control_core?,
        xdp: xdp?,
        bind: bind?,
        busy_poll: busy_poll.map(|time: u32| (time > 0).then_some(time))?,
        ring: ring?,
        frames: frames?,
        hugepages,
        map_cache_max: map_cache_max?,
        batch: batch?,
        hold: hold?,
        source_check: source_check?,
        dscp: dscp?,
        path_mtu: path_mtu?,
        site_routes: site_routes?,
        resolver: resolver?,
        api: api?,
        metrics: metrics?,
        api_read_only: read_only?,
        state_dir: state_dir?,
        log: log?,
        log_format: log_format?,
    })
}

/// The default if nothing is given, else what can be read of it.
fn or<T, U>(given: &Option<Given<T>>, default: U, read: impl FnOnce(&Given<T>) -> Option<U>) -> Option<U> {
    match given {
        None => Some(default),
        Some(given) => read(given),
    }
}

fn ring(given: &Given<i64>, findings: &mut Findings) -> Option<u32> {
    let ring: u32 = values::number(given, "ring", 64..=32_768, findings)?;
    if ring.is_power_of_two() {
        return Some(ring);
    }
    let above = ring.next_power_of_two();
    let what = format!("ring {ring} is not a power of two");
    findings.wrong(&given.place, what, format!("give {} or {above}", above / 2));
    None
}

/// Each port of a worker can have a full fill ring and a full transmit ring at once.
fn frames(given: Option<&Given<i64>>, ring: u32, ports: usize, findings: &mut Findings) -> Option<usize> {
    let need = ports * 2 * ring as usize + FRAMES_ASIDE;
    let Some(given) = given else { return Some(FRAMES.max(need)) };
    let frames: usize = values::number(given, "frames", 1..=FRAMES_MAX, findings)?;
    if frames < need {
        findings.wrong(
            &given.place,
            format!("{frames} frames are too few for {ports} ports with rings of {ring}"),
            format!("give at least {need}, or smaller rings"),
        );
        return None;
    }
    Some(frames)
}

/// `off`, the path given, or beside the socket for writing: `map-ro.sock` for `map.sock`.
fn read_only(given: &Settings, api: Option<&Path>, findings: &mut Findings) -> Option<Option<PathBuf>> {
    let (path, place) = match (&given.api_read_only, api?) {
        (Some(given), _) if given.value == "off" => return Some(None),
        (Some(given), _) => (self::api(given, findings)?, &given.place),
        (None, beside) => {
            let stem = beside.file_stem().unwrap_or_default().to_string_lossy();
            let dotted = beside.extension().map_or_else(String::new, |end| format!(".{}", end.to_string_lossy()));
            (
                beside.with_file_name(format!("{stem}-ro{dotted}")),
                given.api.as_ref().map_or(&Place::Whole, |api| &api.place),
            )
        }
    };
    if Some(path.as_path()) == api {
        let what = format!("'{}' is the socket for writing and the one for reading", path.display());
        findings.wrong(place, what, "give api-read-only another path, or off".to_owned());
        return None;
    }
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        let what = format!("'{}', the socket for reading, is too long a path", path.display());
        findings.wrong(place, what, format!("give api-read-only a path of at most {SOCKET_PATH_MAX} octets, or off"));
        return None;
    }
    Some(Some(path))
}

fn api(given: &Given<String>, findings: &mut Findings) -> Option<PathBuf> {
    let path = PathBuf::from(&given.value);
    let named = path.file_name().is_some() && !given.value.ends_with('/') && !given.value.contains('\0');
    if named && given.value.len() <= SOCKET_PATH_MAX {
        return Some(path);
    }
    let what = format!("'{}' cannot be the path of a socket", given.value);
    findings.wrong(&given.place, what, format!("give a file path of at most {SOCKET_PATH_MAX} octets"));
    None
}

fn metrics(given: &Given<String>, findings: &mut Findings) -> Option<SocketAddr> {
    match given.value.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let what = format!("'{}' is no address with a port to serve metrics at", given.value);
            findings.wrong(&given.place, what, "write 127.0.0.1:9347, or [::1]:9347");
            None
        }
    }
}
