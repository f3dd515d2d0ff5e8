//! Reviews: requests that are answered from what the server knows, and never kept. Tokens, and who
//! may do what.

mod access;
mod token;

use http::Response;
use quorate_api::status::Status;
use serde_json::Value;

use crate::model;
use crate::reply::Body;
use crate::status_error::Answer;
use crate::verb::{Request, WriteOptions, pass};

pub(crate) use token::token_request;

/// Answers a POST of a review.
pub(crate) async fn run(mut request: Request) -> Answer<Response<Body>> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let body = request.body().await?;
    let media = request.content_type().to_owned();
    let mut warnings = Vec::new();
    let object =
        model::decode(&media, &body, request.def.target(), options.validation, &mut warnings)?;
    let object = pass::webhooks(&request, options.dry_run, object, &mut warnings).await?;
    let answer: Value = match request.def.kind() {
        "TokenReview" => token::review(&request, object).await?,
        "SelfSubjectReview" => token::self_review(&request, object),
        "SelfSubjectAccessReview" => access::own(&request, object)?,
        "SubjectAccessReview" => access::subject(&request, object)?,
        "LocalSubjectAccessReview" => access::local(&request, object)?,
        "SelfSubjectRulesReview" => access::rules(&request, object)?,
        _ => return Err(Box::new(Status::method_not_allowed())),
    };
    let mut response = request.show_plain(201, &answer)?;
    crate::reply::warn(response.headers_mut(), &warnings);
    Ok(response)
}
