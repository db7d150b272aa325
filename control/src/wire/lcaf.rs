//! Addresses of control messages: AFI and address, or LCAF.
//!
//! ```text
//! | AFI (16) | address: its length follows from the AFI |
//! | AFI = 16387 | Rsvd1 (8) | Flags (8) | Type (8) | Rsvd2 (8) | Length (16) | Length octets |
//! | … Type 2 (Instance-ID) … | Instance-ID (32) | AFI (16) | address |
//! ```
//!
//! Of the LCAFs four are spoken: Instance-ID, only around an EID; an AFI-List, only as an RLOC, of which the plain addresses
//! count; an explicit locator path, only as a locator; NAT-Traversal, only in an Info-Reply. What they hold is not
//! looked into further, so nesting ends at the first level and no depth needs counting. All others are stepped over by their
//! length.
//!
//! | … Type 10 (path) … | Rsvd3 (13) |L|P|S| AFI (16) | address |     once for each stop
//!
//! Source: RFC 9301 §5.1; RFC 8060 §3, §4.1, §4.4, §4.6, §4.10; RFC 9306 §3, §4; names RFC 9735 §3.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use altitude_dataplane::{
    mapping::{Eid, Hop, InstanceId},
    wire::WireError as Malformed,
};

use super::{WireError, cursor::Cursor};

const NO_ADDRESS: u16 = 0;
const IPV4: u16 = 1;
const IPV6: u16 = 2;
const LCAF: u16 = 16387;

const AFI_LIST: u8 = 1;
const INSTANCE_ID: u8 = 2;
const NAT_TRAVERSAL: u8 = 7;
const PATH: u8 = 10;
const VENDOR: u8 = 255;

/// Most stops of a path that is believed, and most addresses of an AFI-List that are read.
const STOPS_MAX: usize = 16;

