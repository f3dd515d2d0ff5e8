//! kubectl itself, unchanged, against the server.

mod common;

use common::{World, has_kubectl};

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_and_namespaces_by_kubectl() {
    if !has_kubectl() {
        return;
    }
    let world = World::start().await;
    let out = world.kubectl_ok(&["create", "namespace", "shop"]).await;
    assert_eq!(out, "namespace/shop created\n");
    let out = world
        .kubectl_ok(&["create", "configmap", "prices", "-n", "shop", "--from-literal=tea=3"])
        .await;
    assert_eq!(out, "configmap/prices created\n");
    let out = world.kubectl_ok(&["get", "cm", "-n", "shop"]).await;
    assert!(out.starts_with("NAME "), "{out}");
    assert!(out.contains("prices   1 "), "{out}");
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: prices, namespace: shop}\n\
                    data: {tea: \"4\", milk: \"1\"}\n";
    let (code, out, err) = world.kubectl_with(&["apply", "-f", "-"], manifest).await;
    assert_eq!((code, out.as_str()), (0, "configmap/prices configured\n"), "{err}");
    let (_, out, err) = world.kubectl_with(&["apply", "-f", "-"], manifest).await;
    assert_eq!(out, "configmap/prices unchanged\n", "{err}");
    let out = world.kubectl_ok(&["label", "-n", "shop", "cm/prices", "tier=gold"]).await;
    assert_eq!(out, "configmap/prices labeled\n");
    let out = world
        .kubectl_ok(&[
            "get",
            "cm",
            "-n",
            "shop",
            "-l",
            "tier=gold",
            "-o",
            "jsonpath={.items[*].data.milk}",
        ])
        .await;
    assert_eq!(out, "1");
    let out = world.kubectl_ok(&["describe", "cm", "-n", "shop", "prices"]).await;
    assert!(out.contains("milk:"), "{out}");
    let out = world.kubectl_ok(&["explain", "configmap.data"]).await;
    assert!(out.contains("KIND:       ConfigMap"), "{out}");
    let out = world.kubectl_ok(&["api-resources"]).await;
    assert!(out.contains("deployments"), "{out}");
    let out = world.kubectl_ok(&["auth", "can-i", "delete", "nodes"]).await;
    assert_eq!(out, "yes\n");
    let out = world.kubectl_ok(&["delete", "cm", "-n", "shop", "prices"]).await;
    assert!(out.starts_with("configmap \"prices\" deleted"), "{out}");
    let (code, _, err) = world.kubectl(&["get", "cm", "-n", "shop", "prices"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("Error from server (NotFound): configmaps \"prices\" not found"), "{err}");
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_by_kubectl() {
    if !has_kubectl() {
        return;
    }
    let world = World::start().await;
    world.default_account("default").await;
    let create = ["create", "deployment", "web", "--image=nginx:1", "--replicas=3"];
    assert_eq!(world.kubectl_ok(&create).await, "deployment.apps/web created\n");
    let out = world.kubectl_ok(&["get", "deployments", "-o", "wide"]).await;
    assert!(out.contains("web    0/3     0            0"), "{out}");
    assert!(out.contains("app=web"), "{out}");
    let out = world.kubectl_ok(&["scale", "deployment/web", "--replicas=5"]).await;
    assert_eq!(out, "deployment.apps/web scaled\n");
    let out = world.kubectl_ok(&["set", "image", "deployment/web", "nginx=nginx:2"]).await;
    assert_eq!(out, "deployment.apps/web image updated\n");
    let path = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image} \
                {.metadata.generation}";
    let out = world.kubectl_ok(&["get", "deployment", "web", "-o", path]).await;
    assert_eq!(out, "5 nginx:2 3");
    let out = world.kubectl_ok(&["describe", "deployment", "web"]).await;
    assert!(out.contains("RollingUpdateStrategy:  25% max unavailable, 25% max surge"), "{out}");
    let out = world.kubectl_ok(&["expose", "deployment", "web", "--port=80"]).await;
    assert_eq!(out, "service/web exposed\n");
    let out = world.kubectl_ok(&["get", "all"]).await;
    assert!(out.contains("service/web") && out.contains("deployment.apps/web"), "{out}");
    let out = world.kubectl_ok(&["create", "token", "default"]).await;
    assert_eq!(out.trim().split('.').count(), 3, "a JWT");
    let out = world.kubectl_ok(&["auth", "whoami"]).await;
    assert!(out.contains("admin") && out.contains("system:masters"), "{out}");
    let (code, out, _) = world.kubectl(&["auth", "can-i", "list", "pods", "--as=jane"]).await;
    assert_eq!((code, out.as_str()), (1, "no\n"));
    world.server.shutdown().await;
}
