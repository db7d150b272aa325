//! Moving a packet's start in an xsk-rs descriptor.
//!
//! A tunnel sends a frame from another start than it was received at. xsk-rs 0.11 lets nobody but its own rings set a
//! descriptor's address, and its length only through a slice of the packet. So both fields are found once, at start, by
//! writing and asking: a descriptor is a few plain integers, and the offset at which a written number changes the
//! answer to `addr()` and to nothing else is the address. If not exactly one offset fits, the library has changed, and
//! the program refuses to start. When xsk-rs offers a setter, this file goes.

use std::mem::{align_of, size_of};

use xsk_rs::FrameDesc;

use super::error::XskError;

/// The version this file was written against and that Cargo.toml pins.
const XSK_RS: &str = "0.11.0";

/// Byte offsets of the two fields inside a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    address: usize,
    length: usize,
}

/// What a descriptor answers: address, length, headroom, options.
type Answers = (usize, usize, usize, u32);

fn ask(descriptor: &FrameDesc) -> Answers {
    let lengths = descriptor.lengths();
    (descriptor.addr(), lengths.data(), lengths.headroom(), descriptor.options())
}

impl Shift {
    /// Finds both fields.
    ///
    /// # Errors
    /// [`XskError::Layout`] if a field is at no offset, or could be at two.
    pub(super) fn find() -> Result<Self, XskError> {
        let mut sample = FrameDesc::default();
        // All bits set, so that a write that reaches into this field cannot go unseen.
        sample.set_options(u32::MAX);
        let before = ask(&sample);
        // SAFETY: every field of a descriptor is a plain integer (xsk-rs 0.11 umem/frame), for which any bits are valid.
        let address = unsafe {
            probe(&sample, 0x0102_0304_0506_0708, |d, value| ask(d) == (value, before.1, before.2, before.3))
        };
        // SAFETY: as above.
        let length = unsafe {
            probe(&sample, 0x0807_0605_0403_0201, |d, value| ask(d) == (before.0, value, before.2, before.3))
        };
        let found = Self {
            address: address.ok_or(XskError::Layout { field: "address", version: XSK_RS })?,
            length: length.ok_or(XskError::Layout { field: "length", version: XSK_RS })?,
        };
        // Setting one must leave the other, also when neither is zero.
        found.set(&mut sample, usize::MAX, 7);
        found.set(&mut sample, 7, usize::MAX);
        if ask(&sample) == (7, usize::MAX, before.2, before.3) {
            Ok(found)
        } else {
            Err(XskError::Layout { field: "address", version: XSK_RS })
        }
    }

    /// Makes `descriptor` say that a packet of `length` octets starts `address` octets into the region.
    #[inline]
    pub(super) fn set(self, descriptor: &mut FrameDesc, address: usize, length: usize) {
        let base = std::ptr::from_mut(descriptor).cast::<u8>();
        // SAFETY: `find` checked that a `usize` at each offset lies inside the descriptor, is aligned, and is the field.
        unsafe {
            base.add(self.address).cast::<usize>().write(address);
            base.add(self.length).cast::<usize>().write(length);
        }
    }
}

/// The one aligned offset at which writing `value` makes `fits` true; `None` if there is none, or more than one.
///
/// # Safety
/// Every field of `T` must accept any bits.
unsafe fn probe<T: Copy>(sample: &T, value: usize, fits: impl Fn(&T, usize) -> bool) -> Option<usize> {
    if align_of::<T>() < align_of::<usize>() {
        return None;
    }
    let last = size_of::<T>().checked_sub(size_of::<usize>())?;
    let mut offsets = (0..=last).step_by(align_of::<usize>()).filter(|&offset| {
        let mut written = *sample;
        // SAFETY: the offset leaves room for a `usize` inside `written` and is aligned; the caller promises the bits.
        unsafe { std::ptr::from_mut(&mut written).cast::<u8>().add(offset).cast::<usize>().write(value) };
        fits(&written, value)
    });
    let found = offsets.next();
    if offsets.next().is_some() { None } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_of_this_xsk_rs_is_understood() {
        let shift = Shift::find().unwrap();
        assert_ne!(shift.address, shift.length);
        let mut descriptor = FrameDesc::default();
        shift.set(&mut descriptor, 3 * 2048 + 220, 1536);
        assert_eq!(ask(&descriptor), (3 * 2048 + 220, 1536, 0, 0));
    }

    #[test]
    fn none_or_two_places_are_refused() {
        // SAFETY: arrays of integers.
        let (none, one, two) = unsafe {
            (
                probe(&[0_usize; 3], 5, |_, _| false),
                probe(&[0_usize; 3], 5, |fields, value| fields[1] == value),
                probe(&[0_usize; 3], 5, |fields, value| fields[1] == value || fields[2] == value),
            )
        };
        assert_eq!((none, one, two), (None, Some(size_of::<usize>()), None));
        // SAFETY: octets.
        let unaligned = unsafe { probe(&[0_u8; 64], 5, |_, _| true) };
        assert_eq!(unaligned, None, "a type of lesser alignment has no field of ours");
    }
}
