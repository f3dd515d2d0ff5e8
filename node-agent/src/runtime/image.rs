//! Images: what a runtime knows of them, and credentials to pull them.

/// An image the runtime has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The runtime's id (the config digest); `create_container` takes it.
    pub id: String,
    /// Tags (`docker.io/library/busybox:latest`).
    pub repo_tags: Vec<String>,
    /// Digests (`docker.io/library/busybox@sha256:…`).
    pub repo_digests: Vec<String>,
    /// Size on disk, bytes.
    pub size_bytes: u64,
    /// Numeric user of the image's config, when it is one.
    pub uid: Option<i64>,
    /// User name of the image's config, when it is not numeric.
    pub username: String,
    /// Never collected as garbage (the sandbox image).
    pub pinned: bool,
}

/// Credentials of one registry. `Debug` shows no secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
    /// Base64 of `user:password`, in place of both.
    pub auth: String,
    /// The registry it counts for.
    pub server_address: String,
    /// Identity token.
    pub identity_token: String,
    /// Bearer token.
    pub registry_token: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}
