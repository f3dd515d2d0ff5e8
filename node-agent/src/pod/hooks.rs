//! Lifecycle hooks: `postStart` and `preStop`.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::probe::{Outcome, Target, http_get};
use crate::runtime::{ContainerId, Runtime};

/// Runs a hook to its end, at most `limit`. The error is the event's message.
pub(crate) async fn run(
    handler: &LifecycleHandler,
    runtime: &dyn Runtime,
    id: &ContainerId,
    container: &Container,
    ip: Option<IpAddr>,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let words = command.join(" ");
        return match runtime.exec_sync(id, &command, limit).await {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => {
                let text =
                    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                Err(format!(
                    "Exec lifecycle hook ({words}) for Container \"{}\" failed - error: command '{words}' \
                     exited with {}: {text}, message: \"{text}\"",
                    container.name, output.exit_code
                ))
            }
            Err(error) => Err(format!(
                "Exec lifecycle hook ({words}) for Container \"{}\" failed - error: {error}",
                container.name
            )),
        };
    }
    if let Some(sleep) = &handler.sleep {
        let wanted = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(wanted.min(limit)).await;
        return Ok(());
    }
    if let Some(action) = &handler.http_get {
        let target = Target { runtime, container_id: id, container, ip };
        return match tokio::time::timeout(limit, http_get(action, &target)).await {
            // Any answer at all will do for a hook.
            Ok(Outcome::Success | Outcome::Warning(_)) => Ok(()),
            Ok(Outcome::Failure(text)) if text.starts_with("HTTP probe") => Ok(()),
            Ok(Outcome::Failure(text) | Outcome::Unknown(text)) => Err(format!(
                "HTTP lifecycle hook for Container \"{}\" failed - error: {text}",
                container.name
            )),
            Err(_) => Err("HTTP lifecycle hook timed out".to_owned()),
        };
    }
    Ok(())
}
