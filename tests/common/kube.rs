//! The `kube` client.

use std::path::Path;

/// A client with the administrator's kubeconfig, at the server that it names or at another one. It does not retry:
/// what fails is seen.
pub async fn client(kubeconfig: &Path, server: Option<&str>) -> kube::Client {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    if let Some(server) = server {
        config.cluster_url = server.parse().unwrap();
    }
    config.default_retry = false;
    kube::Client::try_from(config).unwrap()
}
