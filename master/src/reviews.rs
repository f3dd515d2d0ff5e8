//! What the controllers may ask of the API server's authorizer.

use std::sync::Arc;

use quorate_api_server::admit::ControllerAdmit;
use quorate_controllers::AccessReviews;

/// See the module.
#[derive(Debug)]
pub(crate) struct Reviews(pub(crate) Arc<ControllerAdmit>);

impl AccessReviews for Reviews {
    fn may_request(&self, user: &str, groups: &[String], subresource: &str) -> bool {
        self.0.may_request_certificates(user, groups, subresource)
    }
}
