//! System call filters of containers: `seccompProfile` of the pod, applied by us as the last thing before the program
//! is executed. A profile that cannot be applied is an error, never ignored.
//!
//! Installing a filter needs `no_new_privs` or `CAP_SYS_ADMIN`. A container without the first keeps the second in its
//! permitted set until its program is executed (see [`needs_admin`]): as it is not in the bounding set, the execution
//! takes it away.
//!
//! A program of another architecture than the machine's (32 bits on a machine of 64) is killed under any filter.

mod default;
pub(super) mod install;
mod profile;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use seccompiler::BpfProgram;

use self::profile::Profile;
use crate::builtin::limits::SECCOMP_PROFILE_BYTES_MAX;
use crate::runtime::{SecurityContext, SecurityProfile};

/// The filters of a container that has these capabilities (`CAP_…`). The error is for people.
pub(super) fn filters(
    security: &SecurityContext,
    capabilities: &[String],
) -> Result<Vec<BpfProgram>, String> {
    if security.privileged {
        return Ok(Vec::new());
    }
    match &security.seccomp {
        SecurityProfile::Unconfined => Ok(Vec::new()),
        SecurityProfile::RuntimeDefault => default::profile(capabilities).filters(),
        SecurityProfile::Localhost(path) => {
            let failed = |why: String| format!("cannot load seccomp profile \"{path}\": {why}");
            let bytes = read(Path::new(path)).map_err(|err| failed(err.to_string()))?;
            Profile::parse(&bytes).and_then(|profile| profile.filters()).map_err(failed)
        }
    }
}

/// Whether the process must have `CAP_SYS_ADMIN` until it executes the container's program.
pub(super) fn needs_admin(security: &SecurityContext) -> bool {
    let confined = security.seccomp != SecurityProfile::Unconfined && !security.privileged;
    confined && !security.no_new_privs
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SECCOMP_PROFILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECCOMP_PROFILE_BYTES_MAX {
        return Err(std::io::Error::other("the file is larger than 1 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_gives_filters_that_the_kernel_takes_in_size() {
        let mut security = SecurityContext::default();
        assert!(filters(&security, &[]).unwrap().is_empty());
        security.seccomp = SecurityProfile::RuntimeDefault;
        assert!(needs_admin(&security));
        let plain = filters(&security, &[]).unwrap();
        let admin = filters(&security, &["CAP_SYS_ADMIN".into()]).unwrap();
        assert_eq!(
            (plain.len(), admin.len()),
            (2, 1),
            "clone3 has an answer of its own without the capability"
        );
        assert!(plain[1].len() < 4096 && plain[1].len() < admin[0].len());
        security.seccomp = SecurityProfile::Localhost("/nonexistent.json".into());
        let err = filters(&security, &[]).unwrap_err();
        assert!(
            err.contains("cannot load seccomp profile \"/nonexistent.json\": No such file"),
            "{err}"
        );
        security.privileged = true;
        assert!(filters(&security, &[]).unwrap().is_empty());
    }
}
