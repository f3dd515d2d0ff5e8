//! LIST: a concatenation of stored bytes, on one consistent view over all its pages.

use http::Response;
use quorate_api::status::Status;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{Expired, ObjectKey, ResourceView, Revision, View};
use quorate_store::Consistency;

use super::Request;
use super::list_options::{ListOptions, State, encode_token};
use super::render::ListMeta;
use crate::model::Selection;
use crate::reply::Body;
use crate::status_error::{self, Answer, Refusal};

/// Objects of one page, and what the list says about itself.
pub(super) struct Page {
    pub(super) items: Vec<StoredRef>,
    pub(super) meta: ListMeta,
}

pub(super) async fn run(request: Request) -> Answer<Response<Body>> {
    let selection = Selection::of(
        request.def,
        request.query.text("labelSelector"),
        request.query.text("fieldSelector"),
    )?;
    let options = ListOptions::of(&request.query, selection)?;
    let page = page(&request, &options).await?;
    request.show_list(page.items, &page.meta)
}

/// One page of the request's collection.
pub(super) async fn page(request: &Request, options: &ListOptions) -> Answer<Page> {
    let consistency = match options.state {
        State::Fresh(consistency) => consistency,
        State::Exactly(revision) => Consistency::AtLeast(revision),
    };
    let view = request
        .shared
        .store
        .read(consistency)
        .await
        .map_err(|error| status_error::of_store(&error))?;
    let namespace = request.target.namespace_of(request.def);
    let revision = match options.state {
        State::Exactly(revision) => revision,
        State::Fresh(_) => view.revision(),
    };
    let mut page = Page { items: Vec::new(), meta: ListMeta { revision, ..ListMeta::default() } };
    let Some(resource) = view.resource(&request.storage()) else { return Ok(page) };
    match options.state {
        State::Exactly(revision) if revision < view.revision() && changed(resource, revision) => {
            let past = resource.at(revision).map_err(|expired| gone(options, &expired))?;
            let start = options.after.as_ref();
            let items = past
                .values()
                .skip_while(|stored| start.is_some_and(|start| stored.key.object <= *start))
                .filter(|stored| {
                    namespace.is_empty() || *stored.key.object.namespace == *namespace
                });
            fill(&mut page, items, options);
        }
        State::Exactly(_) | State::Fresh(_) => {
            single_or_range(&view, request, &namespace, options, resource, &mut page);
        }
    }
    Ok(page)
}

fn changed(resource: &ResourceView, since: Revision) -> bool {
    resource.changes_after(since).map_or(true, |mut changes| changes.next().is_some())
}

fn single_or_range(
    view: &View,
    request: &Request,
    namespace: &str,
    options: &ListOptions,
    resource: &ResourceView,
    page: &mut Page,
) {
    let one_namespace = !namespace.is_empty() || !request.def.namespaced;
    if let Some(name) = options.selection.exact_name()
        && one_namespace
        && options.after.is_none()
    {
        let key = ObjectKey::new(namespace, name);
        let found = view.resource(&request.storage()).and_then(|resource| resource.get(&key));
        page.items.extend(found.filter(|stored| options.selection.matches(stored)).cloned());
        return;
    }
    fill(page, resource.range(namespace, options.after.as_ref()), options);
}

fn fill<'a>(page: &mut Page, items: impl Iterator<Item = &'a StoredRef>, options: &ListOptions) {
    let everything = options.selection.is_everything();
    let mut items = items.filter(|stored| everything || options.selection.matches(stored));
    if options.limit == 0 {
        page.items.extend(items.cloned());
        return;
    }
    page.items.extend(items.by_ref().take(options.limit).cloned());
    let remaining = if everything { items.count() } else { usize::from(items.next().is_some()) };
    if remaining > 0
        && let Some(last) = page.items.last()
    {
        page.meta.continue_token = encode_token(Some(page.meta.revision), &last.key.object);
        page.meta.remaining = everything.then_some(remaining as u64);
    }
}

/// 410; a list that was begun gets a token to go on with, on a newer view.
fn gone(options: &ListOptions, expired: &Expired) -> Refusal {
    Box::new(match &options.after {
        Some(after) if options.continued => Status::expired_continue(encode_token(None, after)),
        _ => Status::too_old_resource_version(expired.asked.0, expired.compacted.0),
    })
}
