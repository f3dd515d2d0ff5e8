//! TokenReview, SelfSubjectReview, and the `token` subresource of service accounts.

use http::Response;
use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, Status};
use serde_json::{Value, json};

use crate::authn::{BoundObject, TokenOrder};
use crate::clock::rfc3339;
use crate::limits::{TOKEN_SECONDS_DEFAULT, TOKEN_SECONDS_MAX, TOKEN_SECONDS_MIN};
use crate::model::{self, text};
use crate::reply::Body;
use crate::status_error::Answer;
use crate::verb::{Request, WriteOptions, pass};

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Whose token is this?
pub(super) async fn review(request: &Request, mut review: Value) -> Answer<Value> {
    let token = text(&review["spec"]["token"]).to_owned();
    if token.is_empty() {
        return Err(Box::new(Status::bad_request(
            "token is required for TokenReview in authentication",
        )));
    }
    let audiences = strings(&review["spec"]["audiences"]);
    let authenticator = &request.shared.authenticator;
    review["status"] = match authenticator.authenticate(&token, &audiences).await {
        Ok(found) => {
            let audiences =
                if audiences.is_empty() { authenticator.own_audiences() } else { found.audiences };
            json!({
                "authenticated": true,
                "user": found.identity.user().info(),
                "audiences": audiences,
            })
        }
        // A token that is nobody's here is no error.
        Err(why) if why.is_empty() => json!({"user": {}}),
        Err(why) => json!({"user": {}, "error": why}),
    };
    Ok(review)
}

/// Who am I?
pub(super) fn self_review(request: &Request, mut review: Value) -> Value {
    let now = rfc3339(request.shared.clock.now());
    review["metadata"] = json!({"creationTimestamp": now});
    review["status"] = json!({"userInfo": request.permitted.identity().user().info()});
    review
}

fn validate(spec: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(TOKEN_SECONDS_DEFAULT);
    let path = Path::new("spec");
    if seconds < TOKEN_SECONDS_MIN {
        errors.push(Error::invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > TOKEN_SECONDS_MAX {
        errors.push(Error::invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    errors
}

/// A body that names an account names the one in the path.
fn same_account(request: &Request, metadata: &Value) -> Answer<()> {
    let target = &request.target;
    let path = Path::new("metadata");
    for (field, value, why) in [
        ("name", &target.name, "must match the service account name if specified"),
        ("namespace", &target.namespace, "must match the service account namespace if specified"),
    ] {
        let given = text(&metadata[field]);
        if !given.is_empty() && given != value {
            let kind = GroupResource::new("authentication.k8s.io", "TokenRequest");
            let error = Error::invalid(&path.child(field), given, why);
            return Err(Box::new(Status::invalid(kind, &target.name, &[error])));
        }
    }
    Ok(())
}

/// POST to `serviceaccounts/NAME/token`.
pub(crate) async fn token_request(mut request: Request) -> Answer<Response<Body>> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let body = request.body().await?;
    let media = request.content_type().to_owned();
    let target = request.sub.map_or_else(|| request.def.target(), |sub| sub.target());
    let mut warnings = Vec::new();
    let object = model::decode(&media, &body, target, options.validation, &mut warnings)?;
    let mut object = pass::webhooks(&request, options.dry_run, object, &mut warnings).await?;
    let kind = GroupResource::new("authentication.k8s.io", "TokenRequest");
    same_account(&request, &object["metadata"])?;
    let errors = validate(&object["spec"]);
    if !errors.is_empty() {
        return Err(Box::new(Status::invalid(kind, "", &errors)));
    }
    let spec = &object["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(TOKEN_SECONDS_DEFAULT);
    let bound = &spec["boundObjectRef"];
    let order = TokenOrder {
        namespace: request.target.namespace.clone(),
        service_account: request.target.name.clone(),
        service_account_uid: text(&object["metadata"]["uid"]).to_owned(),
        audiences: strings(&spec["audiences"]),
        expiration_seconds: Some(seconds),
        bound: (!bound.is_null()).then(|| BoundObject {
            kind: text(&bound["kind"]).to_owned(),
            name: text(&bound["name"]).to_owned(),
            uid: text(&bound["uid"]).to_owned(),
        }),
    };
    let issued = request.shared.authenticator.issue(&order).await?;
    let expires =
        jiff::Timestamp::from_second(issued.expires).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    object["metadata"] = json!({
        "name": request.target.name,
        "namespace": request.target.namespace,
        "creationTimestamp": rfc3339(request.shared.clock.now()),
    });
    object["spec"]["audiences"] = json!(issued.audiences);
    object["spec"]["expirationSeconds"] = json!(seconds);
    object["status"] = if options.dry_run {
        json!({"token": "", "expirationTimestamp": rfc3339(expires)})
    } else {
        json!({"token": issued.token, "expirationTimestamp": rfc3339(expires)})
    };
    let mut response = request.show_plain(201, &object)?;
    crate::reply::warn(response.headers_mut(), &warnings);
    Ok(response)
}