/// An address as it stands in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Address<'a> {
    /// AFI 0.
    Absent,
    /// AFI 1 or 2.
    Ip(IpAddr),
    /// LCAF type 1 and what follows its length: addresses one after the other.
    List(&'a [u8]),
    /// LCAF type 2 and what follows its length.
    Instance(&'a [u8]),
    /// LCAF type 7 and what follows its length: ports, then addresses one after the other.
    Translation(&'a [u8]),
    /// LCAF type 10 and what follows its length: stops one after the other.
    Path(&'a [u8]),
    /// An LCAF of another type, stepped over.
    OtherLcaf(u8),
    /// A family known only by its length, stepped over: MAC addresses, names, AS numbers.
    OtherFamily(u16),
}

impl<'a> Address<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        let afi = cursor.u16()?;
        Ok(match afi {
            NO_ADDRESS => Self::Absent,
            IPV4 => Self::Ip(Ipv4Addr::from(cursor.u32()?).into()),
            IPV6 => Self::Ip(Ipv6Addr::from(cursor.array::<16>()?).into()),
            LCAF => return Self::read_lcaf(cursor),
            6 | 16389 => Self::skip(afi, 6, cursor)?, // 48-bit MAC, in RFC 8060's figures and at IANA
            16390 => Self::skip(afi, 8, cursor)?,     // 64-bit MAC
            18 => Self::skip(afi, 4, cursor)?,        // AS number
            17 => {
                // A name ends with its first NUL (RFC 9735 §3).
                let Some(nul) = cursor.rest().iter().position(|&octet| octet == 0) else {
                    return Err(Malformed::Contradiction("distinguished name without its NUL").into());
                };
                Self::skip(afi, nul + 1, cursor)?
            }
            unknown => return Err(WireError::UnknownAfi(unknown)),
        })
    }

    fn read_lcaf(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        let [_reserved, _flags, kind, _reserved2] = cursor.array()?;
        let length = cursor.u16()?;
        let body = cursor.take(usize::from(length))?;
        match kind {
            AFI_LIST => Ok(Self::List(body)),
            INSTANCE_ID => Ok(Self::Instance(body)),
            NAT_TRAVERSAL => Ok(Self::Translation(body)),
            PATH => Ok(Self::Path(body)),
            // The whole message goes, not only the locator (RFC 9306 §4): no OUI is spoken.
            VENDOR => Err(WireError::UnknownLcaf(VENDOR)),
            other => Ok(Self::OtherLcaf(other)),
        }
    }

    fn skip(afi: u16, length: usize, cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        cursor.take(length)?;
        Ok(Self::OtherFamily(afi))
    }
}

/// Reads an EID; `None` is AFI 0.
///
/// An Instance-ID above 24 bits has no place in a data header (RFC 8060 §4.1) and is refused; so is a range of
/// Instance-IDs (AFI 0 inside).
pub(super) fn read_eid(cursor: &mut Cursor<'_>) -> Result<Option<Eid>, WireError> {
    match Address::read(cursor)? {
        Address::Absent => Ok(None),
        Address::Ip(address) => Ok(Some(Eid { instance: InstanceId::DEFAULT, address })),
        Address::Instance(body) => read_instance(Cursor::new(body)).map(Some),
        Address::List(_) => Err(WireError::UnknownLcaf(AFI_LIST)),
        Address::Translation(_) => Err(WireError::UnknownLcaf(NAT_TRAVERSAL)),
        Address::Path(_) => Err(WireError::UnknownLcaf(PATH)),
        Address::OtherLcaf(kind) => Err(WireError::UnknownLcaf(kind)),
        Address::OtherFamily(afi) => Err(WireError::UnknownAfi(afi)),
    }
}

/// Reads what an Instance-ID LCAF holds.
fn read_instance(mut body: Cursor<'_>) -> Result<Eid, WireError> {
    let instance = InstanceId::new(body.u32()?).ok_or(Malformed::Contradiction("Instance-ID above 24 bits"))?;
    let eid = match Address::read(&mut body)? {
        Address::Ip(address) => Eid { instance, address },
        Address::Absent => return Err(Malformed::Contradiction("Instance-ID without an address").into()),
        Address::Instance(_) => return Err(Malformed::Contradiction("Instance-ID inside an Instance-ID").into()),
        Address::List(_) => return Err(WireError::UnknownLcaf(AFI_LIST)),
        Address::Translation(_) => return Err(WireError::UnknownLcaf(NAT_TRAVERSAL)),
        Address::Path(_) => return Err(WireError::UnknownLcaf(PATH)),
        Address::OtherLcaf(kind) => return Err(WireError::UnknownLcaf(kind)),
        Address::OtherFamily(afi) => return Err(WireError::UnknownAfi(afi)),
    };
    body.end()?;
    Ok(eid)
}

/// Reads an RLOC; `None` is one to leave out: no address, or one not spoken here.
///
/// An Instance-ID around an RLOC names an underlay of its own, and there is one only: left out as well.
pub(super) fn read_rloc(cursor: &mut Cursor<'_>) -> Result<Option<IpAddr>, WireError> {
    Ok(read_rlocs(cursor)?.first().copied())
}

/// As [`read_rloc`], with all the addresses of an AFI-List, in its order.
pub(super) fn read_rlocs(cursor: &mut Cursor<'_>) -> Result<Vec<IpAddr>, WireError> {
    Ok(match read_locator(cursor)? {
        Some(Route::Direct(address)) => vec![address],
        Some(Route::Either(addresses)) => addresses,
        Some(Route::Path(_)) | None => Vec::new(),
    })
}

/// Where a locator-record leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// To this RLOC.
    Direct(IpAddr),
    /// To the first usable of these, more than one.
    Either(Vec<IpAddr>),
    /// Over these stops, of which the last is the ETR's; never empty.
    Path(Vec<(IpAddr, Hop)>),
}

/// As [`read_rloc`], of a locator-record, which may hold a path.
pub(super) fn read_locator(cursor: &mut Cursor<'_>) -> Result<Option<Route>, WireError> {
    Ok(match Address::read(cursor)? {
        Address::Ip(address) => Some(Route::Direct(address)),
        Address::List(body) => match *plain_of(Cursor::new(body))? {
            [] => None,
            [address] => Some(Route::Direct(address)),
            ref addresses => Some(Route::Either(addresses.to_vec())),
        },
        Address::Path(body) => stops(Cursor::new(body))?.map(Route::Path),
        Address::Absent
        | Address::Instance(_)
        | Address::Translation(_)
        | Address::OtherLcaf(_)
        | Address::OtherFamily(_) => None,
    })
}

