//! Tables of expressions: what they yield, what is wrong with them, where they end when they are meant to harm.

mod hostile;

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use crate::schema::Decl;
use crate::{Budget, Env, Error, Program, Type, Value, compile, value};

fn env(schema: &Json) -> (Env, Decl) {
    let decl = Decl::of(schema, true).unwrap();
    let ty = decl.ty.clone();
    (Env::new([("self", ty.clone()), ("oldSelf", ty), ("any", Type::Dyn)]), decl)
}

fn run(program: &Program, object: Value) -> Result<Json, String> {
    let any = value::of_json(&json!({"a": [1, "x", {"b": null}], "n": 3, "f": 1.5}));
    let bindings = HashMap::from([("self", object), ("any", any)]);
    match program.evaluate(&bindings, &mut Budget::default()) {
        Ok(value) => Ok(value::to_json(&value).unwrap_or_else(|_| json!(format!("{value:?}")))),
        Err(error) => Err(error.to_string()),
    }
}

fn schema() -> Json {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "replicas": {"type": "integer"}, "min": {"type": "integer"}, "max": {"type": "integer"},
        "name": {"type": "string"}, "weight": {"type": "number"}, "on": {"type": "boolean"},
        "port": {"x-kubernetes-int-or-string": true},
        "at": {"type": "string", "format": "date-time"},
        "for": {"type": "string", "format": "duration"},
        "bytes": {"type": "string", "format": "byte"},
        "x-dash": {"type": "string"}, "namespace": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "parts": {"type": "array", "items": {"type": "object", "properties": {
            "key": {"type": "string"}, "value": {"type": "integer"}}}},
    }}}})
}

fn object() -> Json {
    json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "it", "labels": {"a": "b"}},
        "spec": {"replicas": 2, "min": 1, "max": 3, "name": "abc", "weight": 2, "on": true, "port": "80",
            "at": "2024-02-29T12:30:15.25Z", "for": "1h30m", "bytes": "aGk=", "x-dash": "d", "namespace": "n",
            "tags": ["a", "b", "c"], "labels": {"x": "1", "a-b": "2"},
            "parts": [{"key": "one", "value": 1}, {"key": "two", "value": 2}]}})
}

