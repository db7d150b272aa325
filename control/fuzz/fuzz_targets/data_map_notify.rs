#![no_main]

#[allow(dead_code, reason = "each binary runs one target")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    targets::data_map_notify(octets);
});
