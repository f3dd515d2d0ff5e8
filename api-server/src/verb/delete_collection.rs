//! DELETE of a collection: everything that the selectors name, in batches.

use http::Response;
use quorate_api::status::Status;
use quorate_state_machine::{Op, Outcome};

use super::list_options::ListOptions;
use super::{Request, delete, list};
use crate::limits::{DELETE_COLLECTION_BATCH, DELETE_RETRIES_MAX, WRITE_DEADLINE};
use crate::model::Selection;
use crate::reply::Body;
use crate::status_error::{self, Answer};

pub(super) async fn run(mut request: Request) -> Answer<Response<Body>> {
    let body = request.body().await?;
    let media = request.content_type().to_owned();
    let options = delete::DeleteOptions::of(&media, &body, &request.query)?;
    let selection = Selection::of(
        request.def,
        request.query.text("labelSelector"),
        request.query.text("fieldSelector"),
    )?;
    let list_options = ListOptions::of(&request.query, selection)?;
    let page = list::page(&request, &list_options).await?;
    let mut left = page.items.clone();
    for _ in 0..DELETE_RETRIES_MAX {
        left = round(&request, &options, left).await?;
        if left.is_empty() {
            return request.show_list(page.items, &page.meta);
        }
    }
    Err(Box::new(Status::conflict(
        request.resource(),
        &left[0].key.object.name,
        quorate_api::status::OBJECT_MODIFIED,
    )))
}

type Items = Vec<quorate_state_machine::object::StoredRef>;

/// Deletes what it can; gives back what changed meanwhile, as it is now.
async fn round(request: &Request, options: &delete::DeleteOptions, items: Items) -> Answer<Items> {
    let mut again = Vec::new();
    for batch in items.chunks(DELETE_COLLECTION_BATCH) {
        let mut ops: Vec<Op> = Vec::with_capacity(batch.len());
        for stored in batch {
            let admitted = delete::admit(request, stored, options).await?;
            if !options.dry_run {
                ops.extend(admitted.into_command().map(crate::stamp::Command::into_op));
            }
        }
        if ops.is_empty() {
            continue;
        }
        let keys: Vec<_> = ops.iter().map(|op| op.key().clone()).collect();
        let outcomes = request
            .shared
            .store
            .write_within(ops, WRITE_DEADLINE)
            .await
            .map_err(|error| status_error::of_store(&error))?;
        let view = request.shared.store.view();
        for (key, outcome) in keys.iter().zip(&outcomes) {
            match outcome {
                Outcome::Done(_) | Outcome::NotFound | Outcome::OtherUid(_) => {}
                Outcome::Conflict(_) => again.extend(view.get(key).cloned()),
                other => {
                    let (namespace, name) = (&key.object.namespace, &key.object.name);
                    let refusal =
                        status_error::of_outcome(other, request.resource(), namespace, name);
                    return Err(refusal.unwrap_or_else(|| {
                        Box::new(Status::internal_error("unexpected outcome"))
                    }));
                }
            }
        }
    }
    Ok(again)
}
