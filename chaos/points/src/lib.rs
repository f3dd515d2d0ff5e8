//! Named places in the code at which a crash hurts most. A program that was built with the feature `on`, or with debug
//! assertions, can be made to end at each; in all others [`pass`] is nothing.
//!
//! Real masters: `quorate chaos run` writes into a file which point a process is to end at ([`obey`]); the `fail` crate
//! holds that. Simulated ones: [`hook`] gives a thread a function of its own that is called at each point that this
//! thread passes, and that may do whatever a crash is there.

mod list;
pub use list::{Point, Who};

/// The directory through which a process is told at which point it is to end: an environment variable.
pub const DIRECTORY: &str = "QUORATE_CRASH_POINTS";

/// File in it: the id of the process that looks there.
pub const LISTENS: &str = "listens";

/// File in it: `NUMBER POINT TIMES`, the point at which the process is to end when it passes it for this time. Empty,
/// or absent: at none. The number tells one order from the next.
pub const ORDER: &str = "order";

/// File in it: the order that the process has taken.
pub const TAKEN: &str = "taken";

/// File in it: a line for each process that ended at a point, with the order.
pub const DIED: &str = "died";

/// Environment variable: bytes of log after which a master takes a snapshot, so that short runs pass the points there.
pub const SNAPSHOT_BYTES: &str = "QUORATE_SNAPSHOT_LOG_BYTES";

/// What a thread calls at each point that it passes.
pub type Hook = std::rc::Rc<dyn Fn(Point)>;

#[cfg(not(any(feature = "on", debug_assertions)))]
mod chosen {
    use super::Point;

    /// Whether this program has its points.
    pub const BUILT: bool = false;

    /// The code comes by this point.
    #[inline(always)]
    pub fn pass(_: Point) {}

    /// What a thread would call at each point that it passes: it passes none.
    #[inline(always)]
    pub fn hook(_: Option<super::Hook>) {}

    /// What whoever passes a point would call: nobody passes it.
    #[inline(always)]
    pub fn everywhere(_: Point, _: impl Fn() + Send + Sync + 'static) {}

    /// Looks for orders; there are none.
    #[inline(always)]
    pub fn obey() {}

    /// After how many bytes of log snapshots are to be taken: as always.
    #[inline(always)]
    #[must_use]
    pub fn snapshot_bytes() -> Option<u64> {
        None
    }
}

#[cfg(any(feature = "on", debug_assertions))]
mod chosen;

pub use chosen::*;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn sources(directory: &Path, found: &mut String) {
        for item in std::fs::read_dir(directory).unwrap() {
            let path = item.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let skipped = ["target", "tests", "chaos", "xtask", ".git"].contains(&name.as_str());
            if path.is_dir() && !skipped {
                sources(&path, found);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                found.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn each_point_of_the_list_is_in_the_code_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut code = String::new();
        sources(&root, &mut code);
        let calls: Vec<&str> = code
            .split("points::pass(Point::")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap_or_default())
            .collect();
        for point in Point::ALL {
            let own = format!("{point:?}");
            let count = calls.iter().filter(|call| **call == own).count();
            assert_eq!(count, 1, "{} is passed at {count} places", point.name());
        }
        // The other way round the compiler knows, unless a call is written in another way.
        assert_eq!(calls.len(), Point::ALL.len());
        assert_eq!(code.matches("points::pass(").count(), calls.len(), "a call is not of a point");
    }

    #[test]
    fn names_are_distinct_and_found() {
        for point in Point::ALL {
            assert_eq!(Point::named(point.name()), Some(*point));
            assert!(point.name().contains('.') && !point.what().is_empty());
        }
        assert_eq!(Point::named("lunch"), None);
    }
}
