//! Captured packets as tshark understands them: not as our own decoder does.

use std::{
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
};

use super::LabError;

/// One IP header of a packet, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// TTL or Hop Limit.
    pub ttl: u8,
    /// TOS or Traffic Class: DSCP and ECN.
    pub tos: u8,
}

/// What a packet is, by its innermost protocol that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// LISP data: an IP packet behind UDP 4341.
    Data,
    /// A LISP control message by its type, with its nonce.
    Control {
        /// 1 Map-Request, 2 Map-Reply.
        message: u8,
        /// As in the message.
        nonce: u64,
        /// Inside GRE.
        tunnelled: bool,
    },
    /// Address resolution and its like: ARP, Neighbour Discovery, MLD.
    Neighbour,
    /// Any other IP packet.
    Ip,
    /// None of these.
    Other,
}

/// One captured packet.
#[derive(Debug, Clone)]
pub struct Packet {
    /// tshark's number in the file.
    pub number: u32,
    /// Its protocols, as `eth:ethertype:ip:udp:lisp-data:ip:tcp`.
    pub protocols: String,
    /// Its IP headers, outermost first, without those that an ICMP error quotes.
    pub headers: Vec<Header>,
    /// Outermost UDP ports, source and destination.
    pub ports: Option<(u16, u16)>,
    /// Outermost UDP checksum.
    pub udp_checksum: Option<u16>,
    /// What tells the flow inside apart beyond addresses: its protocol, and TCP ports.
    pub flow: String,
    /// ICMP or ICMPv6 type, and the sequence number of an echo.
    pub icmp: Option<(u8, u16)>,
    /// The innermost TCP segment carries FIN.
    pub tcp_fin: bool,
    /// What it is.
    pub kind: Kind,
    /// tshark calls it malformed, or a checksum is wrong.
    pub damaged: bool,
}

/// One unknown field name makes tshark stop: these are of tshark 4.0.
const FIELDS: &[&str] = &[
    "frame.number",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.ttl",
    "ip.dsfield",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.hlim",
    "ipv6.tclass",
    "udp.srcport",
    "udp.dstport",
    "udp.checksum",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags.fin",
    "icmp.type",
    "icmp.seq",
    "icmpv6.type",
    "icmpv6.echo.sequence_number",
    "lisp.type",
    "lisp.nonce",
    "_ws.malformed",
    "ip.checksum.status",
    "udp.checksum.status",
    "tcp.checksum.status",
    "tcp.checksum",
    "tcp.checksum_calculated",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
];

/// tshark's verdict on a checksum: 0 bad, 1 good, 2 unverified, 3 absent.
const BAD: &str = "0";

/// Protocols that end the walk: what follows is quoted, not carried.
const QUOTING: [&str; 2] = ["icmp", "icmpv6"];

/// Reads a capture by tshark, all checksums checked.
///
/// # Errors
/// [`LabError::Refused`] with what tshark said.
pub fn read(file: &Path) -> Result<Vec<Packet>, LabError> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file).args(["-T", "fields", "-E", "separator=/t", "-E", "aggregator=;"]);
    for protocol in ["ip", "udp", "tcp"] {
        command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command.stdin(Stdio::null()).output().map_err(LabError::os("tshark"))?;
    // A file that is still being written may end inside a packet: tshark then says so after the whole ones.
    if !output.status.success() && output.stdout.is_empty() && !output.stderr.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !said.contains("cut short") {
            return Err(LabError::Refused { command: format!("tshark -r {}", file.display()), said });
        }
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| packet(line).ok_or_else(|| LabError::Wrong(format!("tshark printed: {line}")))).collect()
}

/// The occurrences of each field in one line.
struct Row<'a>(Vec<Vec<&'a str>>);

impl<'a> Row<'a> {
    fn of(line: &'a str) -> Self {
        Self(line.split('\t').map(|cell| cell.split(';').filter(|value| !value.is_empty()).collect()).collect())
    }

    fn all(&self, field: &str) -> &[&'a str] {
        let index = FIELDS.iter().position(|name| *name == field);
        index.and_then(|index| self.0.get(index)).map_or(&[], Vec::as_slice)
    }

