//! Options of writing verbs, from query and body (metav1 `CreateOptions`, `UpdateOptions`,
//! `PatchOptions`).

use quorate_api::codec::FieldValidation;
use quorate_api::field::{self, Path};
use quorate_api::status::{GroupResource, Status};

use crate::parameters::Query;
use crate::status_error::Answer;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// Reads and validates them; `kind` names them in errors (`CreateOptions`).
    pub(crate) fn of(query: &Query, kind: &str) -> Answer<Self> {
        let mut errors = Vec::new();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let text = query.text("fieldValidation");
        let validation = FieldValidation::from_query(text).unwrap_or_else(|| {
            errors.push(field::Error::not_supported(
                &Path::new("fieldValidation"),
                text,
                &["", "Ignore", "Strict", "Warn"],
            ));
            FieldValidation::default()
        });
        let manager = query.text("fieldManager");
        if manager.chars().count() > 128 {
            errors.push(field::Error::too_long(&Path::new("fieldManager"), 128));
        } else if manager.chars().any(char::is_control) {
            errors.push(field::Error::invalid(
                &Path::new("fieldManager"),
                manager,
                "should only contain printable characters",
            ));
        }
        if errors.is_empty() {
            return Ok(Self { dry_run, validation });
        }
        Err(Box::new(Status::invalid(GroupResource::new("meta.k8s.io", kind), "", &errors)))
    }
}

/// `dryRun`: nothing or `All`.
pub(crate) fn dry_run<'a>(
    values: impl Iterator<Item = &'a str>,
    errors: &mut Vec<field::Error>,
) -> bool {
    let mut dry = false;
    for value in values {
        if value == "All" {
            dry = true;
        } else if !value.is_empty() {
            errors.push(field::Error::not_supported(&Path::new("dryRun"), value, &["All"]));
        }
    }
    dry
}
