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

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_kinds_by_kubectl() {
    if !has_kubectl() {
        return;
    }
    let world = World::start().await;
    world.default_account("default").await;
    for (args, want) in [
        ("create job once --image=i:1 -- true", "job.batch/once created"),
        (
            "create cronjob hourly --image=i:1 --schedule=@hourly -- true",
            "cronjob.batch/hourly created",
        ),
        ("create job now --from=cronjob/hourly", "job.batch/now created"),
        ("create quota few --hard=pods=2,count/jobs.batch=9", "resourcequota/few created"),
        (
            "create pdb one --selector=a=b --min-available=50%",
            "poddisruptionbudget.policy/one created",
        ),
        (
            "create ingress web --rule=a.example/*=web:80 --class=c",
            "ingress.networking.k8s.io/web created",
        ),
        ("create deployment web --image=i:1", "deployment.apps/web created"),
        (
            "autoscale deployment web --min=2 --max=5 --cpu-percent=70",
            "horizontalpodautoscaler.autoscaling/web autoscaled",
        ),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let out = world.kubectl_ok(&args).await;
        assert_eq!(out.trim_end(), want, "{args:?}");
    }
    for (args, want) in [
        ("get jobs once", "once   Running   0/1"),
        ("get cronjobs", "@hourly    <none>     False     0        <none>"),
        ("get hpa", "Deployment/web   cpu: <unknown>/70%   2         5         0"),
        ("get pdb", "one    50%             N/A               0"),
        ("get ingress", "web    c       a.example             80"),
        ("describe job once", "Completion Mode:  NonIndexed"),
        ("describe cronjob hourly", "Concurrency Policy:            Allow"),
        // Nobody counts yet: what is described comes from the status.
        ("get quota few -o yaml", "count/jobs.batch"),
        ("describe hpa web", "resource cpu on pods"),
        ("describe ingress web", "a.example"),
        ("explain statefulset.spec.ordinals", "KIND:       StatefulSet"),
        ("get all", "job.batch/once"),
        ("delete job once", "job.batch \"once\" deleted"),
        ("patch cronjob hourly -p {\"spec\":{\"suspend\":true}}", "cronjob.batch/hourly patched"),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let out = world.kubectl_ok(&args).await;
        assert!(out.contains(want), "{args:?}: {out}");
    }
    world.server.shutdown().await;
}