/// The stops of a path; `None` is one to leave out: without stops, with more than are believed, or with one that is no plain
/// address.
fn stops(mut path: Cursor<'_>) -> Result<Option<Vec<(IpAddr, Hop)>>, WireError> {
    let (mut stops, mut plain) = (Vec::new(), true);
    while !path.rest().is_empty() {
        let bits = path.u16()? as u8;
        match Address::read(&mut path)? {
            Address::Ip(address) if stops.len() < STOPS_MAX => stops.push((address, Hop::from_bits(bits))),
            _ => plain = false,
        }
    }
    Ok(Some(stops).filter(|stops| plain && !stops.is_empty()))
}

/// Reads what ends an Info message: a NAT-Traversal LCAF, of which the body is returned, or nothing (RFC 8060 §4.4).
pub(super) fn read_translation<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Cursor<'a>>, WireError> {
    match Address::read(cursor)? {
        Address::Absent => Ok(None),
        Address::Translation(body) => Ok(Some(Cursor::new(body))),
        _ => Err(Malformed::Contradiction("neither nothing nor a NAT-Traversal LCAF").into()),
    }
}

/// Writes a NAT-Traversal LCAF around `body`.
pub(super) fn write_translation(body: &[u8], octets: &mut Vec<u8>) {
    octets.extend(LCAF.to_be_bytes());
    octets.extend([0, 0, NAT_TRAVERSAL, 0]);
    octets.extend((body.len() as u16).to_be_bytes());
    octets.extend(body);
}

/// Writes a path.
pub(super) fn write_path(stops: &[(IpAddr, Hop)], octets: &mut Vec<u8>) {
    let mut body = Vec::new();
    for (address, hop) in stops {
        body.extend([0, hop.bits()]);
        write_rloc(*address, &mut body);
    }
    octets.extend(LCAF.to_be_bytes());
    octets.extend([0, 0, PATH, 0]);
    octets.extend((body.len() as u16).to_be_bytes());
    octets.extend(body);
}

/// The plain addresses of an AFI-List (RFC 8060 §4.10.5), in its order. What stands behind a family of unknown length cannot
/// be read, and is not missed where there was an address before.
fn plain_of(mut list: Cursor<'_>) -> Result<Vec<IpAddr>, WireError> {
    let mut plain = Vec::new();
    while !list.rest().is_empty() && plain.len() < STOPS_MAX {
        match Address::read(&mut list) {
            Ok(Address::Ip(address)) => plain.push(address),
            Ok(_) => {}
            Err(WireError::UnknownAfi(_)) if !plain.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(plain)
}

/// Writes an AFI-List.
pub(super) fn write_list(addresses: &[IpAddr], octets: &mut Vec<u8>) {
    let mut body = Vec::new();
    addresses.iter().for_each(|address| write_rloc(*address, &mut body));
    octets.extend(LCAF.to_be_bytes());
    octets.extend([0, 0, AFI_LIST, 0]);
    octets.extend((body.len() as u16).to_be_bytes());
    octets.extend(body);
}

/// Writes an EID: an Instance-ID LCAF unless it is in the default instance.
pub(super) fn write_eid(eid: Option<Eid>, octets: &mut Vec<u8>) {
    match eid {
        None => octets.extend(NO_ADDRESS.to_be_bytes()),
        Some(Eid { instance: InstanceId::DEFAULT, address }) => write_rloc(address, octets),
        Some(Eid { instance, address }) => {
            let length: u16 = if address.is_ipv4() { 4 + 2 + 4 } else { 4 + 2 + 16 };
            octets.extend(LCAF.to_be_bytes());
            octets.extend([0, 0, INSTANCE_ID, 0]);
            octets.extend(length.to_be_bytes());
            octets.extend(instance.get().to_be_bytes());
            write_rloc(address, octets);
        }
    }
}

/// Writes a plain address.
pub(super) fn write_rloc(address: IpAddr, octets: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            octets.extend(IPV4.to_be_bytes());
            octets.extend(address.octets());
        }
        IpAddr::V6(address) => {
            octets.extend(IPV6.to_be_bytes());
            octets.extend(address.octets());
        }
    }
}