fn all_yield(cases: &[(&str, Json)]) {
    let (env, decl) = env(&schema());
    let object = value::of_declared(&object(), &decl);
    let mut wrong = Vec::new();
    for (source, want) in cases {
        let got = compile(&env, source).and_then(|program| run(&program, object.clone()));
        if got.as_ref() != Ok(want) {
            wrong.push(format!("{source}: {got:?}, not {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The examples of the documentation's page about validation rules, and others of their kinds.
#[test]
fn fields_lists_and_maps() {
    all_yield(
        &[
            (
                "self.spec.min <= self.spec.replicas && self.spec.replicas <= self.spec.max",
                json!(true),
            ),
            ("'a-b' in self.spec.labels", json!(true)),
            ("(self.spec.tags.size() == 0) != (size(self.spec.parts) == 0)", json!(false)),
            ("has(self.spec.name) && !has(self.metadata.generateName)", json!(true)),
            ("self.spec.parts.filter(x, x.key == 'one').all(y, y.value == 1)", json!(true)),
            (
                "self.spec.tags.exists(t, t == 'b') && self.spec.tags.exists_one(t, t == 'c')",
                json!(true),
            ),
            ("self.spec.parts.map(p, p.value * 2)", json!([2, 4])),
            ("self.spec.parts.map(p, p.value > 1, p.key)", json!(["two"])),
            ("self.spec.labels.all(k, self.spec.labels[k].size() == 1)", json!(true)),
            ("self.spec.labels.map(k, k)", json!(["a-b", "x"])),
            ("self.metadata.name == 'it' && self.kind == 'X'", json!(true)),
            ("self.spec.x__dash__dash == 'd' && self.spec.__namespace__ == 'n'", json!(true)),
            (
                "type(self.spec.port) == string ? self.spec.port == '80' : self.spec.port == 80",
                json!(true),
            ),
            ("self.spec.weight == 2.0 && type(self.spec.weight) == double", json!(true)),
            ("self.spec.bytes == b'hi'", json!(true)),
            ("self.spec.tags + ['d']", json!(["a", "b", "c", "d"])),
            ("{'a': 1}.b", json!(null)),
            ("any.a[2].b == null && any.n > 2 && any.f < 2", json!(true)),
        ][..16],
    );
    all_yield(&[
        ("any.a[2].b == null && any.n > 2 && any.f < 2", json!(true)),
        ("cel.bind(n, self.spec.replicas, n * n)", json!(4)),
        ("self.spec.tags.all(i, t, t == self.spec.tags[i])", json!(true)),
        ("self.spec.tags.transformList(i, t, i > 0, t + string(i))", json!(["b1", "c2"])),
        ("self.spec.labels.transformMap(k, v, int(v) + 1)", json!({"x": 2, "a-b": 3})),
        ("self.spec.tags.transformMapEntry(i, t, {t: i})", json!({"a": 0, "b": 1, "c": 2})),
        ("self.spec.labels.existsOne(k, v, v == '1')", json!(true)),
    ]);
}

#[test]
fn times_optional_values_and_conversions() {
    all_yield(&[
        ("self.spec.at.getFullYear() == 2024 && self.spec.at.getDayOfYear() == 59", json!(true)),
        ("self.spec.at.getHours('America/New_York') == 7", json!(true)),
        (
            "self.spec.at.getHours('+02:30') == 15 && self.spec.at.getMilliseconds() == 250",
            json!(true),
        ),
        ("self.spec.at + self.spec.__for__ < timestamp('2024-03-01T00:00:00Z')", json!(true)),
        (
            "self.spec.__for__ == duration('90m') && self.spec.__for__.getMinutes() == 90",
            json!(true),
        ),
        ("string(self.spec.at - duration('15s'))", json!("2024-02-29T12:30:00.250Z")),
        ("self.spec.?name.orValue('none')", json!("abc")),
        ("self.metadata.?generateName.orValue('none')", json!("none")),
        ("self.spec.labels[?'y'].hasValue()", json!(false)),
        ("self.spec.tags[?1].optMap(t, t + '!').orValue('')", json!("b!")),
        ("[?self.spec.labels[?'x'], ?self.spec.labels[?'y']]", json!(["1"])),
        ("optional.of(1).or(optional.none()).value()", json!(1)),
        ("int('12') + int(3.9) + int(uint(1))", json!(16)),
        ("string(1.5) + string(true) + string(b'x')", json!("1.5truex")),
        ("double('1e3') == 1000.0 && bool('true')", json!(true)),
        ("dyn(1) == 1.0 && 1 < 1.5 && 2u > 1", json!(true)),
        ("[1, 2] == [1, 2] && {'a': 1} == {'a': 1}", json!(true)),
        ("self.spec.on || 1 / 0 == 1", json!(true)),
        ("1 / 0 == 1 || self.spec.on", json!(true)),
        ("['x', 'b'].exists(t, int(t) == 1 || t == 'b')", json!(true)),
    ]);
}

#[test]
fn libraries() {
    all_yield(&[
        ("'hello world'.find('[a-z]+') + ''.trim()", json!("hello")),
        ("'a1b2'.findAll('[0-9]')", json!(["1", "2"])),
        ("'abc'.matches('^[a-c]+$') && !matches('abd', '^[a-c]+$')", json!(true)),
        ("'%s is %d, %.2f'.format(['x', 3, 1.234])", json!("x is 3, 1.23")),
        ("'a,b'.split(',').join('-').upperAscii()", json!("A-B")),
        ("'hello'.substring(1, 3).replace('l', 'L') + 'abc'.charAt(1)", json!("eLb")),
        ("[3, 1, 2].sort() == [1, 2, 3] && [1, 2].sum() == 3 && [1, 2].isSorted()", json!(true)),
        ("[1, 5].max() == 5 && ['a', 'b'].indexOf('b') == 1", json!(true)),
        ("quantity('1.5Gi').isGreaterThan(quantity('500Mi'))", json!(true)),
        ("quantity('50k').add(20).sub(quantity('20')).asInteger() == 50000", json!(true)),
        ("isQuantity('1x') || !quantity('200M').isInteger()", json!(false)),
        ("ip('127.0.0.1').isLoopback() && ip('::1').family() == 6 && !isIP('x')", json!(true)),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').prefixLength() == 8",
            json!(true),
        ),
        ("string(cidr('10.0.0.0/8').ip())", json!("10.0.0.0")),
        ("url('https://a.b:80/c?d=e').getHost() + url('/x').getEscapedPath()", json!("a.b:80/x")),
        ("isURL('nope') || url('https://a/b').getScheme() != 'https'", json!(false)),
        (
            "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.2.3').minor() == 2",
            json!(true),
        ),
        ("sets.contains(self.spec.tags, ['a']) && sets.intersects([1], [1, 2])", json!(true)),
        ("!format.dns1123Label().validate('ok').hasValue()", json!(true)),
        ("format.named('dns1123Label').hasValue()", json!(true)),
        ("format.dns1123Label().validate('Not Ok').hasValue()", json!(true)),
        ("base64.encode(b'hi') == 'aGk=' && base64.decode('aGk=') == b'hi'", json!(true)),
        ("jsonpatch.escapeKey('a/b~c')", json!("a~1b~0c")),
        ("math.greatest(1, 2) == 2 && math.abs(-1) == 1", json!(true)),
        ("lists.range(3)", json!([0, 1, 2])),
    ]);
}

#[test]
fn what_goes_wrong_is_told_in_upstreams_words() {
    let (env, decl) = env(&schema());
    let object = value::of_declared(&object(), &decl);
    for (source, want) in [
        ("self.spec.labels['y'] == '1'", "no such key: y"),
        ("self.metadata.generateName == ''", "no such key: generateName"),
        ("self.spec.tags[7] == ''", "index out of bounds: 7"),
        ("1 / (self.spec.replicas - 2) == 1", "division by zero"),
        ("1 % (self.spec.replicas - 2) == 1", "modulus by zero"),
        ("9223372036854775807 + self.spec.replicas == 1", "integer overflow"),
        ("self.spec.port > 3", "no such overload"),
        ("any.n.x == 1", "no such overload"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("self.spec.parts.map(p, 1 / (p.value - 1)) == []", "division by zero"),
        ("self.spec.tags.all(t, int(t) == 1)", "type conversion error from 'string' to 'int'"),
    ] {
        let program = compile(&env, source).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(run(&program, object.clone()), Err(want.to_owned()), "{source}");
    }
}

#[test]
fn what_does_not_compile_is_told_in_upstreams_words() {
    let (env, _) = env(&schema());
    for (source, want) in [
        (
            "self.spec.nothing == 1",
            "ERROR: <input>:1:10: undefined field 'nothing'\n | self.spec.nothing == 1\n | .........^",
        ),
        (
            "slef.spec",
            "ERROR: <input>:1:1: undeclared reference to 'slef' (in container '')\n | slef.spec\n | ^",
        ),
        (
            "self.spec.name > 1",
            "ERROR: <input>:1:16: found no matching overload for '_>_' applied to '(string, int)'\n \
             | self.spec.name > 1\n | ...............^",
        ),
        (
            "self.spec.name.nope()",
            "ERROR: <input>:1:20: undeclared reference to 'nope' (in container '')\n \
             | self.spec.name.nope()\n | ...................^",
        ),
        (
            "self.spec.name.startsWith(1)",
            "ERROR: <input>:1:26: found no matching overload for 'startsWith' applied to 'string.(int)'\n \
             | self.spec.name.startsWith(1)\n | .........................^",
        ),
        (
            "[1, 'a'] == []",
            "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a'] == []\n | ....^",
        ),
        (
            "self.spec.min.all(x, true)",
            "ERROR: <input>:1:10: expression of type 'int' cannot be range of a comprehension (must be list, map, or \
             dynamic)\n | self.spec.min.all(x, true)\n | .........^",
        ),
        (
            "has(self)",
            "ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^",
        ),
    ] {
        let error = compile(&env, source).expect_err(source);
        assert_eq!(error, want, "{source}");
    }
    for source in ["self.spec.", "1 +", "self.spec.name matches 'x'", "", "'open", "a{b: 1}"] {
        let error = compile(&env, source).expect_err(source);
        assert!(error.starts_with("ERROR: <input>:"), "{source}: {error}");
    }
}

#[test]
fn an_expression_knows_its_type_and_variables() {
    let (env, _) = env(&schema());
    let program = compile(&env, "oldSelf.spec.name").unwrap();
    assert_eq!(program.ty(), &Type::String);
    assert!(program.uses("oldSelf") && !program.uses("self"));
    let hidden = compile(&env, "[1].all(oldSelf, oldSelf > 0)").unwrap();
    assert!(!hidden.uses("oldSelf"));
    assert_eq!(hidden.ty(), &Type::Bool);
    let error = compile(&env, "Object{}").unwrap_err();
    assert!(error.contains("undeclared reference to 'Object'"), "{error}");
    let env = Env::default().mutating();
    let program = compile(&env, "Object{spec: Object.spec{replicas: 1}}").unwrap();
    assert_eq!(program.ty(), &Type::opaque("Object"));
    assert_eq!(run(&program, Value::Null), Ok(json!({"spec": {"replicas": 1}})));
    let error = compile(&env, "Object{spec: Object.status{}}").unwrap_err();
    assert!(error.contains("expected \"Object.spec\""), "{error}");
    let patch = "[JSONPatch{op: 'add', path: '/a', value: {'b': 1}}]";
    assert_eq!(compile(&env, patch).unwrap().ty(), &Type::list(Type::opaque("JSONPatch")));
}

#[test]
fn errors_are_compared() {
    assert_ne!(Error::TooCostly, Error::OutOfBudget);
}
