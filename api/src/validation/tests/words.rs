//! Words and order of errors as upstream's source has them, where they are easily got wrong.

use super::*;

const STORAGE: &str = "storage.k8s.io";
const IMMUTABLE: &str = "field is immutable";
const INLINE: &str = "may not be specified in the context of inline volumes";

fn source(source: Value, want: &[&str]) {
    let mut patch = json!({"hostPath": null, "local": null, "nfs": null, "csi": null});
    json_patch::merge(&mut patch, &json!({"storageClassName": "c"}));
    for (name, value) in source.as_object().into_iter().flatten() {
        patch[name] = value.clone();
    }
    check("", "PersistentVolume", json!({"spec": patch}), want);
}

#[test]
fn sources_of_volumes() {
    source(json!({}), &["spec: Required value: must specify a volume type"]);
    let csi = json!({"driver": "d", "volumeHandle": "h"});
    source(json!({"csi": csi}), &[]);
    let mut secret = csi.clone();
    secret["nodePublishSecretRef"] = json!({"name": "", "namespace": ""});
    // Upstream does not look at this one.
    secret["nodeStageSecretRef"] = json!({"name": "", "namespace": ""});
    source(
        json!({"csi": secret}),
        &[
            "spec.csi.nodePublishSecretRef.name: Required value",
            "spec.csi.nodePublishSecretRef.namespace: Required value",
        ],
    );
    source(
        json!({"glusterfs": {"endpoints": "e", "path": "p", "endpointsNamespace": ""}}),
        &[
            "spec.glusterfs.endpointsNamespace: Invalid value: \"\": if the endpointnamespace is set, it must be \
           a valid namespace name",
        ],
    );
    source(
        json!({"iscsi": {"targetPortal": "1.2.3.4", "iqn": "iqn.2001-04.com.example:storage", "lun": 0,
            "initiatorName": "odd"}}),
        &["spec.iscsi.initiatorname: Invalid value: \"odd\": must be valid format"],
    );
    source(
        json!({"csi": csi, "nfs": {"server": "s", "path": "/p"}}),
        &["spec.csi: Forbidden: may not specify more than 1 volume type"],
    );
}

#[test]
fn options_in_annotations_need_a_source_that_mounts() {
    let name = "volume.beta.kubernetes.io/mount-options";
    let metadata = json!({"annotations": {name: "ro"}});
    let spec = json!({"hostPath": null, "nfs": {"server": "s", "path": "/p"}});
    check("", "PersistentVolume", json!({"metadata": metadata, "spec": spec}), &[]);
    let spec = json!({"hostPath": null, "csi": {"driver": "d", "volumeHandle": "h"}});
    let want = format!(
        "metadata.annotations.{name}: Forbidden: may not specify mount options for this volume type"
    );
    check("", "PersistentVolume", json!({"metadata": metadata, "spec": spec}), &[&want]);
}

#[test]
fn volumes_written_out_in_attachments() {
    let inline = |spec: Value, want: &[&str]| {
        let source = json!({"persistentVolumeName": null, "inlineVolumeSpec": spec});
        check(STORAGE, "VolumeAttachment", json!({"spec": {"source": source}}), want);
    };
    let csi = json!({"driver": "d", "volumeHandle": "h"});
    inline(json!({"accessModes": ["ReadWriteOnce"], "csi": csi}), &[]);
    let path = "spec.source.inlineVolumeSpec";
    inline(
        json!({"accessModes": ["ReadWriteOnce"], "csi": csi, "capacity": {"storage": "1"},
            "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "c", "volumeMode": "Block"}),
        &[
            &format!("{path}.capacity: Forbidden: {INLINE}"),
            &format!(
                "{path}.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline volumes"
            ),
            &format!("{path}.storageClassName: Forbidden: {INLINE}"),
            &format!(
                "{path}.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of \
                 inline volumes"
            ),
        ],
    );
    inline(
        json!({"accessModes": ["ReadWriteOnce"], "nfs": {"server": "s", "path": "/p"}}),
        &[&format!(
            "{path}.csi: Required value: has to be specified in the context of inline volumes"
        )],
    );
}

#[test]
fn claims_get_a_class_later() {
    let given = |before: Value, patch: Value, want: &[&str]| {
        check_update("", "PersistentVolumeClaim", before, patch, want);
    };
    let class = json!({"spec": {"storageClassName": "c"}});
    given(json!({"spec": {"storageClassName": null}}), class, &[]);
    let annotation = "volume.beta.kubernetes.io/storage-class";
    given(
        json!({"metadata": {"annotations": {annotation: "a"}}}),
        json!({"metadata": {"annotations": {annotation: "b"}}}),
        &[&format!("metadata.annotations.{annotation}: Invalid value: \"b\": {IMMUTABLE}")],
    );
}

#[test]
fn ranges_of_services_grow() {
    let change = |before: Value, after: Value, want: &[&str]| {
        check_update(
            "networking.k8s.io",
            "ServiceCIDR",
            json!({"spec": {"cidrs": before}}),
            json!({"spec": {"cidrs": after}}),
            want,
        );
    };
    change(json!(["10.0.0.0/24"]), json!(["10.0.0.0/24", "fd00::/64"]), &[]);
    change(
        json!(["10.0.0.0/24"]),
        json!(["10.1.0.0/24"]),
        &[&format!("spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": {IMMUTABLE}")],
    );
    change(
        json!(["10.0.0.0/24", "fd00::/64"]),
        json!(["10.0.0.0/24"]),
        &[&format!("spec.cidrs: Invalid value: [\"10.0.0.0/24\"]: {IMMUTABLE}")],
    );
    for (text, detail) in [
        ("10.0.0.0/024", "must not have leading 0s in IP or prefix length"),
        ("::ffff:10.0.0.0/120", "must not have an IPv4-mapped IPv6 address"),
        ("FD00::/64", "must be in canonical form (\"fd00::/64\")"),
    ] {
        let want = format!("spec.cidrs[0]: Invalid value: \"{text}\": {detail}");
        check("networking.k8s.io", "ServiceCIDR", json!({"spec": {"cidrs": [text]}}), &[&want]);
    }
}

#[test]
fn classes_of_storage_are_checked_whole_when_they_change() {
    let long = "v".repeat(300 * 1024);
    check(
        STORAGE,
        "StorageClass",
        json!({"parameters": {"k": long}}),
        &["parameters: Too long: may not be more than 262144 bytes"],
    );
    check(
        STORAGE,
        "StorageClass",
        json!({"parameters": {"": "v"}}),
        &["parameters: Invalid value: \"\": field can not be empty."],
    );
}

#[test]
fn a_binding_needs_a_node() {
    assert_eq!(show(&pod_binding(&json!({"target": {"name": "n"}}))), "");
    assert_eq!(
        show(&pod_binding(&json!({"target": {"kind": "Pod"}}))),
        "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"\n\
         target.name: Required value"
    );
}
