//! Rows of kinds that extend the API itself: admission, flow control, API services, migrations, devices.

use super::{Kind, PLAIN};
use crate::defaults::{admission, devices, flow};
use crate::strategy::{extra as prepare, kinds as plain};
use crate::validation;
use crate::warnings;

const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const DEVICES: &str = "resource.k8s.io";

pub(super) static KINDS: &[Kind] = &[
    Kind {
        group: ADMISSION,
        kind: "ValidatingWebhookConfiguration",
        validate: validation::webhook::create,
        validate_update: validation::webhook::update,
        defaults: admission::validating_webhooks,
        create: plain::first_generation,
        update: prepare::update_webhooks,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: ADMISSION,
        kind: "MutatingWebhookConfiguration",
        validate: validation::webhook::create,
        validate_update: validation::webhook::update,
        defaults: admission::mutating_webhooks,
        create: plain::first_generation,
        update: prepare::update_webhooks,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: ADMISSION,
        kind: "ValidatingAdmissionPolicy",
        validate: validation::policy::validating,
        validate_update: validation::policy::validating_update,
        validate_status: validation::policy::validating_status,
        defaults: admission::validating_policy,
        create: prepare::start,
        update: prepare::update,
        status: prepare::status,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: ADMISSION,
        kind: "ValidatingAdmissionPolicyBinding",
        validate: validation::policy::validating_binding,
        validate_update: validation::policy::validating_binding_update,
        defaults: admission::binding,
        create: plain::first_generation,
        update: prepare::update_spec_only,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: ADMISSION,
        kind: "MutatingAdmissionPolicy",
        validate: validation::policy::mutating,
        validate_update: validation::policy::mutating_update,
        defaults: admission::mutating_policy,
        create: plain::first_generation,
        update: prepare::update_spec_only,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: ADMISSION,
        kind: "MutatingAdmissionPolicyBinding",
        validate: validation::policy::mutating_binding,
        validate_update: validation::policy::mutating_binding_update,
        defaults: admission::binding,
        create: plain::first_generation,
        update: prepare::update_spec_only,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: FLOW,
        kind: "FlowSchema",
        warnings: warnings::flow,
        validate: validation::flow::schema,
        validate_update: validation::flow::schema_update,
        validate_status: validation::flow::status,
        defaults: flow::schema,
        create: prepare::start,
        update: prepare::update,
        status: prepare::status,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: FLOW,
        kind: "PriorityLevelConfiguration",
        warnings: warnings::flow,
        validate: validation::flow::level,
        validate_update: validation::flow::level_update,
        validate_status: validation::flow::status,
        defaults: flow::level,
        create: prepare::start,
        update: prepare::update,
        status: prepare::status,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: "apiregistration.k8s.io",
        kind: "APIService",
        validate: validation::api_service::create,
        validate_update: validation::api_service::update,
        validate_status: validation::api_service::status,
        defaults: flow::api_service,
        create: prepare::create_api_service,
        update: plain::keep_status,
        status: prepare::status,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: "storagemigration.k8s.io",
        kind: "StorageVersionMigration",
        warnings: warnings::migration,
        validate: validation::migration::create,
        validate_update: validation::migration::update,
        validate_status: validation::migration::status,
        create: plain::no_status,
        update: plain::keep_status,
        status: prepare::status,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: DEVICES,
        kind: "DeviceClass",
        warnings: warnings::devices,
        validate: validation::devices::class,
        validate_update: validation::devices::class_update,
        create: plain::first_generation,
        update: prepare::update_spec_only,
        ..PLAIN
    },
    Kind {
        group: DEVICES,
        kind: "ResourceClaim",
        warnings: warnings::devices,
        validate: validation::devices::claim,
        validate_update: validation::devices::claim_update,
        validate_status: validation::devices::claim_status,
        defaults: devices::claim,
        create: plain::no_status,
        update: plain::keep_status,
        ..PLAIN
    },
    Kind {
        group: DEVICES,
        kind: "ResourceClaimTemplate",
        warnings: warnings::devices,
        validate: validation::devices::template,
        validate_update: validation::devices::template_update,
        defaults: devices::template,
        ..PLAIN
    },
    Kind {
        group: DEVICES,
        kind: "ResourceSlice",
        warnings: warnings::devices,
        validate: validation::slice::create,
        validate_update: validation::slice::update,
        create: plain::first_generation,
        update: prepare::update_spec_only,
        ..PLAIN
    },
];
