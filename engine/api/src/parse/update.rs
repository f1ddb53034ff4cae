//! The body of `containers/{id}/update`: limits as in `HostConfig`, and a restart policy.

use engine::runtime::RestartPolicy;
use engine::runtime::spec::Resources;
use serde_json::Value;

use super::host_config::HostConfig;
use super::typed;
use crate::error::ApiError;

/// What is to be otherwise; limits that are absent stay.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) limits: Resources,
    pub(crate) restart: Option<RestartPolicy>,
}

/// Turns a body into an update.
pub(crate) fn update(mut body: Value) -> Result<Update, ApiError> {
    let policy = body.as_object_mut().and_then(|members| members.remove("RestartPolicy"));
    let restart = policy.as_ref().map(restart_policy).transpose()?.flatten();
    let host: HostConfig = typed(body)?;
    host.refuse_unsupported()?;
    Ok(Update { limits: host.resources()?, restart })
}

/// `None` if it names none.
fn restart_policy(policy: &Value) -> Result<Option<RestartPolicy>, ApiError> {
    let name = policy.get("Name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let text = match policy.get("MaximumRetryCount").and_then(Value::as_i64) {
        None | Some(0) => name.to_owned(),
        Some(count) => format!("{name}:{count}"),
    };
    text.parse().map(Some).map_err(|error| engine::Error::RestartPolicy(error).into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_zero_stays() {
        let body = json!({"Memory": 8 << 20, "CpuShares": 0, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}});
        let update = update(body).unwrap();
        assert_eq!((update.limits.memory, update.limits.cpu_shares), (Some(8 << 20), None));
        assert_eq!(update.restart, Some(RestartPolicy::OnFailure(Some(2))));
        let nothing = super::update(json!({"RestartPolicy": {"Name": ""}})).unwrap();
        assert_eq!((nothing.limits, nothing.restart), (Resources::default(), None));
        assert!(super::update(json!({"Memory": 5})).is_err());
        assert!(super::update(json!({"RestartPolicy": {"Name": "sometimes"}})).is_err());
    }
}
