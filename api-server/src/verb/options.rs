//! Options of writing verbs, from query and body (metav1 `CreateOptions`, `UpdateOptions`,
//! `PatchOptions`).

use quorate_api::codec::FieldValidation;
use quorate_api::field::{self, Path};
use quorate_api::status::{GroupResource, Status};
use quorate_api::text;

use crate::limits::FIELD_MANAGER_BYTES_MAX;
use crate::parameters::Query;
use crate::status_error::Answer;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    /// The new versions come from server-side apply, which says who owns what.
    pub(crate) applied: bool,
}

impl WriteOptions {
    /// Reads and validates them; `kind` names them in errors (`CreateOptions`).
    pub(crate) fn of(query: &Query, kind: &str) -> Answer<Self> {
        Self::read(query, kind, false)
    }

    /// Those of a server-side apply, which must name its field manager.
    pub(crate) fn of_apply(query: &Query) -> Answer<Self> {
        Self::read(query, "PatchOptions", true)
    }

    fn read(query: &Query, kind: &str, applied: bool) -> Answer<Self> {
        let mut errors = Vec::new();
        if applied && query.text("fieldManager").is_empty() {
            let path = Path::new("fieldManager");
            errors.push(field::Error::required(&path, "is required for apply patch"));
        }
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let asked = query.text("fieldValidation");
        let validation = FieldValidation::from_query(asked).unwrap_or_else(|| {
            errors.push(field::Error::not_supported(
                &Path::new("fieldValidation"),
                asked,
                &["", "Ignore", "Strict", "Warn"],
            ));
            FieldValidation::default()
        });
        let manager = query.text("fieldManager");
        if manager.len() > FIELD_MANAGER_BYTES_MAX {
            let path = Path::new("fieldManager");
            errors.push(field::Error::too_long(&path, FIELD_MANAGER_BYTES_MAX));
        }
        for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
            let why = format!("invalid character {} (at position {at})", text::code_point(c));
            errors.push(field::Error::invalid(&Path::new("fieldManager"), manager, why));
        }
        if errors.is_empty() {
            return Ok(Self { dry_run, validation, applied });
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
