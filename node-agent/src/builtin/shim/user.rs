//! Who a container's process is: the pod's numbers and names, else the image's, looked up in the container's own
//! `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::builtin::record::ContainerRecord;

/// A resolved user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Resolves the user of a container whose root is mounted at `rootfs`. The error is for people.
pub(super) fn resolve(record: &ContainerRecord, rootfs: &Path) -> Result<User, String> {
    let security = &record.config.security;
    let passwd = read_in(rootfs, "etc/passwd");
    let group = read_in(rootfs, "etc/group");
    let image = record.image_config.user.clone();
    let text = match (security.run_as_user, security.run_as_username.as_str()) {
        (Some(uid), _) => uid.to_string(),
        (None, "") => image,
        (None, name) => name.to_owned(),
    };
    let mut user = lookup(&text, &passwd, &group)?;
    if let Some(gid) = security.run_as_group {
        user.gid = u32::try_from(gid).map_err(|_| format!("bad group {gid}"))?;
    }
    if security.strict_groups {
        user.groups.clear();
    }
    for gid in &security.supplemental_groups {
        user.groups.push(u32::try_from(*gid).map_err(|_| format!("bad group {gid}"))?);
    }
    user.groups.push(user.gid);
    user.groups.sort_unstable();
    user.groups.dedup();
    Ok(user)
}

/// `user[:group]` against the files' texts.
fn lookup(text: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_name) = text.split_once(':').unwrap_or((text, ""));
    let mut user = User::default();
    if name.is_empty() {
        user.groups = memberships("root", group);
    } else {
        let number: Option<u32> = name.parse().ok();
        let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let entry = lines.filter(|f| f.len() >= 4).find(|f| {
            f[0] == name || (number.is_some() && f[2].parse() == Ok(number.unwrap_or(0)))
        });
        match (entry, number) {
            (Some(fields), _) => {
                user.uid = fields[2].parse().map_err(|_| format!("bad passwd entry for {name}"))?;
                user.gid = fields[3].parse().map_err(|_| format!("bad passwd entry for {name}"))?;
                user.groups = memberships(fields[0], group);
            }
            (None, Some(uid)) => user.uid = uid,
            (None, None) => return Err(format!("no users found: unable to find user {name}")),
        }
    }
    if !group_name.is_empty() {
        user.gid = match group_name.parse() {
            Ok(gid) => gid,
            Err(_) => gid_of(group_name, group)
                .ok_or_else(|| format!("no groups found: unable to find group {group_name}"))?,
        };
    }
    Ok(user)
}

fn gid_of(name: &str, group: &str) -> Option<u32> {
    group.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() >= 3 && fields[0] == name).then(|| fields[2].parse().ok()).flatten()
    })
}

fn memberships(user: &str, group: &str) -> Vec<u32> {
    let lines = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines
        .filter(|f| f.len() >= 4 && f[3].split(',').any(|member| member == user))
        .filter_map(|f| f[2].parse().ok())
        .collect()
}

/// A file of the container, read without leaving its root. Empty when there is none; only the first MiB counts.
fn read_in(rootfs: &Path, path: &str) -> String {
    let open = || {
        let root = rustix::fs::open(rootfs, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    let mut text = Vec::new();
    if let Ok(fd) = open() {
        let _ = File::from(fd).take(1 << 20).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_resolve_as_in_docker() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/false\n";
        let group = "root:x:0:\nwww:x:50:web,other\n";
        let user = |uid, gid, groups: &[u32]| User { uid, gid, groups: groups.to_vec() };
        let cases = [
            ("", user(0, 0, &[])),
            ("web", user(33, 34, &[50])),
            ("33", user(33, 34, &[50])),
            ("1000", user(1000, 0, &[])),
            ("web:www", user(33, 50, &[50])),
            ("1000:2000", user(1000, 2000, &[])),
        ];
        for (text, want) in cases {
            assert_eq!(lookup(text, passwd, group), Ok(want), "{text}");
        }
        assert!(
            lookup("nobody", passwd, group).unwrap_err().contains("unable to find user nobody")
        );
    }
}
