//! `pods/NAME/log`: a chunked body that follows the node as fast as the client reads.

use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame as BodyFrame;
use http_body_util::{BodyExt as _, StreamBody};
use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, Status};
use quorate_proto::agent::LogRequest;
use quorate_proto::agent::channel_frame::Frame;
use quorate_proto::agent::open_channel::Request;
use serde_json::Value;

use super::Streams;
use super::dial;
use super::target::Target;
use crate::agents::{Channel, ChannelError};
use crate::limits::LOG_FIRST_FRAME_WAIT;
use crate::model::text;
use crate::parameters::Query;
use crate::reply::{self, Body, BoxError};
use crate::status_error::{Answer, Refusal};

/// The lines that a client asks for, checked as `ValidatePodLogOptions` does.
pub(super) fn options(query: &Query, pod: &str) -> Answer<LogRequest> {
    let request = LogRequest {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        since_seconds: query.number("sinceSeconds")?,
        since_time: time(query.text("sinceTime"))?,
        tail_lines: query.number("tailLines")?,
        limit_bytes: query.number("limitBytes")?,
        stream: match query.text("stream") {
            "" => "All".to_owned(),
            stream => stream.to_owned(),
        },
    };
    let errors = validate(&request);
    if errors.is_empty() {
        return Ok(request);
    }
    Err(Box::new(Status::invalid(GroupResource::new("", "PodLogOptions"), pod, &errors)))
}

fn time(given: &str) -> Answer<Option<String>> {
    if given.is_empty() {
        return Ok(None);
    }
    match given.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Some(time.to_string())),
        Err(_) => Err(Box::new(Status::bad_request(format!(
            "parsing time {} as \"2006-01-02T15:04:05Z07:00\": cannot parse {} as \"2006\"",
            crate::parameters::quoted(given),
            crate::parameters::quoted(given),
        )))),
    }
}

fn validate(request: &LogRequest) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(lines) = request.tail_lines.filter(|lines| *lines < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(Error::invalid(&Path::new("tailLines"), lines, why));
    }
    if let Some(bytes) = request.limit_bytes.filter(|bytes| *bytes < 1) {
        errors.push(Error::invalid(&Path::new("limitBytes"), bytes, "must be greater than 0"));
    }
    match request.since_seconds {
        Some(_) if request.since_time.is_some() => errors.push(Error::forbidden(
            &Path::new(""),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        )),
        Some(seconds) if seconds < 1 => {
            let why = "must be greater than 0";
            errors.push(Error::invalid(&Path::new("sinceSeconds"), seconds, why));
        }
        _ => {}
    }
    if !["All", "Stderr", "Stdout"].contains(&request.stream.as_str()) {
        errors.push(Error::not_supported(
            &Path::new("stream"),
            request.stream.as_str(),
            &["All", "Stderr", "Stdout"],
        ));
    }
    if request.stream != "All" && request.tail_lines.is_some() {
        errors.push(Error::forbidden(
            &Path::new(""),
            "`tailLines` and specific `stream` are mutually exclusive for now",
        ));
    }
    errors
}

