//! Small files of what must survive a restart: read whole, replaced whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::explain;

/// Largest file that is read, octets.
const SIZE_MAX: u64 = 64 << 10;

/// The text of a file; `None` if there is none.
///
/// # Errors
/// Those of the file system, and `InvalidData` for what is no text or larger than 64 KiB.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = String::new();
    file.take(SIZE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SIZE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(Some(text))
}

/// Puts `text` in the place of a file, on the disk before this returns; after a crash it is the old one or the new one. The
/// directory is made if it is missing. Both are for the owner alone.
///
/// # Errors
/// Those of the file system, with what to do.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let help = "make the directory writable, or give another with --state-dir";
    replace_quietly(path, text).map_err(|error| explain(&error, &format!("write {}", path.display()), help))
}

fn replace_quietly(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_in_a_folder_that_is_made_for_it() {
        let folder = std::env::temp_dir().join(format!("altitude-state-{}", std::process::id()));
        let path = folder.join("deep").join("x.state");
        assert_eq!(read(&path).unwrap(), None);
        for text in ["a long text", "short"] {
            replace(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().as_deref(), Some(text));
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&path, vec![b'x'; 64 * 1024 + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let error = replace(&path.join("below a file"), "x").unwrap_err().to_string();
        assert!(error.contains("below a file") && error.contains("--state-dir"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
