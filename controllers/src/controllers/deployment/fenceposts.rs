//! How many pods may be too many or too few during a rollout.

use serde_json::Value;

use crate::model::Deployment;

/// `maxSurge` (rounded up) and `maxUnavailable` (rounded down, at most all) in pods. When both come
/// to 0, one may be unavailable: else nothing could move. Without a rolling update both are 0.
pub(super) fn of(deployment: &Deployment) -> (i32, i32) {
    let spec = &deployment.spec;
    if spec.strategy.kind == "Recreate" {
        return (0, 0);
    }
    let rolling = spec.strategy.rolling_update.clone().unwrap_or_default();
    let surge = scaled(&rolling.max_surge, spec.replicas, true);
    let unavailable = scaled(&rolling.max_unavailable, spec.replicas, false);
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    (surge, unavailable.min(spec.replicas.max(0)))
}

/// A number, or a percentage of `total`. What is not given is 25 %, upstream's default.
fn scaled(value: &Value, total: i32, round_up: bool) -> i32 {
    if let Some(number) = value.as_i64() {
        return i32::try_from(number).unwrap_or(i32::MAX).max(0);
    }
    let text = value.as_str().unwrap_or("25%");
    let percent: i64 = text.strip_suffix('%').and_then(|text| text.parse().ok()).unwrap_or(0);
    let hundredfold = percent.max(0).saturating_mul(i64::from(total.max(0)));
    let pods = if round_up { hundredfold.saturating_add(99) / 100 } else { hundredfold / 100 };
    i32::try_from(pods).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        let cases = [
            (json!("25%"), json!("25%"), 10, (3, 2)),
            (json!("25%"), json!("25%"), 3, (1, 0)),
            (json!("25%"), json!("25%"), 1, (1, 0)),
            (json!(0), json!("10%"), 5, (0, 1)),
            (json!(0), json!(0), 5, (0, 1)),
            (json!(0), json!(9), 5, (0, 5)),
            (json!("100%"), json!(0), 5, (5, 0)),
            (json!(2), json!(1), 0, (2, 0)),
            (Value::Null, Value::Null, 4, (1, 1)),
        ];
        for (surge, unavailable, replicas, expected) in cases {
            let deployment: Deployment = serde_json::from_value(json!({"spec": {
                "replicas": replicas,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {
                    "maxSurge": surge, "maxUnavailable": unavailable}},
            }}))
            .unwrap();
            assert_eq!(of(&deployment), expected, "{surge} {unavailable} of {replicas}");
        }
    }
}
