//! `altitude map apply`: changes from a file, made all or none.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use altitude_control::api::{
    Operation,
    client::{Client, ClientError, Performed},
};
use serde_json::json;

use super::{MapError, print};
use crate::cli;

/// What the file is called in messages.
fn name(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

/// Octets of a file: a batch of mappings with all the RLOCs that they can have is shorter.
const OCTETS_MAX: u64 = 8 << 20;

fn read(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(OCTETS_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > OCTETS_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {} MiB", OCTETS_MAX >> 20)));
    }
    Ok(text)
}

/// Makes the changes, or as a trial asks whether they could be made, and says so.
pub(super) fn apply(api: &Path, file: &Path, trial: bool, json: bool) -> Result<(), MapError> {
    let named = name(file);
    let text = if file == Path::new("-") { read(io::stdin().lock()) } else { fs::File::open(file).and_then(read) };
    let text = text.map_err(|error| MapError::File(format!("{named} cannot be read: {error}")))?;
    let changes = cli::changes(&text).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(|(number, why)| format!("{named}:{number}: {why}")).collect();
        MapError::File(lines.join("\n"))
    })?;
    let operations: Vec<Operation> = changes.iter().map(|(_, operation)| operation.clone()).collect();
    // Whoever types changes in must not hold one of the router's connections meanwhile.
    let mut client = Client::connect(api)?;
    let done = if trial { client.try_all(&operations) } else { client.perform_all(&operations) };
    let performed = done.map_err(|error| match error {
        ClientError::BatchRefused { at, text, .. } => {
            let line = changes.get(at).map_or(0, |(number, _)| *number);
            MapError::File(format!("{named}:{line}: {text}; nothing was changed"))
        }
        other => other.into(),
    })?;
    print(&said(&performed, trial, json))
}

/// What is printed when it went well.
fn said(Performed { generation, count, .. }: &Performed, trial: bool, json: bool) -> String {
    let done = if trial { "dry-run" } else { "apply" };
    if json {
        return format!("{}\n", json!({ "done": done, "generation": generation, "count": count }));
    }
    let many = format!("{count} change{}", if *count == 1 { "" } else { "s" });
    if trial { format!("{many} can be made; nothing was changed\n") } else { format!("{many} made\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_and_what_could_be_are_told_apart() {
        let performed = |count| Performed { generation: 17, entry: None, count };
        assert_eq!(said(&performed(3), false, false), "3 changes made\n");
        assert_eq!(said(&performed(1), true, false), "1 change can be made; nothing was changed\n");
        assert_eq!(said(&performed(3), false, true), "{\"count\":3,\"done\":\"apply\",\"generation\":17}\n");
        assert_eq!(said(&performed(3), true, true), "{\"count\":3,\"done\":\"dry-run\",\"generation\":17}\n");
    }

    #[test]
    fn a_file_that_never_ends_is_refused() {
        let error = read(io::repeat(b' ')).unwrap_err();
        assert!(error.to_string().contains("more than 8 MiB"), "{error}");
        assert_eq!(read(&b"del 2.2.0.0/16\n"[..]).unwrap(), "del 2.2.0.0/16\n");
    }
}
