//! The rows of the resource table. One row serves one kind.

use super::{GroupDef, GroupVersionKind, ResourceDef, Storage, SubresourceDef, Verb};
use crate::schema::{TypeId, ids};

/// What stored resources have.
const ALL: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];
/// Namespaces are deleted one at a time.
const ALL_BUT_COLLECTION: &[Verb] =
    &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];
const CREATE: &[Verb] = &[Verb::Create];
const CREATE_GET: &[Verb] = &[Verb::Create, Verb::Get];
const ANY: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update];
const GET: &[Verb] = &[Verb::Get];
const GET_LIST: &[Verb] = &[Verb::Get, Verb::List];
/// What only the masters themselves write.
const READ: &[Verb] = &[Verb::Get, Verb::List, Verb::Watch];
const UPDATE: &[Verb] = &[Verb::Update];
const GET_PATCH_UPDATE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

/// The groups served, in the order upstream's aggregated discovery lists them.
pub(super) static GROUPS: &[GroupDef] = &[
    group("", &["v1"]),
    group("apiregistration.k8s.io", &["v1"]),
    group("apps", &["v1"]),
    group("events.k8s.io", &["v1"]),
    group("authentication.k8s.io", &["v1"]),
    group("authorization.k8s.io", &["v1"]),
    group("autoscaling", &["v2", "v1"]),
    group("batch", &["v1"]),
    group("certificates.k8s.io", &["v1"]),
    group("networking.k8s.io", &["v1", "v1beta1"]),
    group("policy", &["v1"]),
    group("rbac.authorization.k8s.io", &["v1"]),
    group("storage.k8s.io", &["v1"]),
    group("admissionregistration.k8s.io", &["v1"]),
    group("apiextensions.k8s.io", &["v1"]),
    group("scheduling.k8s.io", &["v1"]),
    group("coordination.k8s.io", &["v1"]),
    group("node.k8s.io", &["v1"]),
    group("discovery.k8s.io", &["v1"]),
    group("resource.k8s.io", &["v1"]),
    group("flowcontrol.apiserver.k8s.io", &["v1"]),
    group("storagemigration.k8s.io", &["v1beta1"]),
    group("quorate.io", &["v1"]),
];

const fn group(name: &'static str, versions: &'static [&'static str]) -> GroupDef {
    GroupDef { name, versions }
}

const fn gvk(group: &'static str, version: &'static str, kind: &'static str) -> GroupVersionKind {
    GroupVersionKind { group, version, kind }
}

/// A stored, namespaced resource with all verbs; the `with_…` functions say what differs.
const fn stored(
    gvk: GroupVersionKind,
    names: (&'static str, &'static str),
    short_names: &'static [&'static str],
    schema: TypeId,
    list_schema: TypeId,
) -> ResourceDef {
    ResourceDef {
        gvk,
        plural: names.0,
        singular: names.1,
        short_names,
        categories: &[],
        namespaced: true,
        verbs: ALL,
        schema,
        list_schema: Some(list_schema),
        subresources: &[],
        storage: Storage::Own,
        delete_returns_object: false,
        custom: None,
    }
}

/// A resource that only answers a POST.
const fn review(
    gvk: GroupVersionKind,
    names: (&'static str, &'static str),
    schema: TypeId,
) -> ResourceDef {
    ResourceDef {
        gvk,
        plural: names.0,
        singular: names.1,
        short_names: &[],
        categories: &[],
        namespaced: false,
        verbs: CREATE,
        schema,
        list_schema: None,
        subresources: &[],
        storage: Storage::Virtual,
        delete_returns_object: false,
        custom: None,
    }
}

const fn sub(
    name: &'static str,
    gvk: GroupVersionKind,
    schema: TypeId,
    verbs: &'static [Verb],
) -> SubresourceDef {
    SubresourceDef { name, gvk, schema, verbs, custom: None }
}

impl ResourceDef {
    const fn with_subresources(mut self, subresources: &'static [SubresourceDef]) -> Self {
        self.subresources = subresources;
        self
    }

    const fn with_categories(mut self, categories: &'static [&'static str]) -> Self {
        self.categories = categories;
        self
    }

    const fn with_verbs(mut self, verbs: &'static [Verb]) -> Self {
        self.verbs = verbs;
        self
    }

    const fn delete_returns_object(mut self) -> Self {
        self.delete_returns_object = true;
        self
    }

    const fn in_cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn in_namespace(mut self) -> Self {
        self.namespaced = true;
        self
    }

    const fn kept_as(
        mut self,
        group: &'static str,
        version: &'static str,
        plural: &'static str,
    ) -> Self {
        self.storage = Storage::As { group, version, plural };
        self
    }
}

