//! Rules that are seldom met.

use super::*;

fn volume(source: Value, want: &[&str]) {
    let mut volume = json!({"name": "v"});
    json_patch::merge(&mut volume, &source);
    pod(json!({"containers": [{"name": "c", "image": "i:1"}], "volumes": [volume]}), want);
}

#[test]
fn storage_systems() {
    for (source, want) in [
        (
            json!({"csi": {"driver": "a".repeat(64)}}),
            vec!["spec.volumes[0].csi.driver: Too long: may not be more than 63 bytes"],
        ),
        (
            json!({"csi": {"driver": "d", "nodePublishSecretRef": {}}}),
            vec!["spec.volumes[0].csi.nodePublishSecretRef.name: Required value"],
        ),
        (
            json!({"flexVolume": {"driver": "d", "options": {"kubernetes.io/x": "y"}}}),
            vec![
                "spec.volumes[0].flexVolume.options[kubernetes.io/x]: Invalid value: \
                 \"kubernetes.io/x\": kubernetes.io and k8s.io namespaces are reserved",
            ],
        ),
        (
            json!({"iscsi": {"targetPortal": "p", "iqn": "abc", "lun": 256}}),
            vec![
                "spec.volumes[0].iscsi.iqn: Invalid value: \"abc\": must be valid format starting \
                 with iqn, eui, or naa",
                "spec.volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
            ],
        ),
        (
            json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2026-01.example:disk", "lun": 1}}),
            vec![],
        ),
        (
            json!({"azureDisk": {"diskName": "d", "diskURI": "x", "kind": "Managed"}}),
            vec![
                "spec.volumes[0].azureDisk.diskURI: Unsupported value: \"x\": supported values: \
                 \"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/\
                 disks/{disk-id}\"",
            ],
        ),
        (
            json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "n"}, "spec":
                {"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"],
                 "resources": {"requests": {"storage": "1Gi"}}}}}}),
            vec![
                "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be \
                 set",
                "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Forbidden: may not \
                 use ReadWriteOncePod with other access modes",
            ],
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "x"}]}}),
            vec![
                "spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef \
                 is required",
            ],
        ),
        (
            json!({"projected": {"sources": [
                {"configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]},
                 "secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}]}}),
            vec![
                "spec.volumes[0].projected: Invalid value: \"m\": conflicting duplicate paths",
                "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 \
                 volume type per source",
            ],
        ),
        (json!({"image": {}}), vec!["spec.volumes[0].image.reference: Required value"]),
    ] {
        volume(source, &want);
    }
}

#[test]
fn amounts_of_pods() {
    let containers = json!([{"name": "c", "image": "i:1",
        "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}}]);
    pod(
        json!({"containers": containers, "resources": {"requests": {"cpu": "1"},
                                                       "limits": {"cpu": "2"}}}),
        &[
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to \
             aggregate container requests of 2",
            "spec.resources.containers[0][cpu].limits: Invalid value: \"3\": must be less than or \
             equal to pod limits of 2",
        ],
    );
    container(
        json!({"resources": {"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}}),
        &[
            "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is \
             not positive integer multiple of hugepages-2Mi",
            "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is \
             not positive integer multiple of hugepages-2Mi",
        ],
    );
    container(
        json!({"resources": {"claims": [{"name": "x"}]}}),
        &["spec.containers[0].resources.claims[0]: Not found: \"x\": must be one of the names in \
           pod.spec.resourceClaims which is empty"],
    );
}

#[test]
fn where_pods_run() {
    let affinity = |list: &str, term: Value| json!({"affinity": {"nodeAffinity": {list: term}}});
    let term = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]});
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let problem = names::label_value("b c").remove(0);
    pod(
        affinity(required, json!({"nodeSelectorTerms": [term]})),
        &[&format!(
            "spec.affinity.nodeAffinity.{required}.nodeSelectorTerms[0].matchExpressions[0].\
             values[0]: Invalid value: \"b c\": {problem}"
        )],
    );
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    pod(affinity(preferred, json!([{"weight": 1, "preference": term}])), &[]);
    let host = json!({"windowsOptions": {"hostProcess": true}});
    pod(
        json!({"containers": [{"name": "c", "image": "i:1", "securityContext": host},
                              {"name": "d", "image": "i:1"}]}),
        &[
            "spec: Invalid value: \"\": If pod contains any hostProcess containers then all \
             containers must be HostProcess containers",
            "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any \
             hostProcess containers",
        ],
    );
}

#[test]
fn addresses_of_services() {
    let two = json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}});
    let one = json!({"clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]});
    check_update(
        "",
        "Service",
        two.clone(),
        json!({"spec": one}),
        &[
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' \
             when releasing the secondary clusterIP",
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' \
             when releasing the secondary ipFamily",
        ],
    );
    let mut one = one;
    json_patch::merge(&mut one, &json!({"ipFamilyPolicy": "SingleStack"}));
    check_update("", "Service", two.clone(), json!({"spec": one}), &[]);
    check_update(
        "",
        "Service",
        two,
        json!({"spec": {"clusterIPs": ["10.0.0.1", "fd00::2"]}}),
        &["spec.clusterIPs[1]: Invalid value: [\"10.0.0.1\",\"fd00::2\"]: may not change once set"],
    );
    let annotations = json!({"service.kubernetes.io/topology-aware-hints": "auto",
        "service.kubernetes.io/topology-mode": "off"});
    check(
        "",
        "Service",
        json!({"metadata": {"annotations": annotations}}),
        &[
            "metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: \"off\": must \
           match annotations[service.kubernetes.io/topology-aware-hints] when both are specified",
        ],
    );
    let nodes: Vec<Value> = (0..9).map(|i| json!({"name": format!("n{i}")})).collect();
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forNodes": nodes}}]}),
        &["endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items"],
    );
}
