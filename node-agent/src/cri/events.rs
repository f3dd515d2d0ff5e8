//! When something happened to a container: CRI's own events where the runtime has them (containerd 1.7, CRI-O), else
//! containerd's, which it serves on the same socket. Only the fact counts; what happened is looked at.

use std::future::ready;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::wire;
use super::wire::runtime_service_client::RuntimeServiceClient;

/// `containerd.services.events.v1.SubscribeRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Subscribe {
    /// Any of them.
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

/// The part of `containerd.types.Envelope` that is looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(message, optional, tag = "4")]
    event: Option<Packed>,
}

/// `google.protobuf.Any`, without its type: both topics begin alike.
#[derive(Clone, PartialEq, prost::Message)]
struct Packed {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The beginning of `containerd.events.TaskExit`.
#[derive(Clone, PartialEq, prost::Message)]
struct TaskExit {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, tag = "2")]
    id: String,
}

/// Commands run in a container (probes) end all the time and change nothing.
fn is_command(envelope: &Envelope) -> bool {
    let packed = envelope.event.as_ref().map(|event| event.value.as_slice());
    let exit = packed.and_then(|value| TaskExit::decode(value).ok()).unwrap_or_default();
    !exit.id.is_empty() && exit.id != exit.container_id
}

/// See the module. Ends when the runtime does, or has no events at all.
pub(super) fn watch(
    runtime: RuntimeServiceClient<Channel>,
    channel: Channel,
) -> BoxStream<'static, ()> {
    futures::stream::once(open(runtime, channel)).flatten().boxed()
}

async fn open(
    mut runtime: RuntimeServiceClient<Channel>,
    channel: Channel,
) -> BoxStream<'static, ()> {
    match runtime.get_container_events(wire::GetEventsRequest {}).await {
        Ok(events) => events_of(events.into_inner()),
        Err(status) if status.code() == Code::Unimplemented => containerd(channel).await,
        Err(_) => futures::stream::empty().boxed(),
    }
}

async fn containerd(channel: Channel) -> BoxStream<'static, ()> {
    let mut client = tonic::client::Grpc::new(channel);
    if client.ready().await.is_err() {
        return futures::stream::empty().boxed();
    }
    let codec = tonic_prost::ProstCodec::<Subscribe, Envelope>::default();
    let path =
        http::uri::PathAndQuery::from_static("/containerd.services.events.v1.Events/Subscribe");
    let filters = ["/tasks/exit", "/tasks/oom"].map(|topic| format!("topic==\"{topic}\"")).to_vec();
    let request = tonic::Request::new(Subscribe { filters });
    match client.server_streaming(request, path, codec).await {
        Ok(events) => {
            let events = events.into_inner();
            let of_containers =
                events.filter(|event| ready(!matches!(event, Ok(event) if is_command(event))));
            events_of(of_containers)
        }
        Err(_) => futures::stream::empty().boxed(),
    }
}

/// One item for each event, up to the first error.
fn events_of<T: Send + 'static>(
    events: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> BoxStream<'static, ()> {
    events.take_while(|event| ready(event.is_ok())).map(|_| ()).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_command_is_not_the_end_of_its_container() {
        let envelope = |container_id: &str, id: &str| {
            let exit = TaskExit { container_id: container_id.to_owned(), id: id.to_owned() };
            Envelope { event: Some(Packed { value: exit.encode_to_vec() }) }
        };
        assert!(!is_command(&envelope("c", "c")));
        assert!(is_command(&envelope("c", "exec-1")));
        assert!(!is_command(&envelope("c", "")), "out of memory names the container alone");
        assert!(!is_command(&Envelope { event: None }));
    }
}
