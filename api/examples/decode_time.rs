//! Prints how long a 2 KB pod takes to decode, normalise and encode:
//! `cargo run --release -p quorate-api --example decode_time`.

#![allow(clippy::print_stdout)] // a tool

use std::hint::black_box;
use std::time::{Duration, Instant};

use quorate_api::codec::{self, MediaType};
use quorate_api::{image, normalise, resource};
use serde_json::json;

const ROUNDS: u32 = 20_000;

fn main() {
    let def = resource::by_kind("", "v1", "Pod").expect("pods are served");
    let body = serde_json::to_vec(&pod()).expect("a value can be written");
    let decoded = codec::decode(MediaType::Json, &body, def.target()).expect("the pod is right");
    let pod = decoded.value;
    let image = image::encode(&pod).expect("a pod is an object");
    println!("body {} bytes, image {} bytes, {ROUNDS} rounds", body.len(), image.bytes.len());
    row("decode (strict, in normal form)", || {
        black_box(codec::decode(MediaType::Json, black_box(&body), def.target()).is_ok());
    });
    row("of it: reading the text", || {
        black_box(codec::json::parse(black_box(&body), def.schema).is_ok());
    });
    row("serde_json to Value, for scale", || {
        black_box(serde_json::from_slice::<serde_json::Value>(black_box(&body)).is_ok());
    });
    let mut normal = pod.clone();
    row("normalise what is normal", || normalise::normalise(black_box(&mut normal), def.schema));
    row("image", || {
        black_box(image::encode(black_box(&pod)).is_ok());
    });
    let mut out = Vec::new();
    row("serve an image", || {
        out.clear();
        image.write(black_box(123_456), &mut out);
    });
    row("parse an image", || {
        black_box(image.parse(black_box(7)).is_ok());
    });
}

fn row(what: &str, mut run: impl FnMut()) {
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| run());
    let each: Duration = start.elapsed() / ROUNDS;
    println!("{what:<34} {:>8.2} µs", each.as_secs_f64() * 1e6);
}

fn pod() -> serde_json::Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": "registry.example/team/app:1.2.3", "imagePullPolicy": "IfNotPresent",
            "args": ["--listen=0.0.0.0:8080", "--log-level=info"],
            "env": [{"name": "A", "value": "b"}, {"name": "POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
            "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 1},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "token", "mountPath": "/var/run/secrets", "readOnly": true}],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-7d4b9c6f5-abcde", "namespace": "default", "uid": "0b5bdb0c-6f0e-4c6f-9d6e-3f7c2b1a0d9e",
            "creationTimestamp": "2026-01-02T03:04:05Z", "generateName": "web-7d4b9c6f5-",
            "labels": {"app": "web", "pod-template-hash": "7d4b9c6f5"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c6f5", "uid": "1", "controller": true, "blockOwnerDeletion": true}]},
        "spec": {"containers": [container("app"), container("side")], "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}}]},
    })
}
