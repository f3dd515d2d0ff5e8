//! The order of merged lists: what the patch names comes in the patch's order, what only the
//! server has keeps its place among it.

use serde_json::Value;

use super::Error;

/// Where `item` is in `list`: by value, or by the merge key for lists of objects.
fn position(list: &[Value], item: &Value, merge_key: &str) -> Option<usize> {
    if merge_key.is_empty() {
        return list.iter().position(|x| x == item);
    }
    let key = item.get(merge_key)?;
    list.iter().position(|x| x.get(merge_key) == Some(key))
}

/// Orders `merged`: items in `patch_order` in that order, the others in the order of `server`,
/// and where both lists say it, as the server has it.
pub(super) fn normalise(
    merged: Vec<Value>,
    patch_order: &[Value],
    server: &[Value],
    merge_key: &str,
) -> Vec<Value> {
    let (mut patched, mut own): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(patch_order, item, merge_key).is_some());
    patched.sort_by_key(|item| position(patch_order, item, merge_key));
    // What the server's list does not have stays behind, in the order it came.
    own.sort_by_key(|item| position(server, item, merge_key).unwrap_or(usize::MAX));

    let mut out = Vec::with_capacity(patched.len() + own.len());
    let (mut patched, mut own) = (patched.into_iter().peekable(), own.into_iter().peekable());
    while let (Some(left), Some(right)) = (own.peek(), patched.peek()) {
        let (l, r) = (position(server, left, merge_key), position(server, right, merge_key));
        let own_first = matches!((l, r), (Some(l), Some(r)) if l < r);
        out.extend(if own_first { own.next() } else { patched.next() });
    }
    out.extend(patched);
    out.extend(own);
    out
}

/// Checks that the items of a patch list are named, in the same order, in its
/// `$setElementOrder` list.
pub(super) fn check(patch: &[Value], order: &[Value], merge_key: &str) -> Result<(), Error> {
    let kept = patch.iter().filter(|item| item.get("$patch").is_none_or(|d| d != "delete"));
    let mut rest = order;
    for item in kept {
        match position(rest, item, merge_key) {
            Some(at) => rest = &rest[at + 1..],
            None => {
                let show = |list: &[Value]| crate::text::go(&Value::from(list.to_vec()));
                return Err(Error::Unclassified(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    show(patch),
                    show(order)
                )));
            }
        }
    }
    Ok(())
}
