//! Asking before something that cannot be undone.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;

/// Asks on the terminal; an error for anything but a yes.
pub fn confirm(question: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("{question} Nobody can be asked here: say --yes");
    }
    drop(write!(io::stderr().lock(), "{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if !["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        bail!("nothing was done");
    }
    Ok(())
}