const POD: GroupVersionKind = gvk("", "v1", "Pod");
const NAMESPACE: GroupVersionKind = gvk("", "v1", "Namespace");
const NODE: GroupVersionKind = gvk("", "v1", "Node");
const SERVICE: GroupVersionKind = gvk("", "v1", "Service");
const BINDING: GroupVersionKind = gvk("", "v1", "Binding");
const DEPLOYMENT: GroupVersionKind = gvk("apps", "v1", "Deployment");
const REPLICA_SET: GroupVersionKind = gvk("apps", "v1", "ReplicaSet");
const CRON_JOB: GroupVersionKind = gvk("batch", "v1", "CronJob");
const JOB: GroupVersionKind = gvk("batch", "v1", "Job");
const DAEMON_SET: GroupVersionKind = gvk("apps", "v1", "DaemonSet");
const STATEFUL_SET: GroupVersionKind = gvk("apps", "v1", "StatefulSet");
const CLAIM: GroupVersionKind = gvk("", "v1", "PersistentVolumeClaim");
const VOLUME: GroupVersionKind = gvk("", "v1", "PersistentVolume");
const CONTROLLER: GroupVersionKind = gvk("", "v1", "ReplicationController");
const QUOTA: GroupVersionKind = gvk("", "v1", "ResourceQuota");
const AUTOSCALER: GroupVersionKind = gvk("autoscaling", "v2", "HorizontalPodAutoscaler");
const OLD_AUTOSCALER: GroupVersionKind = gvk("autoscaling", "v1", "HorizontalPodAutoscaler");
const BUDGET: GroupVersionKind = gvk("policy", "v1", "PodDisruptionBudget");
const SIGNING: GroupVersionKind = gvk("certificates.k8s.io", "v1", "CertificateSigningRequest");
const NETWORKING: &str = "networking.k8s.io";
const INGRESS: GroupVersionKind = gvk(NETWORKING, "v1", "Ingress");
const SERVICE_CIDR: GroupVersionKind = gvk(NETWORKING, "v1", "ServiceCIDR");
const OLD_SERVICE_CIDR: GroupVersionKind = gvk(NETWORKING, "v1beta1", "ServiceCIDR");
const STORAGE: &str = "storage.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const POLICY: GroupVersionKind = gvk(ADMISSION, "v1", "ValidatingAdmissionPolicy");
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMA: GroupVersionKind = gvk(FLOW, "v1", "FlowSchema");
const LEVEL: GroupVersionKind = gvk(FLOW, "v1", "PriorityLevelConfiguration");
const API_SERVICE: GroupVersionKind = gvk("apiregistration.k8s.io", "v1", "APIService");
const MIGRATION: GroupVersionKind =
    gvk("storagemigration.k8s.io", "v1beta1", "StorageVersionMigration");
const DEVICES: &str = "resource.k8s.io";
const DEVICE_CLAIM: GroupVersionKind = gvk(DEVICES, "v1", "ResourceClaim");
const EXTENSIONS: &[&str] = &["api-extensions"];
const ATTACHMENT: GroupVersionKind = gvk(STORAGE, "v1", "VolumeAttachment");
const DEFINITION: GroupVersionKind = gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
const SCALE: GroupVersionKind = gvk("autoscaling", "v1", "Scale");
const EVICTION: GroupVersionKind = gvk("policy", "v1", "Eviction");
const TOKEN_REQUEST: GroupVersionKind = gvk("authentication.k8s.io", "v1", "TokenRequest");
const AUTHN: &str = "authentication.k8s.io";
const AUTHZ: &str = "authorization.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

