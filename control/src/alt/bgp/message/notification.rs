//! NOTIFICATION: why a session ends (RFC 4271 §4.5, §6), with a text for operators (RFC 9003).

use std::fmt;

use super::HEADER;

/// Longest text of a shutdown communication, octets (RFC 9003 §2).
const TEXT_MAX: usize = 255;

/// The message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Error code, 1 … 7.
    pub code: u8,
    /// Error subcode; its meaning depends on the code.
    pub subcode: u8,
    /// What the code says about it.
    pub data: Vec<u8>,
}

/// Why a session is ended on purpose: subcodes of Cease (RFC 4486 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cease {
    /// More prefixes than the neighbour may announce.
    MaxPrefixes,
    /// An operator wants it down; carries a text.
    Shutdown,
    /// The neighbour is no longer configured.
    Deconfigured,
    /// An operator wants it to start anew; carries a text.
    Reset,
    /// A connection that is not wanted now.
    Rejected,
    /// Its configuration changed.
    ConfigurationChange,
    /// Two connections, and the other stays.
    Collision,
    /// Asks for more than there is.
    OutOfResources,
}

impl Cease {
    /// The subcode.
    #[must_use]
    pub const fn subcode(self) -> u8 {
        match self {
            Self::MaxPrefixes => 1,
            Self::Shutdown => 2,
            Self::Deconfigured => 3,
            Self::Reset => 4,
            Self::Rejected => 5,
            Self::ConfigurationChange => 6,
            Self::Collision => 7,
            Self::OutOfResources => 8,
        }
    }
}

impl Notification {
    /// A message of these parts.
    #[must_use]
    pub fn new(code: u8, subcode: u8, data: &[u8]) -> Self {
        Self { code, subcode, data: data.to_vec() }
    }

    /// Cease; `text` goes along where it may, cut at 255 octets between two characters.
    #[must_use]
    pub fn cease(cease: Cease, text: &str) -> Self {
        let mut data = Vec::new();
        if matches!(cease, Cease::Shutdown | Cease::Reset) && !text.is_empty() {
            let end = (0..=TEXT_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            let text = &text[..end];
            data.push(text.len() as u8);
            data.extend_from_slice(text.as_bytes());
        }
        Self { code: 6, subcode: cease.subcode(), data }
    }

    /// Message Header Error, Bad Message Length, of the message in `octets`.
    #[must_use]
    pub(crate) fn bad_length(octets: &[u8]) -> Self {
        Self::new(1, 2, octets.get(HEADER - 3..HEADER - 1).unwrap_or_default())
    }

    /// ROUTE-REFRESH Message Error, Invalid Message Length (RFC 7313 §5): the data is the whole message.
    #[must_use]
    pub(crate) fn bad_refresh_length(body: &[u8]) -> Self {
        let mut message = vec![0xff; 16];
        message.extend_from_slice(&((HEADER + body.len()) as u16).to_be_bytes());
        message.push(5);
        message.extend_from_slice(body);
        Self { code: 7, subcode: 1, data: message }
    }

    /// Reads the body of a NOTIFICATION; `None` below 2 octets.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (&[code, subcode], data) = body.split_first_chunk::<2>()?;
        Some(Self { code, subcode, data: data.to_vec() })
    }

    /// The sender's text, if it is one (RFC 9003 §2): control characters and what is no UTF-8 are replaced, for it goes into logs.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        if self.code != 6 || !matches!(self.subcode, 2 | 4) {
            return None;
        }
        let (&length, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(length)).filter(|text| !text.is_empty())?;
        let clean = |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
        Some(String::from_utf8_lossy(text).chars().map(clean).collect())
    }

    /// The names of code and subcode as the RFCs write them.
    #[must_use]
    pub const fn names(&self) -> (&'static str, &'static str) {
        match self.code {
            1 => ("Message Header Error", header_error(self.subcode)),
            2 => ("OPEN Message Error", open_error(self.subcode)),
            3 => ("UPDATE Message Error", update_error(self.subcode)),
            4 => ("Hold Timer Expired", ""),
            5 => ("Finite State Machine Error", machine_error(self.subcode)),
            6 => ("Cease", cease(self.subcode)),
            7 => ("ROUTE-REFRESH Message Error", if self.subcode == 1 { "Invalid Message Length" } else { "" }),
            _ => ("unknown error", ""),
        }
    }
}

/// RFC 4271 §6.1.
const fn header_error(subcode: u8) -> &'static str {
    match subcode {
        1 => "Connection Not Synchronized",
        2 => "Bad Message Length",
        3 => "Bad Message Type",
        _ => "",
    }
}

/// RFC 4271 §6.2, RFC 5492 §5, RFC 9234 §4.2.
const fn open_error(subcode: u8) -> &'static str {
    match subcode {
        1 => "Unsupported Version Number",
        2 => "Bad Peer AS",
        3 => "Bad BGP Identifier",
        4 => "Unsupported Optional Parameter",
        6 => "Unacceptable Hold Time",
        7 => "Unsupported Capability",
        11 => "Role Mismatch",
        _ => "",
    }
}

/// RFC 4271 §6.3.
const fn update_error(subcode: u8) -> &'static str {
    match subcode {
        1 => "Malformed Attribute List",
        2 => "Unrecognized Well-known Attribute",
        3 => "Missing Well-known Attribute",
        4 => "Attribute Flags Error",
        5 => "Attribute Length Error",
        6 => "Invalid ORIGIN Attribute",
        8 => "Invalid NEXT_HOP Attribute",
        9 => "Optional Attribute Error",
        10 => "Invalid Network Field",
        11 => "Malformed AS_PATH",
        _ => "",
    }
}

/// RFC 6608 §3.
const fn machine_error(subcode: u8) -> &'static str {
    match subcode {
        1 => "Unexpected Message in OpenSent",
        2 => "Unexpected Message in OpenConfirm",
        3 => "Unexpected Message in Established",
        _ => "",
    }
}

/// RFC 4486 §3, RFC 8538 §3.1, RFC 9384 §3.
const fn cease(subcode: u8) -> &'static str {
    match subcode {
        1 => "Maximum Number of Prefixes Reached",
        2 => "Administrative Shutdown",
        3 => "Peer De-configured",
        4 => "Administrative Reset",
        5 => "Connection Rejected",
        6 => "Other Configuration Change",
        7 => "Connection Collision Resolution",
        8 => "Out of Resources",
        9 => "Hard Reset",
        10 => "BFD Down",
        _ => "",
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode) = self.names();
        write!(f, "{code}")?;
        if !subcode.is_empty() {
            write!(f, ", {subcode}")?;
        }
        write!(f, " ({}/{})", self.code, self.subcode)?;
        self.text().map_or(Ok(()), |text| write!(f, ": \"{text}\""))
    }
}
