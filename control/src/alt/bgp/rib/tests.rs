//! The table and what neighbours were told of it, against looking at every route.

use super::*;
use crate::alt::bgp::route::{AsPath, Attributes, Segment};

/// Attributes with this path and nothing else.
pub(in crate::alt::bgp) fn attributes(path: &[u32]) -> Attributes {
    let segments: Box<[Segment]> =
        if path.is_empty() { Box::default() } else { Box::new([Segment::Sequence(path.into())]) };
    Attributes { as_path: AsPath(segments), ..crate::alt::bgp::aggregate::originated() }
}
