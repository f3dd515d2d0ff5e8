//! GET of one object: bytes as they are stored.

use http::Response;
use quorate_state_machine::Revision;
use quorate_store::Consistency;

use super::Request;
use crate::reply::Body;
use crate::status_error::{self, Answer};

pub(super) async fn run(request: Request) -> Answer<Response<Body>> {
    request.check_form()?;
    let consistency = match request.query.text("resourceVersion") {
        "" => Consistency::Linearizable,
        text => match super::list_options::revision(text)? {
            Revision(0) => Consistency::Any,
            revision => Consistency::AtLeast(revision),
        },
    };
    let view = request
        .shared
        .store
        .read(consistency)
        .await
        .map_err(|error| status_error::of_store(&error))?;
    let stored = view.get(&request.key()).ok_or_else(|| request.not_found())?;
    request.show_stored(200, stored)
}
