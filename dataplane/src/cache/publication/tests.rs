//! With std: counting and poisoned values under real threads. With `--cfg loom`: every interleaving of small scripts.

use super::*;

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
            publisher.publish(Canary::new(value, &drops)).ok().expect("there is room");
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
    fn limbo_is_bounded_and_a_refused_value_comes_back() {
        let (mut publisher, mut readers) = publication(0, 1);
        readers[0].snapshot();
        for value in 1..=LIMBO_MAX {
            assert_eq!(publisher.publish(value), Ok(value as u64));
        }
        assert_eq!(publisher.publish(7), Err(7));
        publisher.reclaim();
        assert_eq!((publisher.publish(7), publisher.waiting()), (Err(7), LIMBO_MAX));
        assert_eq!(*readers[0].snapshot(), LIMBO_MAX);
        publisher.reclaim();
        assert_eq!((publisher.publish(7).is_ok(), *readers[0].snapshot()), (true, 7));
    }

    #[test]
    fn either_end_may_go_first_and_all_is_freed_once() {
        let drops = Arc::default();
        let scene = || {
            let (mut publisher, mut readers) = publication(Canary::new(0, &drops), 2);
            readers[0].snapshot();
            assert!(publisher.publish(Canary::new(1, &drops)).is_ok());
            (publisher, readers)
        };
        let (publisher, readers) = scene();
        drop(readers);
        drop(publisher);
        assert_eq!(drops.swap(0, Relaxed), 2);

        let (mut publisher, mut readers) = scene();
        let held = readers[0].snapshot();
        assert!(publisher.publish(Canary::new(2, &drops)).is_ok());
        drop(publisher);
        assert_eq!((held.read(), drops.load(Relaxed)), (1, 1), "only value 0 was free to go");
        assert_eq!(readers[1].snapshot().read(), 2, "the last value outlives its writer");
        drop(readers);
        assert_eq!(drops.load(Relaxed), 3);
    }

    #[test]
    fn readers_under_load_never_see_freed_or_torn_values() {
        const VALUES: u64 = 100_000;
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
                let mut canary = Canary::new(value, &drops);
                while let Err(refused) = publisher.publish(canary) {
                    canary = refused;
                    std::thread::yield_now();
                    publisher.reclaim();
                }
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
        assert!(publisher.publish(Canary::new(number, cells)).is_ok());
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

    /// The writer goes while a reader still reads; what waits is freed with the last of them.
    #[test]
    fn the_writer_goes_first() {
        loom::model(|| {
            let cells = cells();
            let (mut publisher, mut subscribers) = publication(Canary::new(0, &cells), 1);
            let mut reader = subscribers.remove(0);
            let thread = thread::spawn(move || {
                reader.snapshot().check();
                reader.snapshot().check();
            });
            publish(&mut publisher, 1, &cells);
            publish(&mut publisher, 2, &cells);
            drop(publisher);
            thread.join().unwrap();
            cells.iter().for_each(|cell| assert_eq!(cell.get(), DEAD, "a value leaked"));
        });
    }
}
