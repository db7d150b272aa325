//! Batches at a running router.

use altitude_control::api::{Flags, Header};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect as join, recv, send, socket};
use std::os::fd::AsRawFd;

use super::*;

fn add(text: &str) -> Operation {
    Operation::Add(offer(eid(text), 20))
}

fn delete(text: &str) -> Operation {
    Operation::Delete { table: Table::Cache, eid: eid(text), unless_after: None }
}

/// Which operation could not be done, and its error number.
fn failed(result: Result<impl std::fmt::Debug, ClientError>) -> (usize, u32) {
    match result {
        Err(ClientError::BatchRefused { at, errno, .. }) => (at, errno),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_batch_is_done_whole_or_not_at_all() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let flags = "--rloc 240.0.254.30 --alt-tunnel alt0,remote=240.0.254.10 --rloc-probing off --map-cache-max 300";
    let flags: Vec<String> = flags.split(' ').map(str::to_owned).collect();
    let router = Router::start("batch", &lab.alt, &flags, lab.folder()).unwrap();
    let (mut writer, mut listener) = (connect(&router), connect(&router));
    writer.perform(&add("1.0.0.0/8")).unwrap();
    let seen = writer.find(Table::Cache, &eid("1.0.0.0/8")).map(|_| writer.generation()).unwrap();
    listener.subscribe(&[Filter::of(&[Op::ADD, Op::CHANGE, Op::DELETE, Op::FLUSH])], false).unwrap();
    let before = read_table(&mut writer);

    let change = |last, unless_after| Operation::Change { offer: offer(eid("1.0.0.0/8"), last), unless_after };
    let refusals: [(&[Operation], (usize, &str)); 4] = [
        (&[add("2.0.0.0/8"), delete("1.0.0.0/8"), delete("1.0.0.0/8")], (2, "ENOENT")),
        (&[add("2.0.0.0/8"), add("1.0.0.0/8"), add("3.0.0.0/8")], (1, "EEXIST")),
        (&[change(21, Some(seen)), change(22, Some(seen))], (1, "EAGAIN")),
        (
            &[delete("1.0.0.0/8"), Operation::Add(Offer { table: Table::Database, ..offer(eid("4.0.0.0/8"), 20) })],
            (1, "EINVAL"),
        ),
    ];
    for (operations, (at, name)) in refusals {
        assert_eq!(failed(writer.perform_all(operations)), (at, libc_errno(name)), "{operations:?}");
        assert_eq!(read_table(&mut writer), before, "{operations:?}");
    }

    // What is told comes once for each prefix, as it is in the end.
    let brief = Offer { ephemeral: true, ..offer(eid("2.2.0.0/16"), 22) };
    let done = [add("2.0.0.0/8"), Operation::Add(brief), change(21, Some(seen)), add("9.0.0.0/8"), delete("9.0.0.0/8")];
    assert_eq!(writer.perform_all(&done).unwrap().count, 5);
    let told = [(); 3].map(|()| match next_change(&mut listener) {
        Event::Added(entry) => ("add", entry.eid, entry.ephemeral),
        Event::Changed(entry) => ("change", entry.eid, entry.ephemeral),
        other => panic!("{other:?}"),
    });
    let [inner, first, second] = ["2.2.0.0/16", "1.0.0.0/8", "2.0.0.0/8"].map(eid);
    assert_eq!(told, [("add", inner, true), ("change", first, false), ("add", second, false)]);
    assert_eq!(read_table(&mut writer).len(), 3);

    // A connection that ends in the middle leaves nothing of its batch: neither what it sent nor what it owned.
    let body = [3, 0, 8, 0, 0, 1, 8, 0, 1, 0, 0, 0];
    let flags = Flags::ATOMIC.with(Flags::MORE);
    let half = Header { op: Op::DELETE, flags, errno: 0, sequence: 1, generation: 0 }.message(&body);
    let hello = Header { op: Op::HELLO, flags: Flags::default(), errno: 0, sequence: 2, generation: 0 }.message(&[]);
    let raw = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    join(raw.as_raw_fd(), &UnixAddr::new(&router.api).unwrap()).unwrap();
    for message in [&half, &hello] {
        send(raw.as_raw_fd(), message, MsgFlags::empty()).unwrap();
    }
    let mut reply = [0; 4096];
    let length = recv(raw.as_raw_fd(), &mut reply, MsgFlags::empty()).unwrap();
    assert_eq!(Header::split(&reply[..length]).unwrap().0.sequence, 2, "the half is not answered, and HELLO is");
    drop(raw);
    drop(writer);
    let mut writer = connect(&router);
    lab::wait_until("the leave of what was ephemeral", LIMIT, || {
        let left = read_table(&mut writer);
        Ok((left.keys().copied().collect::<Vec<_>>() == [eid("1.0.0.0/8"), eid("2.0.0.0/8")]).then_some(()))
    })
    .unwrap();

    // Entries that stay fill the map-cache: the first that finds no room is named, and none has come.
    let place = |number: usize| add(&format!("10.{}.{}.0/24", number >> 8, number & 255));
    let many: Vec<Operation> = (0..256).map(place).collect();
    writer.perform_all(&many).unwrap();
    let more: Vec<Operation> = (256..300).map(place).collect();
    assert_eq!(failed(writer.perform_all(&more)), (42, libc_errno("ENOSPC")));
    assert_eq!(read_table(&mut writer).len(), 258);
    let swap: Vec<Operation> = many
        .iter()
        .map(|operation| match operation {
            Operation::Add(offer) => {
                Operation::Delete { table: Table::Cache, eid: offer.mapping.eid, unless_after: None }
            }
            _ => unreachable!("all are ADD"),
        })
        .collect();
    assert_eq!(writer.perform_all(&swap).unwrap().count, 256);
    assert_eq!(failed(writer.perform_all(&(0..257).map(place).collect::<Vec<_>>())), (256, libc_errno("ENOSPC")));
    assert_eq!(read_table(&mut writer).len(), 2);
}
