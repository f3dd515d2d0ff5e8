//! From text to a tree. The parser is the `cel` crate's; what it lacks is added here: limits, where an expression of
//! the tree is in the text, upstream's form of errors.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;

use kube_cel::cel::common::ast::{EntryExpr, Expr, SourceInfo};
use kube_cel::cel::parser::{Expression, ParseErrors, Parser};

use crate::limits::{
    BRACKETS_DEPTH_MAX, EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, PARSER_STACK_BYTES,
};

/// Parses an expression.
pub(crate) fn parse(source: &str) -> Result<Expression, String> {
    if source.len() > EXPRESSION_BYTES_MAX {
        let size = source.len();
        return Err(format!(
            "ERROR: <input>:-1:0: expression code point size exceeds limit: size: {size}, limit {EXPRESSION_BYTES_MAX}"
        ));
    }
    // The parser has a limit too; what is far beyond it takes it long to find out.
    if brackets(source) > BRACKETS_DEPTH_MAX {
        return Err(too_deep(BRACKETS_DEPTH_MAX));
    }
    on_a_large_stack(|| {
        let tree = parsed(source).map_err(|errors| told(source, &errors))?;
        if deeper_than(&tree, EXPRESSION_DEPTH_MAX) {
            // Dropped here, where there is the stack for it.
            return Err(too_deep(EXPRESSION_DEPTH_MAX));
        }
        Ok(tree)
    })
}

fn too_deep(limit: usize) -> String {
    format!("ERROR: <input>:-1:0: expression recursion limit exceeded: {limit}")
}

/// How deep brackets are nested, those in texts included: it is a bound.
fn brackets(source: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in source.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn parsed(source: &str) -> Result<Expression, ParseErrors> {
    Parser::new().enable_optional_syntax(true).parse(source)
}

/// The parser recurses as deep as chains of operators are long, and a panic in it is an error of the expression.
fn on_a_large_stack<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    const FAILED: &str = "ERROR: <input>:-1:0: the expression could not be parsed";
    thread::scope(|scope| {
        let work = move || panic::catch_unwind(AssertUnwindSafe(work));
        let thread = thread::Builder::new().stack_size(PARSER_STACK_BYTES);
        match thread.spawn_scoped(scope, work).map(thread::ScopedJoinHandle::join) {
            Ok(Ok(Ok(done))) => done,
            Ok(_) => Err(FAILED.to_owned()),
            Err(error) => Err(format!("ERROR: <input>:-1:0: no thread to parse it in: {error}")),
        }
    })
}

/// Whether a tree is deeper than so many levels.
fn deeper_than(tree: &Expression, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return true };
    children(tree).into_iter().any(|child| deeper_than(child, levels))
}

/// What an expression is made of.
pub(crate) fn children(tree: &Expression) -> Vec<&Expression> {
    match &tree.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(all) => {
            vec![&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Struct(of) => of.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&Expression> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// Errors of the checker in upstream's form: by place, one after the other.
pub(crate) fn placed(source: &str, errors: &[(u64, String)]) -> String {
    let info = places(source);
    let mut all: Vec<(usize, usize, &str)> = errors
        .iter()
        .map(|(id, what)| {
            let start = info.as_ref().and_then(|info| info.offset_for(*id));
            let (line, column) = start.map_or((1, 0), |(start, _)| place(source, start as usize));
            (line, column, what.as_str())
        })
        .collect();
    all.sort_by_key(|(line, column, _)| (*line, *column));
    all.dedup();
    let all = all.into_iter().map(|(line, column, what)| told_at(source, line, column, what));
    all.collect::<Vec<_>>().join("\n")
}

/// Where the parts of an expression are. The parser tells with errors only; so there is one: a character that no
/// expression has, behind its end. Numbers of parts are given in order, and so the same as without it.
fn places(source: &str) -> Option<Arc<SourceInfo>> {
    let with_error = format!("{source}\n@");
    let places = on_a_large_stack(|| match parsed(&with_error) {
        Ok(_) => Ok(None),
        Err(errors) => Ok(errors.errors.into_iter().find_map(|error| error.source_info)),
    });
    places.ok().flatten()
}

/// Line from 1 and column from 0 of a character.
fn place(source: &str, offset: usize) -> (usize, usize) {
    let before: Vec<char> = source.chars().take(offset).collect();
    let line = before.iter().filter(|c| **c == '\n').count() + 1;
    let column = before.iter().rev().take_while(|c| **c != '\n').count();
    (line, column)
}

fn told(source: &str, errors: &ParseErrors) -> String {
    let told = errors.errors.iter().map(|error| {
        let line = usize::try_from(error.pos.0).unwrap_or(0);
        let column = usize::try_from(error.pos.1).unwrap_or(0).saturating_sub(1);
        told_at(source, line, column, &error.msg)
    });
    told.collect::<Vec<_>>().join("\n")
}

fn told_at(source: &str, line: usize, column: usize, what: &str) -> String {
    let mut told = format!("ERROR: <input>:{line}:{}: {what}", column + 1);
    if let Some(text) = line.checked_sub(1).and_then(|at| source.lines().nth(at)) {
        let text = text.replace('\t', " ");
        told.push_str(&format!("\n | {text}\n | {}^", ".".repeat(column)));
    }
    told
}