    fn first<T: Number>(&self, field: &str) -> Option<T> {
        self.all(field).first().and_then(|text| T::read(text))
    }

    fn has_bad_checksum(&self) -> bool {
        let statuses = FIELDS.iter().filter(|field| field.ends_with(".checksum.status"));
        statuses
            .flat_map(|field| self.all(field).iter().enumerate().map(move |(nth, status)| (*field, nth, *status)))
            .any(|(field, nth, status)| status == BAD && !(field == "tcp.checksum.status" && self.is_other_zero(nth)))
    }

    /// Whether a TCP checksum is 0xffff where tshark wants 0: the same number in one's complement, which Linux writes
    /// when it comes out as zero in software, once in 65,536 segments.
    fn is_other_zero(&self, nth: usize) -> bool {
        let is = |field, value| self.all(field).get(nth) == Some(&value);
        is("tcp.checksum", "0xffff") && is("tcp.checksum_calculated", "0x0000")
    }

    fn header(&self, [source, destination, ttl, tos]: [&str; 4], nth: usize) -> Option<Header> {
        Some(Header {
            source: self.all(source).get(nth)?.parse().ok()?,
            destination: self.all(destination).get(nth)?.parse().ok()?,
            ttl: u8::read(self.all(ttl).get(nth)?)?,
            tos: u8::read(self.all(tos).get(nth)?)?,
        })
    }
}

/// Numbers as tshark prints them: decimal, or hexadecimal behind 0x.
trait Number: Sized + TryFrom<u64> {
    fn read(text: &str) -> Option<Self> {
        let value = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        Self::try_from(value.ok()?).ok()
    }
}

impl Number for u8 {}
impl Number for u16 {}
impl Number for u32 {}
impl Number for u64 {}

fn packet(line: &str) -> Option<Packet> {
    let row = Row::of(line);
    let protocols: String = (*row.all("frame.protocols").first()?).to_owned();
    let (mut v4, mut v6, mut headers) = (0, 0, Vec::new());
    for protocol in protocols.split(':').take_while(|protocol| !QUOTING.contains(protocol)) {
        match protocol {
            "ip" => {
                headers.push(row.header(["ip.src", "ip.dst", "ip.ttl", "ip.dsfield"], v4)?);
                v4 += 1;
            }
            "ipv6" => {
                headers.push(row.header(["ipv6.src", "ipv6.dst", "ipv6.hlim", "ipv6.tclass"], v6)?);
                v6 += 1;
            }
            _ => {}
        }
    }
    let icmp_type = row.first("icmp.type").or(row.first("icmpv6.type"));
    let sequence = row.first("icmp.seq").or(row.first("icmpv6.echo.sequence_number")).unwrap_or(0);
    let ports = ["tcp.srcport", "tcp.dstport"].map(|field| row.all(field).first().copied().unwrap_or(""));
    let transport = protocols.split(':').rfind(|name| ["tcp", "udp", "icmp", "icmpv6"].contains(name)).unwrap_or("");
    Some(Packet {
        number: row.first("frame.number")?,
        headers,
        ports: row.first("udp.srcport").zip(row.first("udp.dstport")),
        udp_checksum: row.first("udp.checksum"),
        flow: format!("{transport} {}", ports.join(" ")),
        icmp: icmp_type.map(|kind| (kind, sequence)),
        tcp_fin: row.all("tcp.flags.fin").contains(&"1"),
        kind: kind(&protocols, &row, icmp_type),
        damaged: !row.all("_ws.malformed").is_empty() || row.has_bad_checksum(),
        protocols,
    })
}

fn kind(protocols: &str, row: &Row, icmp_type: Option<u8>) -> Kind {
    let has = |name: &str| protocols.split(':').any(|protocol| protocol == name);
    if has("lisp-data") {
        Kind::Data
    } else if has("lisp") {
        let message = row.first("lisp.type").unwrap_or(0);
        Kind::Control { message, nonce: row.first("lisp.nonce").unwrap_or(0), tunnelled: has("gre") }
    } else if has("arp") || (has("icmpv6") && icmp_type.is_some_and(|kind| (130..=143).contains(&kind))) {
        Kind::Neighbour
    } else if has("ip") || has("ipv6") {
        Kind::Ip
    } else {
        Kind::Other
    }
}
