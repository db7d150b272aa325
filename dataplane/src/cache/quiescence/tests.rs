//! With std: counting and poisoned values under real threads. With `--cfg loom`: every interleaving of small scripts.
//!
//! Both drive [`quiescence`](super::quiescence) with the smallest table there is: one link, to one value.

use std::{collections::VecDeque, ptr::NonNull};

#[cfg(loom)]
use loom::sync::atomic::AtomicPtr;
#[cfg(not(loom))]
use std::sync::atomic::AtomicPtr;

use super::*;

/// The link; frees what it leads to when the last user goes.
struct Link<T>(AtomicPtr<T>);

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`, and nobody is left to follow it.
        drop(unsafe { Box::from_raw(self.0.load(Ordering::Relaxed)) });
    }
}

struct Publisher<T> {
    link: Arc<Link<T>>,
    grace: Grace,
    limbo: VecDeque<(u64, NonNull<T>)>,
}

struct Subscriber<T> {
    link: Arc<Link<T>>,
    presence: Presence,
}

// SAFETY: the values are owned as by a `Box`, and the tests' values may go anywhere.
unsafe impl<T: Send + Sync> Send for Publisher<T> {}

fn publication<T: Send + Sync>(first: T, readers: usize) -> (Publisher<T>, Vec<Subscriber<T>>) {
    let (grace, presences) = quiescence(readers);
    let link = Arc::new(Link(AtomicPtr::new(Box::into_raw(Box::new(first)))));
    let subscribers = presences.into_iter().map(|presence| Subscriber { link: link.clone(), presence }).collect();
    (Publisher { link, grace, limbo: VecDeque::new() }, subscribers)
}

impl<T> Publisher<T> {
    /// Unlinks the value before, and closes the epoch.
    fn publish(&mut self, value: T) -> u64 {
        // Release: ordering 1.
        let old = self.link.0.swap(Box::into_raw(Box::new(value)), Ordering::Release);
        let epoch = self.grace.advance();
        self.limbo.push_back((epoch, NonNull::new(old).unwrap()));
        epoch
    }

    fn reclaim(&mut self) -> u64 {
        let passed = self.grace.passed();
        let over = self.limbo.partition_point(|(epoch, _)| *epoch <= passed);
        for (_, value) in self.limbo.drain(..over) {
            // SAFETY: from `Box::into_raw`, unlinked, and every reader has begun a turn since.
            drop(unsafe { Box::from_raw(value.as_ptr()) });
        }
        passed
    }

    fn waiting(&self) -> usize {
        self.limbo.len()
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.reclaim();
        assert!(self.limbo.is_empty(), "the tests' readers go first");
    }
}

impl<T> Subscriber<T> {
    fn snapshot(&mut self) -> &T {
        self.presence.begin();
        // Acquire: ordering 1.
        let value = self.link.0.load(Ordering::Acquire);
        // SAFETY: what is under test.
        unsafe { &*value }
    }

    fn go_offline(&mut self) {
        self.presence.go_offline();
    }
}

#[cfg(not(loom))]
mod threads {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// All fields equal while it lives, [`DEAD`] afterwards; counts its drops.
    struct Canary {
        fields: [AtomicU64; 16],
        drops: Arc<AtomicUsize>,
    }

    const DEAD: u64 = u64::MAX;

    impl Canary {
        fn new(value: u64, drops: &Arc<AtomicUsize>) -> Self {
            Self { fields: std::array::from_fn(|_| AtomicU64::new(value)), drops: drops.clone() }
        }

        fn read(&self) -> u64 {
            let first = self.fields[0].load(Relaxed);
            assert!(first != DEAD, "a reader holds a freed value");
            assert!(self.fields.iter().all(|field| field.load(Relaxed) == first), "a reader sees a torn value");
            first
        }
    }

    impl Drop for Canary {
        fn drop(&mut self) {
            self.fields.iter().for_each(|field| field.store(DEAD, Relaxed));
            self.drops.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn values_wait_for_every_online_reader() {
        let drops = Arc::default();
        let (mut publisher, mut readers) = publication(Canary::new(0, &drops), 2);
        let publish = |publisher: &mut Publisher<Canary>, value| {
            publisher.publish(Canary::new(value, &drops));
        };
        publish(&mut publisher, 1);
        assert_eq!((publisher.reclaim(), publisher.waiting()), (1, 0), "readers begin offline");

        assert_eq!(readers[0].snapshot().read(), 1);
        publish(&mut publisher, 2);
        assert_eq!(readers[1].snapshot().read(), 2);
        publish(&mut publisher, 3);
        assert_eq!((publisher.reclaim(), publisher.waiting()), (1, 2), "reader 0 holds value 1");
        assert_eq!(readers[0].snapshot().read(), 3);
        assert_eq!((publisher.reclaim(), publisher.waiting()), (2, 1), "reader 1 holds value 2");
        readers[1].go_offline();
        assert_eq!((publisher.reclaim(), publisher.waiting()), (3, 0));

        publish(&mut publisher, 4);
        assert_eq!((publisher.reclaim(), publisher.waiting()), (3, 1), "reader 0 holds value 3");
        readers.remove(0);
        assert_eq!((publisher.reclaim(), publisher.waiting()), (4, 0), "a reader that is gone holds nothing");
        assert_eq!(drops.load(Relaxed), 4);
    }

    #[test]
    fn readers_under_load_never_see_freed_or_torn_values() {
        const VALUES: u64 = 300_000;
        let drops = Arc::new(AtomicUsize::new(0));
        let done = AtomicBool::new(false);
        let (mut publisher, readers) = publication(Canary::new(0, &drops), 3);
        std::thread::scope(|scope| {
            for (number, mut reader) in readers.into_iter().enumerate() {
                let done = &done;
                scope.spawn(move || {
                    let mut last = 0;
                    for turn in 0_u64.. {
                        let over = done.load(std::sync::atomic::Ordering::Acquire);
                        let value = reader.snapshot();
                        let first = value.read();
                        assert!(first >= last, "time runs backwards: {first} after {last}");
                        last = first;
                        assert_eq!(value.read(), first);
                        if over {
                            break;
                        }
                        // One reader is always online, the others sleep often.
                        if number > 0 && turn.is_multiple_of(number as u64 * 3) {
                            reader.go_offline();
                            std::thread::yield_now();
                        }
                    }
                    assert_eq!(last, VALUES);
                });
            }
            for value in 1..=VALUES {
                publisher.publish(Canary::new(value, &drops));
                if value % 3 == 0 {
                    publisher.reclaim();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        publisher.reclaim();
        assert_eq!((publisher.waiting(), drops.load(Relaxed) as u64), (0, VALUES));
        drop(publisher);
        assert_eq!(drops.load(Relaxed) as u64, VALUES + 1);
    }
}

/// Values whose cells outlive them, so that a model that frees too early is caught by loom and not by chance: loom
/// fails when a read is not ordered before the write of the drop, or not after the write of the making.
#[cfg(loom)]
mod loom_models {
    use std::sync::Arc as Plain;

    use loom::{cell::UnsafeCell, thread};

    use super::*;

    const DEAD: u64 = u64::MAX;
    /// Values there are in a model: the first and two publications.
    const VALUES: u64 = 3;

    struct Cell(UnsafeCell<u64>);

    // SAFETY: loom checks every access against the order of the model.
    unsafe impl Sync for Cell {}

    // SAFETY: as above.
    unsafe impl Send for Cell {}

    impl Cell {
        fn set(&self, value: u64) {
            // SAFETY: loom fails the model if anybody else is at the cell.
            self.0.with_mut(|cell| unsafe { *cell = value });
        }

        fn get(&self) -> u64 {
            // SAFETY: loom fails the model if anybody writes the cell.
            self.0.with(|cell| unsafe { *cell })
        }
    }

    /// A std `Arc`, so that loom does not take its counting for synchronisation.
    type Cells = Plain<[Cell; VALUES as usize]>;

    fn cells() -> Cells {
        Plain::new(std::array::from_fn(|_| Cell(UnsafeCell::new(DEAD))))
    }

    /// The padding keeps the allocator's own words off the fields, should a broken scheme read after a free.
    struct Canary {
        _padding: [u64; 8],
        number: u64,
        cells: Cells,
    }

    impl Canary {
        fn new(number: u64, cells: &Cells) -> Self {
            cells[number as usize].set(number);
            Self { _padding: [0; 8], number, cells: cells.clone() }
        }

        fn check(&self) {
            assert_eq!(self.cells[self.number as usize].get(), self.number, "a reader holds a freed or torn value");
        }
    }

    impl Drop for Canary {
        fn drop(&mut self) {
            self.cells[self.number as usize].set(DEAD);
        }
    }

    fn model(
        readers: usize,
        preemptions: Option<usize>,
        read: fn(Subscriber<Canary>),
        write: fn(&mut Publisher<Canary>, &Cells),
    ) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = preemptions;
        builder.check(move || {
            let cells = cells();
            let (mut publisher, subscribers) = publication(Canary::new(0, &cells), readers);
            let threads: Vec<_> =
                subscribers.into_iter().map(|subscriber| thread::spawn(move || read(subscriber))).collect();
            write(&mut publisher, &cells);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            publisher.reclaim();
            assert_eq!(publisher.waiting(), 0, "all readers are gone");
            drop(publisher);
            cells.iter().for_each(|cell| assert_eq!(cell.get(), DEAD, "a value leaked"));
        });
    }

    fn publish(publisher: &mut Publisher<Canary>, number: u64, cells: &Cells) {
        publisher.publish(Canary::new(number, cells));
    }

    /// Orderings 1, 2 and 3: one turn after the other, both publications, a reclaim after each.
    #[test]
    fn online_turns() {
        model(
            1,
            None,
            |mut reader| {
                reader.snapshot().check();
                reader.snapshot().check();
            },
            |publisher, cells| {
                publish(publisher, 1, cells);
                publisher.reclaim();
                publish(publisher, 2, cells);
                publisher.reclaim();
            },
        );
    }

    /// Ordering 4: offline and back between turns.
    #[test]
    fn sleeping_between_turns() {
        model(
            1,
            None,
            |mut reader| {
                reader.snapshot().check();
                reader.go_offline();
                reader.snapshot().check();
            },
            |publisher, cells| {
                publish(publisher, 1, cells);
                publisher.reclaim();
                publish(publisher, 2, cells);
                publisher.reclaim();
            },
        );
    }

    /// The slowest reader decides.
    #[test]
    fn two_readers() {
        model(
            2,
            Some(2),
            |mut reader| {
                reader.snapshot().check();
                reader.snapshot().check();
            },
            |publisher, cells| {
                publish(publisher, 1, cells);
                publish(publisher, 2, cells);
                publisher.reclaim();
            },
        );
    }
}