pub(super) async fn serve(streams: &Streams, query: &Query, pod: &Value) -> Answer<Response<Body>> {
    let options = options(query, text(&pod["metadata"]["name"]))?;
    let target = Target::container(pod, query.text("container"))?;
    if target.node.is_empty() {
        // As upstream: there is no output, and no place where it could come from.
        let mut response = Response::new(reply::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let follow = options.follow;
    let previous = options.previous;
    let opened = dial::open(&streams.hub, &target.node, target.open(Request::Log(options))).await;
    let mut channel = match opened {
        Ok(channel) => channel,
        Err(ChannelError::Refused(status)) => {
            return Err(explain(pod, &target, previous, dial::of_node(&status)));
        }
        Err(error) => return Err(dial::status_of(&error)),
    };
    let first = match first_frame(&mut channel, follow).await {
        First::Failed(status) => return Err(status),
        First::Empty => None,
        First::Frame(frame) => Some(frame),
    };
    let mut response = Response::new(body(channel, first));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

enum First {
    /// Nothing yet, or nothing at all.
    Empty,
    Frame(Frame),
    Failed(Refusal),
}

/// A failure that comes at once can still be told as a `Status`.
async fn first_frame(channel: &mut Channel, follow: bool) -> First {
    let frame = channel.from_node.recv();
    let frame = if follow {
        match tokio::time::timeout(LOG_FIRST_FRAME_WAIT, frame).await {
            Ok(frame) => frame,
            Err(_) => return First::Empty,
        }
    } else {
        frame.await
    };
    match frame.map(|frame| frame.frame) {
        Some(Some(Frame::Status(status))) if !is_success(&status) => {
            First::Failed(dial::of_node(&status))
        }
        Some(Some(frame)) => First::Frame(frame),
        Some(None) => First::Empty,
        None => {
            First::Failed(Box::new(Status::internal_error("the connection to the node was lost")))
        }
    }
}

pub(super) fn is_success(status: &[u8]) -> bool {
    serde_json::from_slice::<Value>(status).is_ok_and(|status| status["status"] == "Success")
}

/// The output as a body. It ends when the node says so; it breaks, so that the client sees that
/// something is missing, when the node fails or its stream is lost.
fn body(channel: Channel, first: Option<Frame>) -> Body {
    let state = (channel, first, false);
    let frames = stream::unfold(state, |(mut channel, mut first, ended)| async move {
        if ended {
            return None;
        }
        loop {
            let frame = match first.take() {
                Some(frame) => Some(frame),
                None => match channel.from_node.recv().await {
                    Some(frame) => match frame.frame {
                        Some(frame) => Some(frame),
                        None => continue,
                    },
                    None => None,
                },
            };
            let item: Result<BodyFrame<Bytes>, BoxError> = match frame {
                Some(Frame::Stdout(output) | Frame::Stderr(output)) => {
                    return Some((Ok(BodyFrame::data(output)), (channel, None, false)));
                }
                Some(Frame::Status(status)) if is_success(&status) => return None,
                Some(Frame::Status(status)) => Err(dial::of_node(&status)),
                Some(_) => continue,
                None => Err("the connection to the node was lost".into()),
            };
            return Some((item, (channel, None, true)));
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// A container that has not started: the node knows only that it has none, the pod's status says why
/// (`validateContainerLogStatus` of the kubelet).
fn explain(pod: &Value, target: &Target, previous: bool, refused: Refusal) -> Refusal {
    if refused.code != 400 || previous {
        return refused;
    }
    let status = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"]
        .iter()
        .filter_map(|list| pod["status"][*list].as_array())
        .flatten()
        .find(|status| status["name"] == target.container.as_str());
    let Some(reason) = status.and_then(|status| status["state"]["waiting"]["reason"].as_str())
    else {
        return refused;
    };
    let why = match reason {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        other => other,
    };
    Box::new(Status::bad_request(format!(
        "container \"{}\" in pod \"{}\" is waiting to start: {why}",
        target.container, target.pod
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn all_parameters_reach_the_node() {
        let request = options(
            &query(
                "follow=true&previous=true&timestamps=1&sinceTime=2026-01-02T03%3A04%3A05%2B01:00\
                 &limitBytes=9&stream=Stderr",
            ),
            "p",
        )
        .unwrap();
        assert!(request.follow && request.previous && request.timestamps);
        assert_eq!(request.since_time.as_deref(), Some("2026-01-02T02:04:05Z"));
        assert_eq!((request.limit_bytes, request.stream.as_str()), (Some(9), "Stderr"));
        assert_eq!(request.tail_lines, None);
        let request = options(&query("tailLines=0&sinceSeconds=3&follow=false"), "p").unwrap();
        assert_eq!((request.tail_lines, request.since_seconds), (Some(0), Some(3)));
        assert!(!request.follow);
    }

    #[test]
    fn bad_options_are_refused_in_upstreams_words() {
        let cases = [
            ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal"),
            ("limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
            (
                "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
                422,
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            ("stream=Both", 422, "stream: Unsupported value: \"Both\""),
            ("stream=Stdout&tailLines=1", 422, "mutually exclusive for now"),
            ("tailLines=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("sinceTime=noon", 400, "parsing time \"noon\""),
        ];
        for (given, code, want) in cases {
            let status = options(&query(given), "p").unwrap_err();
            assert_eq!(status.code, code, "{given}: {status}");
            assert!(status.message.contains(want), "{given}: {status}");
        }
    }

    #[test]
    fn what_a_container_waits_for_comes_from_its_status() {
        let refused = || Box::new(Status::bad_request("container \"c\" … ContainerCreating"));
        let pod = |reason: &str| {
            json!({
                "metadata": {"name": "p", "namespace": "d", "uid": "u"},
                "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
                "status": {"containerStatuses": [
                    {"name": "c", "state": {"waiting": {"reason": reason}}}
                ]},
            })
        };
        for (reason, why) in [
            ("ErrImagePull", "image can't be pulled"),
            ("ImagePullBackOff", "trying and failing to pull image"),
            ("PodInitializing", "PodInitializing"),
        ] {
            let pod = pod(reason);
            let target = Target::container(&pod, "").unwrap();
            let status = explain(&pod, &target, false, refused());
            assert_eq!(
                status.message,
                format!("container \"c\" in pod \"p\" is waiting to start: {why}")
            );
        }
        let bare = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
        let target = Target::container(&bare, "").unwrap();
        assert_eq!(explain(&bare, &target, false, refused()).message, refused().message);
    }
}
