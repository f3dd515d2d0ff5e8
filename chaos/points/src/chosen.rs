//! Points in a program that has them.

use std::cell::RefCell;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{DIED, DIRECTORY, Hook, LISTENS, ORDER, Point, SNAPSHOT_BYTES, TAKEN};

/// Whether this program has its points.
pub const BUILT: bool = true;

/// Between two looks at the order.
const LOOK_EVERY: Duration = Duration::from_millis(10);

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Whether the `fail` crate is to be asked at all.
static ARMED: AtomicBool = AtomicBool::new(false);

/// The code comes by this point.
#[inline]
pub fn pass(point: Point) {
    // A thread that is ending has none any more.
    let hook = HOOK.try_with(|hook| hook.borrow().clone());
    if let Ok(Some(hook)) = hook {
        hook(point);
    }
    if ARMED.load(Ordering::Relaxed) {
        fail::fail_point!(point.name());
    }
}

/// From now on this thread calls this at each point that it passes; with `None` nothing. It may panic, or mark what the
/// thread works for as dead, and passes no points itself while it is called.
pub fn hook(hook: Option<Hook>) {
    HOOK.with(|own| *own.borrow_mut() = hook);
}

/// From now on whoever in this process passes the point calls this: for tests with several masters in one process. It
/// may block.
pub fn everywhere(point: Point, call: impl Fn() + Send + Sync + 'static) {
    // Only an action of another form is refused.
    if fail::cfg_callback(point.name(), call).is_ok() {
        ARMED.store(true, Ordering::Relaxed);
    }
}

/// Follows the orders in the directory that the environment names, if it does: those that are there when this returns
/// already hold.
pub fn obey() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    if fs::write(directory.join(LISTENS), std::process::id().to_string()).is_err() {
        return;
    }
    let mut order = String::new();
    take(&directory, &mut order);
    let look = move || {
        loop {
            std::thread::sleep(LOOK_EVERY);
            take(&directory, &mut order);
        }
    };
    // Without the thread nothing is taken any more, and whoever gave the order sees that.
    drop(std::thread::Builder::new().name("crash-points".to_owned()).spawn(look));
}

/// After how many bytes of log snapshots are to be taken, when the environment says so.
#[must_use]
pub fn snapshot_bytes() -> Option<u64> {
    std::env::var_os(SNAPSHOT_BYTES)?.to_str()?.parse().ok()
}

/// Takes the order that is there now, if it is another one than the last.
fn take(directory: &Path, last: &mut String) {
    let order = fs::read_to_string(directory.join(ORDER)).unwrap_or_default();
    if order == *last {
        return;
    }
    if let Some((point, _)) = read(last) {
        ARMED.store(false, Ordering::Relaxed);
        fail::remove(point.name());
    }
    if let Some((point, times)) = read(&order) {
        let (directory, order, passed) = (directory.to_owned(), order.clone(), AtomicU64::new(0));
        let end = move || {
            if passed.fetch_add(1, Ordering::Relaxed) + 1 == times {
                die(&directory, &order, point);
            }
        };
        // Only an action of another form is refused.
        if fail::cfg_callback(point.name(), end).is_ok() {
            ARMED.store(true, Ordering::Relaxed);
        }
    }
    // Whole or not at all, as the order.
    let beside = directory.join("taken.new");
    if fs::write(&beside, &order).is_ok() {
        drop(fs::rename(&beside, directory.join(TAKEN)));
    }
    *last = order;
}

fn read(order: &str) -> Option<(Point, u64)> {
    let mut words = order.split(' ').skip(1);
    Some((Point::named(words.next()?)?, words.next()?.trim().parse().ok()?))
}

/// Ends the process as `kill -9` does: nothing is unwound, flushed or closed.
fn die(directory: &Path, order: &str, point: Point) -> ! {
    let words = format!("crash point {point}: this process ends here, {}\n", point.what());
    let died = fs::File::options().create(true).append(true).open(directory.join(DIED));
    drop(died.and_then(|mut died| died.write_all(format!("{}\n", order.trim()).as_bytes())));
    drop(std::io::stderr().write_all(words.as_bytes()));
    let own = rustix::process::getpid();
    // Nothing behind the point is carried out.
    while rustix::process::kill_process(own, rustix::process::Signal::KILL).is_ok() {
        std::thread::yield_now();
    }
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_thread_has_its_own_hook() {
        let seen = Rc::new(Cell::new(None));
        let sees = seen.clone();
        hook(Some(Rc::new(move |point| sees.set(Some(point)))));
        std::thread::spawn(|| pass(Point::LogBeforeSync)).join().unwrap();
        assert_eq!(seen.get(), None);
        pass(Point::LogBeforeSync);
        assert_eq!(seen.get(), Some(Point::LogBeforeSync));
        seen.set(None);
        hook(None);
        pass(Point::LogBeforeSync);
        assert_eq!(seen.get(), None);
    }

    #[test]
    fn orders_are_taken_and_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut last = String::new();
        take(path, &mut last);
        assert!(!ARMED.load(Ordering::Relaxed) && !path.join(TAKEN).exists());
        // So often as no test passes it.
        fs::write(path.join(ORDER), "1 log.sweep 1000000").unwrap();
        take(path, &mut last);
        assert!(ARMED.load(Ordering::Relaxed));
        assert_eq!(fs::read_to_string(path.join(TAKEN)).unwrap(), last);
        pass(Point::LogSweep);
        fs::write(path.join(ORDER), "").unwrap();
        take(path, &mut last);
        assert!(!ARMED.load(Ordering::Relaxed));
        assert_eq!(read("3 lunch 1"), None);
        assert_eq!(read("3 log.sweep 7\n"), Some((Point::LogSweep, 7)));
    }
}
