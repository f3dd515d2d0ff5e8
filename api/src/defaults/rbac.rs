//! Defaults of role bindings.

use serde_json::Value;

use crate::tree;

const GROUP: &str = "rbac.authorization.k8s.io";

/// `SetDefaults_RoleBinding`, `SetDefaults_ClusterRoleBinding` and `SetDefaults_Subject`.
pub(crate) fn binding(object: &mut Value) {
    if let Some(role) = tree::child_mut(object, "roleRef") {
        tree::default_text(role, "apiGroup", GROUP);
    }
    for subject in tree::items_mut(object, "subjects") {
        if matches!(tree::text(subject, "kind"), "User" | "Group") {
            tree::default_text(subject, "apiGroup", GROUP);
        }
    }
}
