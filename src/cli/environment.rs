//! The process's own environment.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Begins anew without the variables of AWS's that are set and empty, if there are any.
///
/// Jenkins exports empty strings for what isn't set, and here they mean just that. The SDK takes them for values: for an empty
/// profile, or an endpoint of which it says in a panic that it is none. What a process finds in its environment can be
/// changed safely only before it runs. Goes on as it is where this can't be done.
pub(super) fn without_empty() {
    let is_empty =
        |(name, value): &(OsString, OsString)| value.is_empty() && name.to_string_lossy().starts_with("AWS_");
    let empty: Vec<OsString> = env::vars_os().filter(is_empty).map(|(name, _)| name).collect();
    let (false, Ok(program)) = (empty.is_empty(), env::current_exe()) else { return };
    let mut argv = env::args_os();
    let mut again = Command::new(program);
    again.arg0(argv.next().unwrap_or_default()).args(argv);
    for name in empty {
        again.env_remove(name);
    }
    // Comes back only if it failed.
    let _ = again.exec();
}
