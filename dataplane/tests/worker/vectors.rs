//! The data-plane vectors, whole frames: octets that tshark judged, not our own builder.

use altitude_dataplane::cache::{Delivery, Forwarding};

use crate::{packets::*, world::*};

pub(crate) fn frame_of(id: &str) -> Vec<u8> {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../vectors/vectors.json")).unwrap();
    let vector = vectors.as_array().unwrap().iter().find(|vector| vector["id"] == id).unwrap();
    let hex = vector["frame_hex"].as_str().unwrap().as_bytes();
    hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// ETR-1, ETR-3, ETR-9, G-16.
#[test]
fn each_vector_is_delivered_or_dropped_as_it_should() {
    // Vector, octets of outer headers, why it is dropped (nothing: delivered).
    let table = [
        ("D01", 36, None),
        ("D02", 56, None),
        ("D03", 36, None),
        ("D04", 56, None),
        ("D05", 36, None),
        ("D06", 36, Some("outer-not-ours")), // to the other side
        ("D07", 36, None),
        ("D08", 36, None),
        ("D09", 36, Some("inner-bad-header")), // Ethernet by LISP-GPE
        ("D10", 36, Some("encrypted")),
        ("D11", 36, None),
        ("D12", 36, Some("ecn-not-capable")),
        ("D13", 36, Some("outer-not-ours")), // a Data-Probe, off by default
        ("X01", 0, Some("not-lisp")),        // control messages are not the dataplane's
        ("X10", 0, Some("udp-bad-length")),
        ("X11", 36, Some("inner-bad-header")),
    ];
    for (id, outer, dropped) in table {
        let mut world = World::new();
        for number in [0, 7, 0xabcd] {
            for eid in ["198.51.100.0/24", "2001:db8:b::/48"] {
                let local = Forwarding::Local(Delivery::Adjacent(adjacency(SITE_PORT, 1500)));
                world.learn(prefix_in(number, eid), local);
            }
        }
        let frame = frame_of(id);
        let mut sent = world.pass(CORE_PORT, frame.clone());
        assert_eq!(world.drops().into_keys().next(), dropped, "{id}");
        match dropped {
            Some(_) => assert_eq!(sent, []),
            None => {
                let mut inner = frame[14 + outer..].to_vec();
                if id == "D11" {
                    inner[1] |= 3;
                    seal(&mut inner);
                }
                let (port, delivered) = sent.remove(0);
                assert_eq!((port, &delivered[14..]), (SITE_PORT, &inner[..]), "{id}");
            }
        }
        world.settle_accounts();
    }
}

#[test]
fn we_send_what_vector_d04_shows() {
    let mut world = World::new();
    let local = Forwarding::Local(Delivery::Unresolved);
    world.learn(prefix("2001:db8:a::/48"), local);
    let [from, to] = ["2001:db8:ffff::1", "2001:db8:ffff::2"].map(|address| address.parse().unwrap());
    world.learn_tunnel(prefix("2001:db8:b::/48"), from, to, 0, &adjacency(CORE_PORT, 1500));
    let vector = frame_of("D04");
    let mut inner = vector[14 + 56..].to_vec();
    inner[7] += 1;
    let mut sent = world.through(SITE_PORT, frame(SITE, HOST, &[], &inner), CORE_PORT);
    // The source port is the flow's.
    sent[14 + 40..14 + 42].copy_from_slice(&vector[14 + 40..14 + 42]);
    assert_eq!(sent[14..], vector[14..]);
}