/// Writes "no address".
pub(super) fn write_absent(octets: &mut Vec<u8>) {
    octets.extend(NO_ADDRESS.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(octets: &[u8]) -> Result<Option<Eid>, WireError> {
        let mut cursor = Cursor::new(octets);
        let eid = read_eid(&mut cursor)?;
        cursor.end()?;
        Ok(eid)
    }

    fn rloc(octets: &[u8]) -> Result<Option<IpAddr>, WireError> {
        let mut cursor = Cursor::new(octets);
        let rloc = read_rloc(&mut cursor)?;
        cursor.end()?;
        Ok(rloc)
    }

    const fn contradiction<T>(text: &'static str) -> Result<T, WireError> {
        Err(WireError::Malformed(Malformed::Contradiction(text)))
    }

    #[test]
    fn octets_and_eid() {
        for (octets, text) in [
            (&[0, 0][..], None),
            (&[0, 1, 1, 1, 0, 1], Some("1.1.0.1")),
            (&[0, 2, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], Some("2001:db8::1")),
            (&[0x40, 3, 0, 0, 2, 0, 0, 10, 0, 0xff, 0xff, 0xff, 0, 1, 1, 1, 0, 1], Some("[16777215]1.1.0.1")),
        ] {
            let value = eid(octets).unwrap();
            assert_eq!(value.map(|eid| eid.to_string()).as_deref(), text);
            let mut written = vec![];
            write_eid(value, &mut written);
            assert_eq!(written, octets);
        }
        // The IID mask-len and reserved octets are ignored, and instance 0 is the default instance.
        let noisy = [0x40, 3, 9, 9, 2, 24, 0, 10, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1];
        assert_eq!(eid(&noisy), eid(&[0, 1, 1, 1, 0, 1]));
    }

    /// G-1, G-2.
    #[test]
    fn eids_not_spoken_refuse_the_message() {
        for (octets, expected) in [
            (&[0, 9, 1, 2][..], Err(WireError::UnknownAfi(9))),
            (&[0, 6, 1, 2, 3, 4, 5, 6], Err(WireError::UnknownAfi(6))),
            (&[0, 17, b'x', 0], Err(WireError::UnknownAfi(17))),
            (&[0, 17, b'x'], contradiction("distinguished name without its NUL")),
            (&[0x40, 3, 0, 0, 1, 0, 0, 6, 0, 1, 1, 1, 0, 1], Err(WireError::UnknownLcaf(1))),
            (&[0x40, 3, 0, 0, 255, 0, 0, 0], Err(WireError::UnknownLcaf(255))),
            (&[0x40, 3, 0, 0, 2, 0, 0, 10, 1, 0, 0, 0, 0, 1, 1, 1, 0, 1], contradiction("Instance-ID above 24 bits")),
            (&[0x40, 3, 0, 0, 2, 24, 0, 6, 0, 0, 1, 0, 0, 0], contradiction("Instance-ID without an address")),
            (
                &[0x40, 3, 0, 0, 2, 0, 0, 11, 0, 0, 0, 1, 0, 1, 1, 1, 0, 1, 9],
                contradiction("octets left over after the message"),
            ),
            (
                &[0x40, 3, 0, 0, 2, 0, 0, 12, 0, 0, 0, 1, 0x40, 3, 0, 0, 2, 0, 0, 0],
                contradiction("Instance-ID inside an Instance-ID"),
            ),
            (&[0x40, 3, 0, 0, 2, 0, 0, 2, 0, 0], Err(Malformed::Truncated { need: 4, have: 2 }.into())),
            (&[0x40, 3, 0, 0, 2, 0, 0, 9, 0, 0], Err(Malformed::Truncated { need: 9, have: 2 }.into())),
        ] {
            assert_eq!(eid(octets), expected, "{octets:?}");
        }
    }

    /// G-1, G-2.
    #[test]
    fn rlocs_not_spoken_are_left_out() {
        for octets in [
            &[0, 0][..],
            &[0x40, 5, 1, 2, 3, 4, 5, 6],
            &[0, 17, b'x', 0],
            &[0, 18, 0, 0, 0, 1],
            &[0x40, 6, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x40, 3, 0, 0, 99, 0, 0, 3, 1, 2, 3],
            &[0x40, 3, 0, 0, 2, 0, 0, 10, 0, 0, 0, 1, 0, 1, 1, 1, 0, 1],
        ] {
            assert_eq!(rloc(octets), Ok(None), "{octets:?}");
        }
        assert_eq!(rloc(&[0, 1, 240, 0, 254, 10]), Ok(Some([240, 0, 254, 10].into())));
        assert_eq!(rloc(&[0x12, 0x34, 1]), Err(WireError::UnknownAfi(0x1234)));
        assert_eq!(rloc(&[0x40, 3, 0, 0, 255, 0, 0, 0]), Err(WireError::UnknownLcaf(255)));
        assert!(matches!(rloc(&[0, 1, 240, 0, 254]), Err(WireError::Malformed(Malformed::Truncated { .. }))));
    }

    /// LOC-9: a path with its bits goes in and out; what is no such path is left out, and one cut off is an error.
    #[test]
    fn octets_and_a_path() {
        let locator = |octets: &[u8]| read_locator(&mut Cursor::new(octets));
        let path = |body: &[u8]| [&[0x40, 3, 0, 0, 10, 0, 0, body.len() as u8], body].concat();
        let (first, second) = ([0, 3, 0, 1, 203, 0, 113, 30], [0, 4, 0, 1, 203, 0, 113, 31]);
        let v10 = path(&[first, second].concat());
        let stops = vec![([203, 0, 113, 30].into(), Hop::from_bits(3)), ([203, 0, 113, 31].into(), Hop::from_bits(4))];
        assert_eq!(locator(&v10), Ok(Some(Route::Path(stops.clone()))));
        let mut written = Vec::new();
        write_path(&stops, &mut written);
        assert_eq!(written, v10);
        assert_eq!(rloc(&v10), Ok(None), "an ITR-RLOC is no path");
        assert_eq!(eid(&v10), Err(WireError::UnknownLcaf(10)));
        for left_out in [path(&[]), path(&[&first[..], &[0, 0, 0, 0]].concat()), path(&first.repeat(17))] {
            assert_eq!(locator(&left_out), Ok(None));
        }
        assert!(matches!(locator(&path(&first[..7])), Err(WireError::Malformed(Malformed::Truncated { .. }))));
    }

    /// LOC-10.
    #[test]
    fn octets_and_an_afi_list() {
        let list = |body: &[u8]| [&[0x40, 3, 0, 0, 1, 0, 0, body.len() as u8], body].concat();
        let (v4, v6) = ([&[0, 1][..], &[240, 0, 254, 20]].concat(), [&[0, 2, 0x20][..], &[1; 15]].concat());
        let (mac, empty) = (&[0x40, 5, 1, 2, 3, 4, 5, 6][..], &[0, 0][..]);
        let one = IpAddr::from([240, 0, 254, 20]);
        let other = Ipv6Addr::from(<[u8; 16]>::try_from(&v6[2..]).unwrap()).into();
        for (body, expected) in [
            ([&v4[..], &v6].concat(), Some(Route::Either(vec![one, other]))),
            ([mac, empty, &v4, &v6, mac].concat(), Some(Route::Either(vec![one, other]))),
            ([&v6[..], &v4].concat(), Some(Route::Either(vec![other, one]))),
            ([&v6[..], &v4, &[0x12, 0x34, 1]].concat(), Some(Route::Either(vec![other, one]))),
            ([&list(&v6)[..], &v4].concat(), Some(Route::Direct(one))), // a list in a list is not looked into
            (mac.to_vec(), None),
            (vec![], None),
        ] {
            let octets = list(&body);
            assert_eq!(read_locator(&mut Cursor::new(&octets)), Ok(expected.clone()), "{body:?}");
            let first = match &expected {
                Some(Route::Either(addresses)) => Some(addresses[0]),
                Some(Route::Direct(address)) => Some(*address),
                _ => None,
            };
            assert_eq!(rloc(&octets), Ok(first));
        }
        let mut written = Vec::new();
        write_list(&[one, other], &mut written);
        assert_eq!(written, list(&[&v4[..], &v6].concat()));
        assert!(
            matches!(read_locator(&mut Cursor::new(&list(&v4.repeat(17)))), Ok(Some(Route::Either(all))) if all.len() == 16)
        );
        assert_eq!(rloc(&list(&[0x12, 0x34])), Err(WireError::UnknownAfi(0x1234)));
        for cut in [&v4[..5], &[&v4[..], &v6[..9]].concat()] {
            assert!(matches!(rloc(&list(cut)), Err(WireError::Malformed(Malformed::Truncated { .. }))));
        }
    }
}
