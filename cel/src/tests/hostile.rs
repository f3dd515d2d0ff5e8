//! Expressions that are meant to harm: they end, soon, with an error.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{env, schema};
use crate::{Budget, Error, Value, compile, value};

/// What even a build without optimisation takes for an expression that is cut off.
const PATIENCE: Duration = Duration::from_secs(20);

fn ends(source: &str) -> Result<Value, String> {
    let (env, _) = env(&schema());
    let begun = Instant::now();
    let large: Vec<i64> = (0..2000).collect();
    let any = value::of_json(&json!({"l": large, "s": "x".repeat(100_000), "n": 3}));
    let result = compile(&env, source).and_then(|program| {
        let bindings = HashMap::from([("any", any)]);
        program.evaluate(&bindings, &mut Budget::default()).map_err(|error| error.to_string())
    });
    let taken = begun.elapsed();
    assert!(taken < PATIENCE, "{source:.80} took {taken:?}");
    result
}

#[test]
fn loops_end_when_they_have_cost_enough() {
    let limit = Error::TooCostly.to_string();
    for source in [
        "any.l.all(a, any.l.all(b, any.l.all(c, a + b + c >= 0)))",
        "any.l.map(a, any.l.map(b, any.s + any.s)).size() == 0",
        "any.l.all(a, any.s.contains(any.s + 'y') || true)",
        "any.l.all(a, any.s.replace('x', any.s) != '')",
        "any.l.all(a, any.s.matches('(x+x+)+y') || true)",
        "any.l.all(a, any.s.split('').join('').size() > 0)",
        "any.l.all(a, any.l.all(b, any.l == any.l))",
        "any.l.all(a, sets.contains(any.l, any.l))",
        "any.l.all(a, any.l.filter(b, b in any.l).size() >= 0)",
        "any.l.all(a, any.l.distinct().size() >= 0)",
    ] {
        assert_eq!(ends(source).map(|_| ()), Err(limit.clone()), "{source}");
    }
    let doubled = "cel.bind(x, any.s, ".repeat(40) + "x" + &")".repeat(40);
    assert!(ends(&doubled).is_ok());
    let mut grows = "any.s".to_owned();
    for _ in 0..40 {
        grows = format!("cel.bind(y, {grows}, y + y)");
    }
    assert_eq!(ends(&grows).map(|_| ()), Err(limit.clone()));
    let mut lists = "any.l".to_owned();
    for _ in 0..40 {
        lists = format!("cel.bind(y, {lists}, y + y)");
    }
    assert_eq!(ends(&lists).map(|_| ()), Err(limit));
    assert!(ends("lists.range(9000000000000000000).size() > 0").is_err());
    assert!(ends("'%.999999999f'.format([1.5]) == ''").is_err());
}

#[test]
fn deep_and_long_expressions_are_refused() {
    let deep = |open: &str, close: &str, by: usize| open.repeat(by) + "1" + &close.repeat(by);
    for source in [
        deep("(", ")", 10_000),
        deep("[", "]", 10_000),
        deep("!", "", 20_000),
        "1+".repeat(15_000) + "1",
        "any".to_owned() + &".a".repeat(10_000),
        "any".to_owned() + &"[0]".repeat(8_000),
        "true?".repeat(5_000),
        "any.l.map(x, ".repeat(500) + "1" + &")".repeat(500),
        "x".repeat(40_000),
        "{".repeat(3_000),
        "\u{0}\u{ffff}\"".repeat(1000),
    ] {
        let result = ends(&source);
        assert!(result.is_err(), "{source:.40}");
    }
    // What is long and not deep, or wide, is fine.
    assert!(ends(&deep("-", "", 20_000)).is_ok());
    let wide = vec!["any.n == 3"; 800].join(" && ");
    assert!(ends(&wide).is_ok());
}

#[test]
fn nesting_up_to_the_limit_fits_the_stack_of_a_test() {
    let mut nested = "1".to_owned();
    for _ in 0..40 {
        nested = format!("[{nested}].map(x, x)[0]");
    }
    assert!(ends(&nested).is_ok(), "{:?}", ends(&nested).err());
}
