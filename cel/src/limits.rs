//! What an expression may cost. The numbers are upstream's (`apiserver/pkg/apis/cel`), where they are published.

/// Cost of one evaluation of one expression. Beyond: `operation cancelled: actual cost limit exceeded`.
pub const COST_OF_CALL_MAX: u64 = 1_000_000;
/// Cost of all expressions that one request runs into at one door (the rules of one object, one policy with one
/// parameter). Beyond: no further expression is run, and the request is refused.
pub const COST_OF_REQUEST_MAX: u64 = 10_000_000;
/// The same for all match conditions of one policy or webhook.
pub const COST_OF_CONDITIONS_MAX: u64 = 2_500_000;
/// What one rule of a definition may cost at worst by estimate. Beyond: the definition is refused.
pub const COST_OF_RULE_ESTIMATED_MAX: u64 = 10_000_000;
/// What all rules of a definition's version may cost at worst by estimate. Beyond: the definition is refused.
pub const COST_OF_SCHEMA_ESTIMATED_MAX: u64 = 100_000_000;
/// Bytes of an expression. Beyond: it does not compile. (Upstream: 100,000 characters; a parser that needs
/// a second for so many is no use in a request.)
pub const EXPRESSION_BYTES_MAX: usize = 32 * 1024;
/// How deep an expression may be nested once it is parsed. Beyond: it does not compile. Keeps evaluation, which
/// recurses, within the stack of a thread of the server.
pub const EXPRESSION_DEPTH_MAX: usize = 200;
/// How deep brackets may be nested. Beyond: it does not compile. The parser's own limit is a few more.
pub const BRACKETS_DEPTH_MAX: usize = 90;
/// Stack of the thread that parses an expression of any length: the parser recurses without a limit of its own in
/// chains of operators. Only what is used of it is memory.
pub const PARSER_STACK_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of what a message expression yields. Beyond: the rule's own message is used.
pub const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// Elements that a function may make from a number alone (`lists.range`). Beyond: an error of the expression.
pub const RANGE_MAX: i64 = 100_000;
/// Digits after the point that a format may ask for. Beyond: an error of the expression.
pub const PRECISION_MAX: usize = 100;
/// Bytes of one request, from which the worst size of what a schema does not bound is estimated.
pub const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
