//! Panics of this thread: a task that panics ends alone and in silence, and with it a promise.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

use crate::limits::SIM_BROKEN_MAX;

thread_local! {
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    static MUTED: Cell<bool> = const { Cell::new(false) };
}

/// What panics from now on on this thread is of no interest, or is again.
pub(super) fn mute(muted: bool) {
    MUTED.set(muted);
}

/// Collects them from its beginning to its end.
#[derive(Debug)]
pub(super) struct Watch;

impl Watch {
    pub(super) fn begin() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                let seen = SEEN.with_borrow_mut(|seen| match seen {
                    Some(_) if MUTED.get() => true,
                    Some(seen) if seen.len() < SIM_BROKEN_MAX => {
                        seen.push(info.to_string());
                        true
                    }
                    Some(_) => true,
                    None => false,
                });
                if !seen {
                    before(info);
                }
            }));
        });
        SEEN.set(Some(Vec::new()));
        Self
    }

    /// What panicked.
    pub(super) fn end(self) -> Vec<String> {
        SEEN.take().unwrap_or_default()
    }
}
