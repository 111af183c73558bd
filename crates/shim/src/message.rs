//! The termination message of an instance: what it left in a file, or the end of its log. Limits are the kubelet's.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use podwright_proto::MessageRequest;
use podwright_sys::file;
use podwright_sys::podmount::{self, PodMountError};

use crate::log;

/// Bytes of the file that are taken, from its end.
const MAX_FILE: u64 = 4096;
/// Bytes of the log that are taken, from its end.
const MAX_LOG: usize = 2048;
/// Lines of the log that are taken, from its end.
const MAX_LOG_LINES: usize = 80;
/// Bytes of the log's file that hold as much text, whatever stands before each line (time, stream and tag: 43 bytes).
const LOG_WINDOW: u64 = MAX_LOG as u64 + 64 * (MAX_LOG_LINES as u64 + 1) + (16 << 10);

/// Makes the file, empty, for anybody to write to; where it is bounded, in a tmpfs that holds nothing else.
pub(crate) fn create(from: &MessageRequest) -> io::Result<()> {
    let file = &from.file;
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
        if let Some(bound) = from.bound {
            podmount::small_tmpfs(directory, bound, 1).map_err(|error| error.source)?;
        }
    }
    let open =
        OpenOptions::new().write(true).create(true).truncate(true).custom_flags(nix::libc::O_NOFOLLOW).open(file)?;
    // Past the umask.
    open.set_permissions(Permissions::from_mode(0o666))
}

/// Undoes [`create`].
pub(crate) fn remove(from: &MessageRequest) -> Result<(), PodMountError> {
    let (path, removed) = match (from.bound, from.file.parent()) {
        (Some(_), Some(directory)) => {
            podmount::unmount(directory)?;
            (directory, fs::remove_dir(directory))
        }
        _ => (from.file.as_path(), fs::remove_file(&from.file)),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(PodMountError { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The message of an instance that has ended. A file that cannot be read is no message.
pub(crate) fn read(from: &MessageRequest, failed: bool, log_file: &Path) -> String {
    let text = open(&from.file).and_then(|file| end(file, MAX_FILE)).unwrap_or_default();
    if text.is_empty() && failed && from.fallback_to_log {
        return end_of_log(&log::open_to_read(log_file).and_then(|log| end(log, LOG_WINDOW)).unwrap_or_default());
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn open(path: &Path) -> io::Result<File> {
    let (directory, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
    file::open_to_read(file::directory(directory, Path::new(""))?, name)
}

/// At most so many bytes from the end of a file.
fn end(mut file: File, bytes: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}

/// The last lines of a log in CRI format, without what the format adds. The first line may be cut and is then left out.
fn end_of_log(log: &[u8]) -> String {
    let lines = log.split_inclusive(|byte| *byte == b'\n').rev();
    let mut text: Vec<Vec<u8>> = Vec::new();
    let mut length = 0;
    let mut full_lines = 0;
    for line in lines {
        let mut fields = line.splitn(4, |byte| *byte == b' ').skip(2);
        let (Some(tag), Some(content)) = (fields.next(), fields.next()) else { break };
        let mut content = content.to_vec();
        if tag == b"F" {
            full_lines += 1;
        } else if content.ends_with(b"\n") {
            content.pop();
        }
        if full_lines > MAX_LOG_LINES || length >= MAX_LOG {
            break;
        }
        length += content.len();
        text.push(content);
    }
    text.reverse();
    let text = text.concat();
    String::from_utf8_lossy(&text[text.len().saturating_sub(MAX_LOG)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[(&str, &str)]) -> Vec<u8> {
        let lines = lines.iter().map(|(tag, text)| format!("2026-01-01T00:00:00.000000000Z stdout {tag} {text}\n"));
        lines.collect::<String>().into_bytes()
    }

    #[test]
    fn the_file_comes_first_and_its_end_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log_file) = (dir.path().join("m/app"), dir.path().join("log"));
        fs::write(&log_file, log(&[("F", "from the log")])).unwrap();
        let from = MessageRequest { file: file.clone(), fallback_to_log: true, bound: None };
        create(&from).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o666);
        assert_eq!(read(&from, true, &log_file), "from the log\n");
        assert_eq!(read(&from, false, &log_file), "");
        assert_eq!(read(&MessageRequest { fallback_to_log: false, ..from.clone() }, true, &log_file), "");
        fs::write(&file, format!("BEGIN{}END", "x".repeat(5000))).unwrap();
        let message = read(&from, true, &log_file);
        assert_eq!(message.len(), 4096);
        assert!(message.starts_with('x') && message.ends_with("END"));
        fs::remove_file(&file).unwrap();
        assert_eq!(read(&from, false, &log_file), "");
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        assert_eq!(read(&from, false, &log_file), "");
    }

    #[test]
    fn the_log_gives_eighty_lines_or_two_kibibytes() {
        let many: Vec<String> = (0..99).map(|n| format!("line {n}")).collect();
        let lines: Vec<(&str, &str)> = many.iter().map(|line| ("F", line.as_str())).collect();
        let text = end_of_log(&log(&lines));
        assert_eq!(text.lines().count(), 80);
        assert!(text.starts_with("line 19\n") && text.ends_with("line 98\n"), "{text}");
        let long = "y".repeat(99);
        let text = end_of_log(&log(&[("F", long.as_str()); 59]));
        assert_eq!(text.len(), 2048);
        assert_eq!(end_of_log(&log(&[("F", "a"), ("P", "b"), ("P", "c"), ("F", "d")])), "a\nbcd\n");
        assert_eq!(end_of_log(b""), "");
    }
}
