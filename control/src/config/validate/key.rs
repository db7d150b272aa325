//! Shared keys, and the files that secrets lie in.

use std::{os::unix::fs::PermissionsExt, path::Path};

use super::{Findings, Unique, values};
use crate::{
    config::{AlgorithmName, Given, KeyDraft, LegacyName, Place},
    wire::{Algorithm, Form, Key},
};

/// Key ID unless told otherwise.
const KEY_ID: u8 = 1;
/// Longest secret, octets. An HMAC hashes what is longer than its block, 64 octets, so more adds nothing.
const SECRET_MAX: usize = 256;
/// Most keys of one peer: an old and a new one, and some in reserve.
const KEYS_MAX: usize = 8;
/// Permission bit: anybody may read.
const READABLE_BY_OTHERS: u32 = 0o004;

/// The keys shared with one peer, in the order given: `key = { … }` or `keys = [ … ]`, or none of both. `owner` names the
/// peer in findings, `at` is its place.
pub(super) fn keys(
    owner: &str,
    at: &Place,
    (one, many): (Option<&KeyDraft>, Option<&[KeyDraft]>),
    folder: &Path,
    findings: &mut Findings,
) -> Option<Vec<Key>> {
    let given = match (one, many) {
        (None, None) => &[],
        (Some(one), None) => std::slice::from_ref(one),
        (None, Some(many)) => many,
        (Some(_), Some(_)) => {
            findings.wrong(at, format!("{owner} has both key and keys"), "keep one: keys = [...] takes several");
            return None;
        }
    };
    if many.is_some_and(<[_]>::is_empty) {
        findings.wrong(at, format!("the keys of {owner} are an empty list"), "give one, or take the line away");
    }
    if given.len() > KEYS_MAX {
        let what = format!("{} keys of {owner} are more than {KEYS_MAX}", given.len());
        findings.wrong(at, what, "take away those that are no longer in use");
    }
    let mut seen = Unique::new();
    let keys: Vec<Option<Key>> = given.iter().map(|item| key(owner, at, item, folder, findings)).collect();
    for (key, item) in keys.iter().zip(given) {
        if let Some(key) = key.as_ref().filter(|key| !seen.first(key.id)) {
            let place = item.id.as_ref().map_or(at, |id| &id.place);
            let what = format!("Key ID {} of {owner} is given twice", key.id);
            findings.wrong(place, what, "give each key an ID of its own: messages name their key by it");
        }
    }
    keys.into_iter().collect()
}

fn key(owner: &str, at: &Place, item: &KeyDraft, folder: &Path, findings: &mut Findings) -> Option<Key> {
    let id = item.id.as_ref().map_or(Some(KEY_ID), |given| values::number(given, "Key ID", 0..=255, findings));
    let algorithm = match &item.algorithm {
        None => Some(AlgorithmName::Sha256),
        Some(given) => values::choice(given, "algorithm", findings),
    };
    let secret = secret(owner, at, item, folder, findings);
    let algorithm = match algorithm? {
        AlgorithmName::Sha256Hkdf => Algorithm::Sha256Hkdf,
        AlgorithmName::Sha256 => Algorithm::Sha256,
        AlgorithmName::Sha1 => Algorithm::Sha1,
    };
    Some(Key::new(id?, algorithm, secret?.as_bytes()))
}

/// The secret, from the configuration or from a file of its own. It is part of no finding.
fn secret(owner: &str, at: &Place, item: &KeyDraft, folder: &Path, findings: &mut Findings) -> Option<String> {
    let (place, secret) = match (&item.secret, &item.secret_file) {
        (Some(given), None) => (&given.place, given.value.0.clone()),
        (None, Some(file)) => (&file.place, first_line("secret", file, folder, findings)?),
        (Some(_), Some(file)) => {
            let what = format!("a key of {owner} has both a secret and a secret file");
            findings.wrong(&file.place, what, "keep one");
            return None;
        }
        (None, None) => {
            let place = item.id.as_ref().map_or(at, |id| &id.place);
            let what = format!("a key of {owner} has no secret");
            findings.wrong(place, what, "add secret-file = \"PATH\": a file whose first line is the secret");
            return None;
        }
    };
    if (1..=SECRET_MAX).contains(&secret.len()) {
        return Some(secret);
    }
    let wrong = if secret.is_empty() { "empty" } else { "too long" };
    let what = format!("the secret of {owner} is {wrong}");
    findings.wrong(place, what, format!("give 1 to {SECRET_MAX} octets, the same at both ends"));
    None
}

/// The first line of the file that a `kind` (password, secret) lies in. Paths in a configuration file start at its folder.
pub(super) fn first_line(kind: &str, file: &Given<String>, folder: &Path, findings: &mut Findings) -> Option<String> {
    let path = match file.place {
        Place::File { .. } => folder.join(&file.value),
        Place::Flag(_) | Place::Whole => file.value.clone().into(),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let others = |mode: u32| mode & READABLE_BY_OTHERS != 0;
            if std::fs::metadata(&path).is_ok_and(|about| others(about.permissions().mode())) {
                let what = format!("{kind} file {} can be read by anybody here", path.display());
                findings.warn(&file.place, what, format!("chmod o-r {}", path.display()));
            }
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        Err(error) => {
            let why = if error.kind() == std::io::ErrorKind::InvalidData {
                "it is not text".into()
            } else {
                error.to_string()
            };
            let what = format!("{kind} file {} cannot be read: {why}", path.display());
            findings.wrong(&file.place, what, format!("give the path of a file whose first line is the {kind}"));
            None
        }
    }
}

/// What a peer's messages look like, and whether its nonces need not grow; `allowed` are the switches that its kind of peer
/// has.
pub(super) fn legacy(given: &[Given<String>], allowed: &[LegacyName], findings: &mut Findings) -> (Form, bool) {
    let (mut form, mut any_nonce) = (Form::default(), false);
    for name in given {
        match name.value.parse().ok().filter(|switch| allowed.contains(switch)) {
            Some(LegacyName::WholeMac) => form.whole_mac = true,
            Some(LegacyName::RecordsOnly) => form.records_only = true,
            Some(LegacyName::Nonce) => any_nonce = true,
            None => {
                let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
                let what = format!("legacy switch '{}' is unknown here", name.value);
                findings.wrong(&name.place, what, format!("write one of {}", names.join(", ")));
            }
        }
    }
    (form, any_nonce)
}