#[rustfmt::skip] // one line a fact
pub(super) static RESOURCES: &[ResourceDef] = &[
    review(BINDING, ("bindings", "binding"), ids::CORE_V1_BINDING).in_namespace(),
    stored(gvk("", "v1", "ComponentStatus"), ("componentstatuses", "componentstatus"), &["cs"],
        ids::CORE_V1_COMPONENTSTATUS, ids::CORE_V1_COMPONENTSTATUSLIST)
        .in_cluster()
        .with_verbs(GET_LIST),
    stored(gvk("", "v1", "ConfigMap"), ("configmaps", "configmap"), &["cm"],
        ids::CORE_V1_CONFIGMAP, ids::CORE_V1_CONFIGMAPLIST),
    stored(gvk("", "v1", "Endpoints"), ("endpoints", "endpoints"), &["ep"],
        ids::CORE_V1_ENDPOINTS, ids::CORE_V1_ENDPOINTSLIST),
    stored(gvk("", "v1", "Event"), ("events", "event"), &["ev"],
        ids::CORE_V1_EVENT, ids::CORE_V1_EVENTLIST),
    stored(gvk("", "v1", "LimitRange"), ("limitranges", "limitrange"), &["limits"],
        ids::CORE_V1_LIMITRANGE, ids::CORE_V1_LIMITRANGELIST),
    stored(NAMESPACE, ("namespaces", "namespace"), &["ns"],
        ids::CORE_V1_NAMESPACE, ids::CORE_V1_NAMESPACELIST)
        .in_cluster()
        .with_verbs(ALL_BUT_COLLECTION)
        .with_subresources(&[
            sub("finalize", NAMESPACE, ids::CORE_V1_NAMESPACE, UPDATE),
            sub("status", NAMESPACE, ids::CORE_V1_NAMESPACE, GET_PATCH_UPDATE),
        ]),
    stored(NODE, ("nodes", "node"), &["no"], ids::CORE_V1_NODE, ids::CORE_V1_NODELIST)
        .in_cluster()
        .with_subresources(&[
            sub("proxy", gvk("", "v1", "NodeProxyOptions"), ids::CORE_V1_NODEPROXYOPTIONS, ANY),
            sub("status", NODE, ids::CORE_V1_NODE, GET_PATCH_UPDATE),
        ]),
    stored(CLAIM, ("persistentvolumeclaims", "persistentvolumeclaim"), &["pvc"],
        ids::CORE_V1_PERSISTENTVOLUMECLAIM, ids::CORE_V1_PERSISTENTVOLUMECLAIMLIST)
        .delete_returns_object()
        .with_subresources(&[sub("status", CLAIM, ids::CORE_V1_PERSISTENTVOLUMECLAIM, GET_PATCH_UPDATE)]),
    stored(VOLUME, ("persistentvolumes", "persistentvolume"), &["pv"],
        ids::CORE_V1_PERSISTENTVOLUME, ids::CORE_V1_PERSISTENTVOLUMELIST)
        .in_cluster()
        .delete_returns_object()
        .with_subresources(&[sub("status", VOLUME, ids::CORE_V1_PERSISTENTVOLUME, GET_PATCH_UPDATE)]),
    stored(POD, ("pods", "pod"), &["po"], ids::CORE_V1_POD, ids::CORE_V1_PODLIST)
        .delete_returns_object()
        .with_categories(&["all"])
        .with_subresources(&[
            sub("attach", gvk("", "v1", "PodAttachOptions"), ids::CORE_V1_PODATTACHOPTIONS, CREATE_GET),
            sub("binding", BINDING, ids::CORE_V1_BINDING, CREATE),
            sub("ephemeralcontainers", POD, ids::CORE_V1_POD, GET_PATCH_UPDATE),
            sub("eviction", EVICTION, ids::POLICY_V1_EVICTION, CREATE),
            sub("exec", gvk("", "v1", "PodExecOptions"), ids::CORE_V1_PODEXECOPTIONS, CREATE_GET),
            sub("log", POD, ids::CORE_V1_POD, GET),
            sub("portforward", gvk("", "v1", "PodPortForwardOptions"), ids::CORE_V1_PODPORTFORWARDOPTIONS, CREATE_GET),
            sub("proxy", gvk("", "v1", "PodProxyOptions"), ids::CORE_V1_PODPROXYOPTIONS, ANY),
            sub("resize", POD, ids::CORE_V1_POD, GET_PATCH_UPDATE),
            sub("status", POD, ids::CORE_V1_POD, GET_PATCH_UPDATE),
        ]),
    stored(gvk("", "v1", "PodTemplate"), ("podtemplates", "podtemplate"), &[],
        ids::CORE_V1_PODTEMPLATE, ids::CORE_V1_PODTEMPLATELIST)
        .delete_returns_object(),
    stored(CONTROLLER, ("replicationcontrollers", "replicationcontroller"), &["rc"],
        ids::CORE_V1_REPLICATIONCONTROLLER, ids::CORE_V1_REPLICATIONCONTROLLERLIST)
        .with_categories(&["all"])
        .with_subresources(&[
            sub("scale", SCALE, ids::AUTOSCALING_V1_SCALE, GET_PATCH_UPDATE),
            sub("status", CONTROLLER, ids::CORE_V1_REPLICATIONCONTROLLER, GET_PATCH_UPDATE),
        ]),
    stored(QUOTA, ("resourcequotas", "resourcequota"), &["quota"],
        ids::CORE_V1_RESOURCEQUOTA, ids::CORE_V1_RESOURCEQUOTALIST)
        .delete_returns_object()
        .with_subresources(&[sub("status", QUOTA, ids::CORE_V1_RESOURCEQUOTA, GET_PATCH_UPDATE)]),
    stored(gvk("", "v1", "Secret"), ("secrets", "secret"), &[],
        ids::CORE_V1_SECRET, ids::CORE_V1_SECRETLIST),
    stored(gvk("", "v1", "ServiceAccount"), ("serviceaccounts", "serviceaccount"), &["sa"],
        ids::CORE_V1_SERVICEACCOUNT, ids::CORE_V1_SERVICEACCOUNTLIST)
        .delete_returns_object()
        .with_subresources(&[sub("token", TOKEN_REQUEST, ids::AUTHENTICATION_V1_TOKENREQUEST, CREATE)]),
    stored(SERVICE, ("services", "service"), &["svc"], ids::CORE_V1_SERVICE, ids::CORE_V1_SERVICELIST)
        .delete_returns_object()
        .with_categories(&["all"])
        .with_subresources(&[
            sub("proxy", gvk("", "v1", "ServiceProxyOptions"), ids::CORE_V1_SERVICEPROXYOPTIONS, ANY),
            sub("status", SERVICE, ids::CORE_V1_SERVICE, GET_PATCH_UPDATE),
        ]),

    stored(API_SERVICE, ("apiservices", "apiservice"), &[],
        ids::APIREGISTRATION_V1_APISERVICE, ids::APIREGISTRATION_V1_APISERVICELIST)
        .in_cluster()
        .with_categories(EXTENSIONS)
        .with_subresources(&[sub("status", API_SERVICE, ids::APIREGISTRATION_V1_APISERVICE, GET_PATCH_UPDATE)]),

    stored(gvk("apps", "v1", "ControllerRevision"), ("controllerrevisions", "controllerrevision"), &[],
        ids::APPS_V1_CONTROLLERREVISION, ids::APPS_V1_CONTROLLERREVISIONLIST),
    stored(DAEMON_SET, ("daemonsets", "daemonset"), &["ds"], ids::APPS_V1_DAEMONSET, ids::APPS_V1_DAEMONSETLIST)
        .with_categories(&["all"])
        .with_subresources(&[sub("status", DAEMON_SET, ids::APPS_V1_DAEMONSET, GET_PATCH_UPDATE)]),
    stored(DEPLOYMENT, ("deployments", "deployment"), &["deploy"],
        ids::APPS_V1_DEPLOYMENT, ids::APPS_V1_DEPLOYMENTLIST)
        .with_categories(&["all"])
        .with_subresources(&[
            sub("scale", SCALE, ids::AUTOSCALING_V1_SCALE, GET_PATCH_UPDATE),
            sub("status", DEPLOYMENT, ids::APPS_V1_DEPLOYMENT, GET_PATCH_UPDATE),
        ]),
    stored(REPLICA_SET, ("replicasets", "replicaset"), &["rs"],
        ids::APPS_V1_REPLICASET, ids::APPS_V1_REPLICASETLIST)
        .with_categories(&["all"])
        .with_subresources(&[
            sub("scale", SCALE, ids::AUTOSCALING_V1_SCALE, GET_PATCH_UPDATE),
            sub("status", REPLICA_SET, ids::APPS_V1_REPLICASET, GET_PATCH_UPDATE),
        ]),
    stored(STATEFUL_SET, ("statefulsets", "statefulset"), &["sts"],
        ids::APPS_V1_STATEFULSET, ids::APPS_V1_STATEFULSETLIST)
        .with_categories(&["all"])
        .with_subresources(&[
            sub("scale", SCALE, ids::AUTOSCALING_V1_SCALE, GET_PATCH_UPDATE),
            sub("status", STATEFUL_SET, ids::APPS_V1_STATEFULSET, GET_PATCH_UPDATE),
        ]),

    stored(gvk("events.k8s.io", "v1", "Event"), ("events", "event"), &["ev"],
        ids::EVENTS_V1_EVENT, ids::EVENTS_V1_EVENTLIST)
        .kept_as("", "v1", "events"),

    review(gvk(AUTHN, "v1", "SelfSubjectReview"), ("selfsubjectreviews", "selfsubjectreview"),
        ids::AUTHENTICATION_V1_SELFSUBJECTREVIEW),
    review(gvk(AUTHN, "v1", "TokenReview"), ("tokenreviews", "tokenreview"),
        ids::AUTHENTICATION_V1_TOKENREVIEW),

    review(gvk(AUTHZ, "v1", "LocalSubjectAccessReview"),
        ("localsubjectaccessreviews", "localsubjectaccessreview"),
        ids::AUTHORIZATION_V1_LOCALSUBJECTACCESSREVIEW).in_namespace(),
    review(gvk(AUTHZ, "v1", "SelfSubjectAccessReview"),
        ("selfsubjectaccessreviews", "selfsubjectaccessreview"),
        ids::AUTHORIZATION_V1_SELFSUBJECTACCESSREVIEW),
    review(gvk(AUTHZ, "v1", "SelfSubjectRulesReview"),
        ("selfsubjectrulesreviews", "selfsubjectrulesreview"),
        ids::AUTHORIZATION_V1_SELFSUBJECTRULESREVIEW),
    review(gvk(AUTHZ, "v1", "SubjectAccessReview"), ("subjectaccessreviews", "subjectaccessreview"),
        ids::AUTHORIZATION_V1_SUBJECTACCESSREVIEW),

    stored(AUTOSCALER, ("horizontalpodautoscalers", "horizontalpodautoscaler"), &["hpa"],
        ids::AUTOSCALING_V2_HORIZONTALPODAUTOSCALER, ids::AUTOSCALING_V2_HORIZONTALPODAUTOSCALERLIST)
        .with_categories(&["all"])
        .with_subresources(&[
            sub("status", AUTOSCALER, ids::AUTOSCALING_V2_HORIZONTALPODAUTOSCALER, GET_PATCH_UPDATE),
        ]),
    stored(OLD_AUTOSCALER, ("horizontalpodautoscalers", "horizontalpodautoscaler"), &["hpa"],
        ids::AUTOSCALING_V1_HORIZONTALPODAUTOSCALER, ids::AUTOSCALING_V1_HORIZONTALPODAUTOSCALERLIST)
        .with_categories(&["all"])
        .with_subresources(&[
            sub("status", OLD_AUTOSCALER, ids::AUTOSCALING_V1_HORIZONTALPODAUTOSCALER, GET_PATCH_UPDATE),
        ])
        .kept_as("autoscaling", "v2", "horizontalpodautoscalers"),

    stored(CRON_JOB, ("cronjobs", "cronjob"), &["cj"], ids::BATCH_V1_CRONJOB, ids::BATCH_V1_CRONJOBLIST)
        .with_categories(&["all"])
        .with_subresources(&[sub("status", CRON_JOB, ids::BATCH_V1_CRONJOB, GET_PATCH_UPDATE)]),
    stored(JOB, ("jobs", "job"), &[], ids::BATCH_V1_JOB, ids::BATCH_V1_JOBLIST)
        .with_categories(&["all"])
        .with_subresources(&[sub("status", JOB, ids::BATCH_V1_JOB, GET_PATCH_UPDATE)]),

    stored(SIGNING, ("certificatesigningrequests", "certificatesigningrequest"), &["csr"],
        ids::CERTIFICATES_V1_CERTIFICATESIGNINGREQUEST, ids::CERTIFICATES_V1_CERTIFICATESIGNINGREQUESTLIST)
        .in_cluster()
        .with_subresources(&[
            sub("approval", SIGNING, ids::CERTIFICATES_V1_CERTIFICATESIGNINGREQUEST, GET_PATCH_UPDATE),
            sub("status", SIGNING, ids::CERTIFICATES_V1_CERTIFICATESIGNINGREQUEST, GET_PATCH_UPDATE),
        ]),

    stored(gvk(NETWORKING, "v1", "IngressClass"), ("ingressclasses", "ingressclass"), &[],
        ids::NETWORKING_V1_INGRESSCLASS, ids::NETWORKING_V1_INGRESSCLASSLIST).in_cluster(),
    stored(INGRESS, ("ingresses", "ingress"), &["ing"], ids::NETWORKING_V1_INGRESS, ids::NETWORKING_V1_INGRESSLIST)
        .with_subresources(&[sub("status", INGRESS, ids::NETWORKING_V1_INGRESS, GET_PATCH_UPDATE)]),
    stored(gvk(NETWORKING, "v1", "IPAddress"), ("ipaddresses", "ipaddress"), &["ip"],
        ids::NETWORKING_V1_IPADDRESS, ids::NETWORKING_V1_IPADDRESSLIST).in_cluster(),
    stored(gvk(NETWORKING, "v1", "NetworkPolicy"), ("networkpolicies", "networkpolicy"), &["netpol"],
        ids::NETWORKING_V1_NETWORKPOLICY, ids::NETWORKING_V1_NETWORKPOLICYLIST),
    stored(SERVICE_CIDR, ("servicecidrs", "servicecidr"), &[],
        ids::NETWORKING_V1_SERVICECIDR, ids::NETWORKING_V1_SERVICECIDRLIST)
        .in_cluster()
        .with_subresources(&[sub("status", SERVICE_CIDR, ids::NETWORKING_V1_SERVICECIDR, GET_PATCH_UPDATE)]),
    stored(gvk(NETWORKING, "v1beta1", "IPAddress"), ("ipaddresses", "ipaddress"), &["ip"],
        ids::NETWORKING_V1BETA1_IPADDRESS, ids::NETWORKING_V1BETA1_IPADDRESSLIST)
        .in_cluster()
        .kept_as(NETWORKING, "v1", "ipaddresses"),
    stored(OLD_SERVICE_CIDR, ("servicecidrs", "servicecidr"), &[],
        ids::NETWORKING_V1BETA1_SERVICECIDR, ids::NETWORKING_V1BETA1_SERVICECIDRLIST)
        .in_cluster()
        .with_subresources(&[
            sub("status", OLD_SERVICE_CIDR, ids::NETWORKING_V1BETA1_SERVICECIDR, GET_PATCH_UPDATE),
        ])
        .kept_as(NETWORKING, "v1", "servicecidrs"),

    stored(BUDGET, ("poddisruptionbudgets", "poddisruptionbudget"), &["pdb"],
        ids::POLICY_V1_PODDISRUPTIONBUDGET, ids::POLICY_V1_PODDISRUPTIONBUDGETLIST)
        .with_subresources(&[sub("status", BUDGET, ids::POLICY_V1_PODDISRUPTIONBUDGET, GET_PATCH_UPDATE)]),

    stored(gvk(RBAC, "v1", "ClusterRoleBinding"), ("clusterrolebindings", "clusterrolebinding"), &[],
        ids::RBAC_V1_CLUSTERROLEBINDING, ids::RBAC_V1_CLUSTERROLEBINDINGLIST).in_cluster(),
    stored(gvk(RBAC, "v1", "ClusterRole"), ("clusterroles", "clusterrole"), &[],
        ids::RBAC_V1_CLUSTERROLE, ids::RBAC_V1_CLUSTERROLELIST).in_cluster(),
    stored(gvk(RBAC, "v1", "RoleBinding"), ("rolebindings", "rolebinding"), &[],
        ids::RBAC_V1_ROLEBINDING, ids::RBAC_V1_ROLEBINDINGLIST),
    stored(gvk(RBAC, "v1", "Role"), ("roles", "role"), &[], ids::RBAC_V1_ROLE, ids::RBAC_V1_ROLELIST),

    stored(gvk(STORAGE, "v1", "CSIDriver"), ("csidrivers", "csidriver"), &[],
        ids::STORAGE_V1_CSIDRIVER, ids::STORAGE_V1_CSIDRIVERLIST).in_cluster().delete_returns_object(),
    stored(gvk(STORAGE, "v1", "CSINode"), ("csinodes", "csinode"), &[],
        ids::STORAGE_V1_CSINODE, ids::STORAGE_V1_CSINODELIST).in_cluster().delete_returns_object(),
    stored(gvk(STORAGE, "v1", "CSIStorageCapacity"), ("csistoragecapacities", "csistoragecapacity"), &[],
        ids::STORAGE_V1_CSISTORAGECAPACITY, ids::STORAGE_V1_CSISTORAGECAPACITYLIST),
    stored(gvk(STORAGE, "v1", "StorageClass"), ("storageclasses", "storageclass"), &["sc"],
        ids::STORAGE_V1_STORAGECLASS, ids::STORAGE_V1_STORAGECLASSLIST).in_cluster().delete_returns_object(),
    stored(ATTACHMENT, ("volumeattachments", "volumeattachment"), &[],
        ids::STORAGE_V1_VOLUMEATTACHMENT, ids::STORAGE_V1_VOLUMEATTACHMENTLIST)
        .in_cluster()
        .delete_returns_object()
        .with_subresources(&[sub("status", ATTACHMENT, ids::STORAGE_V1_VOLUMEATTACHMENT, GET_PATCH_UPDATE)]),
    stored(gvk(STORAGE, "v1", "VolumeAttributesClass"), ("volumeattributesclasses", "volumeattributesclass"), &["vac"],
        ids::STORAGE_V1_VOLUMEATTRIBUTESCLASS, ids::STORAGE_V1_VOLUMEATTRIBUTESCLASSLIST)
        .in_cluster()
        .delete_returns_object(),

    stored(gvk(ADMISSION, "v1", "MutatingAdmissionPolicy"), ("mutatingadmissionpolicies", "mutatingadmissionpolicy"),
        &[], ids::ADMISSIONREGISTRATION_V1_MUTATINGADMISSIONPOLICY,
        ids::ADMISSIONREGISTRATION_V1_MUTATINGADMISSIONPOLICYLIST).in_cluster().with_categories(EXTENSIONS),
    stored(gvk(ADMISSION, "v1", "MutatingAdmissionPolicyBinding"),
        ("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding"),
        &[], ids::ADMISSIONREGISTRATION_V1_MUTATINGADMISSIONPOLICYBINDING,
        ids::ADMISSIONREGISTRATION_V1_MUTATINGADMISSIONPOLICYBINDINGLIST).in_cluster().with_categories(EXTENSIONS),
    stored(gvk(ADMISSION, "v1", "MutatingWebhookConfiguration"),
        ("mutatingwebhookconfigurations", "mutatingwebhookconfiguration"),
        &[], ids::ADMISSIONREGISTRATION_V1_MUTATINGWEBHOOKCONFIGURATION,
        ids::ADMISSIONREGISTRATION_V1_MUTATINGWEBHOOKCONFIGURATIONLIST).in_cluster().with_categories(EXTENSIONS),
    stored(POLICY, ("validatingadmissionpolicies", "validatingadmissionpolicy"),
        &[], ids::ADMISSIONREGISTRATION_V1_VALIDATINGADMISSIONPOLICY,
        ids::ADMISSIONREGISTRATION_V1_VALIDATINGADMISSIONPOLICYLIST)
        .in_cluster()
        .with_categories(EXTENSIONS)
        .with_subresources(&[
            sub("status", POLICY, ids::ADMISSIONREGISTRATION_V1_VALIDATINGADMISSIONPOLICY, GET_PATCH_UPDATE),
        ]),
    stored(gvk(ADMISSION, "v1", "ValidatingAdmissionPolicyBinding"),
        ("validatingadmissionpolicybindings", "validatingadmissionpolicybinding"),
        &[], ids::ADMISSIONREGISTRATION_V1_VALIDATINGADMISSIONPOLICYBINDING,
        ids::ADMISSIONREGISTRATION_V1_VALIDATINGADMISSIONPOLICYBINDINGLIST).in_cluster().with_categories(EXTENSIONS),
    stored(gvk(ADMISSION, "v1", "ValidatingWebhookConfiguration"),
        ("validatingwebhookconfigurations", "validatingwebhookconfiguration"),
        &[], ids::ADMISSIONREGISTRATION_V1_VALIDATINGWEBHOOKCONFIGURATION,
        ids::ADMISSIONREGISTRATION_V1_VALIDATINGWEBHOOKCONFIGURATIONLIST).in_cluster().with_categories(EXTENSIONS),
    stored(DEFINITION, ("customresourcedefinitions", "customresourcedefinition"), &["crd", "crds"],
        ids::APIEXTENSIONS_V1_CUSTOMRESOURCEDEFINITION, ids::APIEXTENSIONS_V1_CUSTOMRESOURCEDEFINITIONLIST)
        .in_cluster()
        .with_categories(&["api-extensions"])
        .with_subresources(&[
            sub("status", DEFINITION, ids::APIEXTENSIONS_V1_CUSTOMRESOURCEDEFINITION, GET_PATCH_UPDATE),
        ]),

    stored(gvk("scheduling.k8s.io", "v1", "PriorityClass"), ("priorityclasses", "priorityclass"), &["pc"],
        ids::SCHEDULING_V1_PRIORITYCLASS, ids::SCHEDULING_V1_PRIORITYCLASSLIST).in_cluster(),

    stored(gvk("coordination.k8s.io", "v1", "Lease"), ("leases", "lease"), &[],
        ids::COORDINATION_V1_LEASE, ids::COORDINATION_V1_LEASELIST),

    stored(gvk("node.k8s.io", "v1", "RuntimeClass"), ("runtimeclasses", "runtimeclass"), &[],
        ids::NODE_V1_RUNTIMECLASS, ids::NODE_V1_RUNTIMECLASSLIST).in_cluster(),

    stored(gvk("discovery.k8s.io", "v1", "EndpointSlice"), ("endpointslices", "endpointslice"), &[],
        ids::DISCOVERY_V1_ENDPOINTSLICE, ids::DISCOVERY_V1_ENDPOINTSLICELIST),

    stored(gvk(DEVICES, "v1", "DeviceClass"), ("deviceclasses", "deviceclass"), &[],
        ids::RESOURCE_V1_DEVICECLASS, ids::RESOURCE_V1_DEVICECLASSLIST).in_cluster().delete_returns_object(),
    stored(DEVICE_CLAIM, ("resourceclaims", "resourceclaim"), &[],
        ids::RESOURCE_V1_RESOURCECLAIM, ids::RESOURCE_V1_RESOURCECLAIMLIST)
        .delete_returns_object()
        .with_subresources(&[sub("status", DEVICE_CLAIM, ids::RESOURCE_V1_RESOURCECLAIM, GET_PATCH_UPDATE)]),
    stored(gvk(DEVICES, "v1", "ResourceClaimTemplate"), ("resourceclaimtemplates", "resourceclaimtemplate"), &[],
        ids::RESOURCE_V1_RESOURCECLAIMTEMPLATE, ids::RESOURCE_V1_RESOURCECLAIMTEMPLATELIST)
        .delete_returns_object(),
    stored(gvk(DEVICES, "v1", "ResourceSlice"), ("resourceslices", "resourceslice"), &[],
        ids::RESOURCE_V1_RESOURCESLICE, ids::RESOURCE_V1_RESOURCESLICELIST).in_cluster().delete_returns_object(),

    stored(SCHEMA, ("flowschemas", "flowschema"), &[],
        ids::FLOWCONTROL_V1_FLOWSCHEMA, ids::FLOWCONTROL_V1_FLOWSCHEMALIST)
        .in_cluster()
        .with_subresources(&[sub("status", SCHEMA, ids::FLOWCONTROL_V1_FLOWSCHEMA, GET_PATCH_UPDATE)]),
    stored(LEVEL, ("prioritylevelconfigurations", "prioritylevelconfiguration"), &[],
        ids::FLOWCONTROL_V1_PRIORITYLEVELCONFIGURATION, ids::FLOWCONTROL_V1_PRIORITYLEVELCONFIGURATIONLIST)
        .in_cluster()
        .with_subresources(&[
            sub("status", LEVEL, ids::FLOWCONTROL_V1_PRIORITYLEVELCONFIGURATION, GET_PATCH_UPDATE),
        ]),

    stored(MIGRATION, ("storageversionmigrations", "storageversionmigration"), &[],
        ids::STORAGEMIGRATION_V1BETA1_STORAGEVERSIONMIGRATION,
        ids::STORAGEMIGRATION_V1BETA1_STORAGEVERSIONMIGRATIONLIST)
        .in_cluster()
        .with_subresources(&[
            sub("status", MIGRATION, ids::STORAGEMIGRATION_V1BETA1_STORAGEVERSIONMIGRATION, GET_PATCH_UPDATE),
        ]),

    // Not Kubernetes': the masters, as the leader sees them. Changed with `quorate masters` alone.
    stored(gvk("quorate.io", "v1", "Master"), ("masters", "master"), &[],
        ids::QUORATE_V1_MASTER, ids::QUORATE_V1_MASTERLIST).in_cluster().with_verbs(READ),
];
