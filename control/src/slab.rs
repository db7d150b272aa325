//! Values in numbered places that never move: growing adds a chunk, so no insert ever stops to copy the whole table.

#![forbid(unsafe_code)]

use std::ops::{Index, IndexMut};

/// Values in one chunk.
const CHUNK: usize = 1024;

/// A growing array, numbered from zero.
#[derive(Debug, Clone)]
pub(crate) struct Chunked<T>(Vec<Vec<T>>);

impl<T> Chunked<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    pub(crate) fn push(&mut self, value: T) {
        match self.0.last_mut().filter(|last| last.len() < CHUNK) {
            Some(last) => last.push(value),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(value);
                self.0.push(chunk);
            }
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.0.get(number / CHUNK)?.get(number % CHUNK)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let number = number as usize;
        self.0.get_mut(number / CHUNK)?.get_mut(number % CHUNK)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// Octets in use, chunks counted whole.
    pub(crate) fn octets(&self) -> usize {
        self.0.len() * CHUNK * size_of::<T>() + self.0.capacity() * size_of::<Vec<T>>()
    }
}

impl<T: Clone> Chunked<T> {
    /// Grows with copies of `value` until `number` is a place.
    pub(crate) fn reach(&mut self, number: u32, value: &T) {
        while self.len() <= number as usize {
            self.push(value.clone());
        }
    }
}

impl<T> Index<u32> for Chunked<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.0[number as usize / CHUNK][number as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Chunked<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.0[number as usize / CHUNK][number as usize % CHUNK]
    }
}

/// Values that keep their number until they are taken out; numbers are given out anew, the last freed first.
#[derive(Debug, Clone)]
pub(crate) struct Slab<T> {
    places: Chunked<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Chunked::new(), free: Vec::new() }
    }

    /// Places given out so far, free ones included: numbers are below it.
    pub(crate) fn places(&self) -> u32 {
        self.places.len() as u32
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.places[number] = Some(value);
                number
            }
            None => {
                self.places.push(Some(value));
                self.places() - 1
            }
        }
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.places.get_mut(number)?.take();
        if value.is_some() {
            self.free.push(number);
        }
        value
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(number)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number)?.as_mut()
    }

    /// Octets in use, beside what the values own.
    pub(crate) fn octets(&self) -> usize {
        self.places.octets() + self.free.capacity() * size_of::<u32>()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        self.get(number).expect("a number that was given out")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.get_mut(number).expect("a number that was given out")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_given_out_again() {
        let mut slab = Slab::new();
        let numbers: Vec<u32> = (0..3000_u32).map(|value| slab.insert(value)).collect();
        assert_eq!((slab.places(), slab[1024], slab[2999]), (3000, 1024, 2999));
        assert_eq!((slab.remove(7), slab.remove(7), slab.remove(9999)), (Some(7), None, None));
        assert_eq!(slab.get(7), None);
        assert_eq!((slab.insert(70), slab.insert(71)), (7, 3000));
        assert!(numbers.iter().filter(|number| **number != 7).all(|number| slab[*number] == *number));
        assert!(slab.octets() >= 3001 * size_of::<Option<u32>>());
    }
}
