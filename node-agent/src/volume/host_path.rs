//! `hostPath` and its types.

use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// Checks the type, and makes what `…OrCreate` asks for.
pub(super) fn check(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let wanted = source.type_.as_deref().unwrap_or("");
    let text = &source.path;
    let file_type = std::fs::metadata(path).map(|meta| meta.file_type()).ok();
    let is = |test: fn(&std::fs::FileType) -> bool| file_type.as_ref().is_some_and(test);
    let fails = |what: &str| Err(format!("hostPath type check failed: {text} is not {what}"));
    match wanted {
        "" => Ok(()),
        "DirectoryOrCreate" if file_type.is_none() => std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| error.to_string()),
        "FileOrCreate" if file_type.is_none() => std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o644)
            .open(path)
            .map(|_| ())
            .map_err(|error| error.to_string()),
        "Directory" | "DirectoryOrCreate" if !is(std::fs::FileType::is_dir) => fails("a directory"),
        "File" | "FileOrCreate" if !is(std::fs::FileType::is_file) => fails("a file"),
        "Socket" if !is(FileTypeExt::is_socket) => fails("a socket file"),
        "CharDevice" if !is(FileTypeExt::is_char_device) => fails("a character device"),
        "BlockDevice" if !is(FileTypeExt::is_block_device) => fails("a block device"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(()),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        std::fs::write(dir.join("file"), "").unwrap();
        for (name, kind, expected) in [
            ("none", "", None),
            ("none", "Directory", Some("is not a directory")),
            ("made", "DirectoryOrCreate", None),
            ("made", "Directory", None),
            ("made", "File", Some("is not a file")),
            ("made-file", "FileOrCreate", None),
            ("file", "File", None),
            ("file", "Socket", Some("is not a socket file")),
            ("file", "Nonsense", Some("invalid volume type")),
        ] {
            let path = dir.join(name).to_string_lossy().into_owned();
            let source = HostPathVolumeSource { path, type_: Some(kind.to_owned()) };
            match (check(&source), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => assert!(error.contains(part), "{name}: {error}"),
                (got, _) => panic!("{name} {kind}: {got:?}"),
            }
        }
    }
}
