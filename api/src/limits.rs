//! The limits of decoding, and what a client sees when it meets one.

/// Nesting of JSON, YAML and protobuf input. Deeper input is refused as malformed. Kept below
/// serde_json's own limit (128), so that what was accepted can always be read again.
pub const NESTING_DEPTH_MAX: usize = 120;

/// Bytes of JSON a YAML body may grow to by its aliases. Beyond it the body is refused as
/// malformed ("excessive aliasing").
pub const YAML_EXPANDED_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Keys that the merges (`<<`) of one YAML body may copy. Beyond it the body is refused as
/// malformed ("excessive aliasing").
pub const YAML_MERGED_KEYS_MAX: usize = 100_000;

/// Strict decoding errors that are kept for one body; upstream's number. More are not reported.
pub const STRICT_ERRORS_MAX: usize = 100;

/// Bytes of a body that are shown in the error for one that is not recognised; upstream's number.
pub const SUMMARY_BYTES_MAX: usize = 30;

/// Operations of one JSON patch; upstream's number. A patch with more is answered 413.
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// Entries of updates in an object's managedFields; upstream's number. Beyond it the oldest are
/// merged into one of `ancient-changes`.
pub const UPDATE_MANAGERS_MAX: usize = 10;
