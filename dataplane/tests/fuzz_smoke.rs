//! A bounded run of the fuzz targets on every build: seeded mutations of all vectors, and every input that once failed.

use std::{fs, path::Path};

#[path = "vectors/load.rs"]
mod load;
#[path = "../fuzz/mutate.rs"]
mod mutate;
#[path = "../fuzz/targets.rs"]
mod targets;

/// Inputs for each target and each seed.
const INPUTS: usize = 100_000;

#[test]
fn mutated_vectors_break_nothing() {
    let vectors = load::all();
    let frames: Vec<Vec<u8>> = vectors.iter().map(|vector| vector.frame.clone()).collect();
    // Each header at the front: behind Ethernet, behind IP, and the message alone.
    let parts: Vec<Vec<u8>> = vectors
        .iter()
        .flat_map(|vector| {
            let ip = if vector.frame[12] == 0x08 { 20 } else { 40 };
            [vector.frame[14..].to_vec(), vector.frame[14 + ip..].to_vec(), vector.payload.clone()]
        })
        .collect();
    for (name, target) in targets::ALL {
        let mut read = 0;
        for (seed, corpus) in [(1, &frames), (2, &parts)] {
            let mut mutator = mutate::Mutator::new(corpus, seed);
            read += (0..INPUTS).filter(|_| target(&mutator.input())).count();
        }
        println!("{name}: {} inputs, {read} of them read", 2 * INPUTS);
        assert!(read > INPUTS / 100, "{name}: hardly anything could be read, so hardly anything was tried");
    }
}

#[test]
fn what_once_failed_does_not_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crashes");
    for entry in fs::read_dir(folder).expect("the folder is checked in") {
        let octets = fs::read(entry.expect("a readable folder").path()).expect("a readable file");
        for (_, target) in targets::ALL {
            target(&octets);
        }
    }
}
