//! SELinux with the policy that our guests have (`tests/guests/selinux.cil`).

use std::fs;

/// Whether the kernel enforces a policy.
fn is_enforced() -> bool {
    fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1")
}

/// Makes the process one of those that may have no executable memory but that of files.
pub fn deny_execmem() -> Result<(), String> {
    if !is_enforced() {
        return Err("the kernel enforces no policy of SELinux".to_owned());
    }
    let refused = |error| format!("no domain that denies execmem: {error}");
    fs::write("/proc/self/attr/current", "u:r:confined").map_err(refused)?;
    let domain = fs::read_to_string("/proc/self/attr/current").map_err(refused)?;
    assert_eq!(domain.trim_end_matches(['\0', '\n']), "u:r:confined");
    Ok(())
}
