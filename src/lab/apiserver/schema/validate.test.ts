import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { errorText, ruleProblems, type Schema, schemaFromCrd, validate } from "./index.ts";

/** A custom kind whose spec has one field, `x`. */
function kind(x: object, spec: object = {}): Schema {
  return schemaFromCrd({
    type: "object",
    properties: { spec: { type: "object", properties: { x }, ...spec } },
  });
}

const object = (x: unknown) => ({
  apiVersion: "example.com/v1",
  kind: "Thing",
  metadata: { name: "t" },
  spec: { x },
});

/** What is wrong with `spec.x`, as the Status would say it; empty when nothing is. */
function wrong(x: object, value: unknown, old?: unknown): string {
  const errors = validate(kind(x), object(value), old === undefined ? undefined : object(old));
  return errors.length === 0 ? "" : errorText(errors);
}

describe("structure of custom objects", () => {
  const cases: [object, unknown, string][] = [
    [{ type: "integer" }, 1, ""],
    [{ type: "integer" }, 1.0, ""],
    [
      { type: "integer" },
      "1",
      'spec.x: Invalid value: "string": spec.x in body must be of type integer: "string"',
    ],
    [
      { type: "integer" },
      1.5,
      'spec.x: Invalid value: "number": spec.x in body must be of type integer: "number"',
    ],
    [{ type: "number" }, 1, ""],
    [
      { type: "string" },
      null,
      'spec.x: Invalid value: "null": spec.x in body must be of type string: "null"',
    ],
    [{ type: "string", nullable: true }, null, ""],
    [
      { type: "integer", minimum: 1 },
      0,
      "spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1",
    ],
    [
      { type: "integer", maximum: 1, exclusiveMaximum: true },
      1,
      "spec.x: Invalid value: 1: spec.x in body should be less than 1",
    ],
    [
      { type: "integer", multipleOf: 3 },
      4,
      "spec.x: Invalid value: 4: spec.x in body should be a multiple of 3",
    ],
    [{ type: "string", enum: ["a", "b"] }, "c", 'spec.x: Unsupported value: "c": supported values: "a", "b"'],
    [
      { type: "string", pattern: "^[a-z]+$" },
      "A",
      "spec.x: Invalid value: \"A\": spec.x in body should match '^[a-z]+$'",
    ],
    [
      { type: "string", minLength: 2 },
      "é",
      'spec.x: Invalid value: "é": spec.x in body should be at least 2 chars long',
    ],
    [{ type: "string", maxLength: 1 }, "ab", "spec.x: Too long: may not be more than 1 byte"],
    [
      { type: "string", format: "ipv4" },
      "::1",
      'spec.x: Invalid value: "::1": spec.x in body must be of type ipv4: "::1"',
    ],
    [
      { type: "string", format: "date-time" },
      "2026-02-30T00:00:00Z",
      'spec.x: Invalid value: "2026-02-30T00:00:00Z": spec.x in body must be of type date-time: "2026-02-30T00:00:00Z"',
    ],
    [{ type: "string", format: "unheard-of" }, "anything", ""],
    [
      { type: "array", items: { type: "string" }, maxItems: 1 },
      ["a", "b"],
      "spec.x: Too many: 2: must have at most 1 item",
    ],
    [
      { type: "array", items: { type: "integer" } },
      [1, "b"],
      'spec.x[1]: Invalid value: "string": spec.x[1] in body must be of type integer: "string"',
    ],
    [
      { type: "array", items: { type: "string" }, "x-kubernetes-list-type": "set" },
      ["a", "b", "a"],
      'spec.x[2]: Duplicate value: "a"',
    ],
    [
      {
        type: "array",
        items: { type: "object", properties: { n: { type: "string" } } },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["n"],
      },
      [{ n: "a" }, { n: "a" }],
      'spec.x[1]: Duplicate value: {"n":"a"}',
    ],
    [
      { type: "object", required: ["a"], properties: { a: { type: "string" } } },
      {},
      "spec.x.a: Required value",
    ],
    [{ "x-kubernetes-int-or-string": true }, "50%", ""],
    [
      { "x-kubernetes-int-or-string": true },
      true,
      'spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean"',
    ],
    [
      { type: "string", not: { enum: ["a"] } },
      "a",
      '<nil>: Invalid value: "": "spec.x" must not validate the schema (not)',
    ],
    [
      {
        type: "object",
        properties: { a: { type: "string" }, b: { type: "string" } },
        oneOf: [{ required: ["a"] }, { required: ["b"] }],
      },
      { a: "1", b: "2" },
      '<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found 2 valid alternatives',
    ],
    [
      { type: "object", properties: { a: { type: "string" } }, anyOf: [{ required: ["a"] }] },
      {},
      '[<nil>: Invalid value: "": "spec.x" must validate at least one schema (anyOf), spec.x.a: Required value]',
    ],
  ];
  for (const [schema, value, text] of cases) {
    test(`${JSON.stringify(schema)} of ${JSON.stringify(value)}`, () =>
      assert.equal(wrong(schema, value), text));
  }

  test("what was wrong before and did not change is let through", () => {
    const small = { type: "integer", minimum: 10 };
    assert.equal(wrong(small, 1, 1), "");
    assert.notEqual(wrong(small, 1, 2), "");
  });

  test("no pattern and no rule keeps the server busy, whatever the text", () => {
    const text = `${"a".repeat(60)}!`;
    for (const pattern of ["^(a+)+$", "(?i)^(a+)+$", "^(?:a{1,63})+$"]) {
      const before = process.cpuUsage();
      assert.match(wrong({ type: "string", pattern }, text), /should match/);
      const rule = { rule: `self.matches('${pattern}')`, message: "no" };
      const ruled = { type: "string", "x-kubernetes-validations": [rule] };
      assert.match(wrong(ruled, text), /: no$/);
      const { user, system } = process.cpuUsage(before);
      assert.ok(user + system < 3_000_000, `${pattern}: ${user + system} µs`);
    }
  });

  test("Go's patterns work: flags, named groups, POSIX classes", () => {
    assert.equal(wrong({ type: "string", pattern: "(?i)^abc$" }, "ABC"), "");
    assert.equal(wrong({ type: "string", pattern: "^(?P<n>[[:alpha:]])$" }, "a"), "");
    assert.equal(wrong({ type: "string", pattern: "^[\\-\\w]+\\z" }, "a-b"), "");
  });
});

describe("CEL rules", () => {
  const ruled = (rule: object, x: object = { type: "integer" }) => ({
    ...x,
    "x-kubernetes-validations": [rule],
  });

  test("say their message, or the rule, where they do not hold", () => {
    assert.equal(wrong(ruled({ rule: "self > 1" }), 2), "");
    assert.equal(wrong(ruled({ rule: "self > 1" }), 1), "spec.x: Invalid value: 1: failed rule: self > 1");
    assert.equal(
      wrong(ruled({ rule: "self > 1", message: "too small" }), 1),
      "spec.x: Invalid value: 1: too small",
    );
    const said = { rule: "self > 1", message: "m", messageExpression: "'%d is too small'.format([self])" };
    assert.equal(wrong(ruled(said), 1), "spec.x: Invalid value: 1: 1 is too small");
  });

  test("point to a field and a reason when they name them", () => {
    const struct = { type: "object", properties: { a: { type: "string" } } };
    const rule = {
      rule: "has(self.a)",
      message: "a is needed",
      reason: "FieldValueRequired",
      fieldPath: ".a",
    };
    assert.equal(wrong(ruled(rule, struct), {}), "spec.x.a: Required value: a is needed");
    assert.equal(
      wrong(ruled({ rule: "has(self.a)" }, struct), {}),
      "spec.x: Invalid value: failed rule: has(self.a)",
    );
  });

  test("on transitions are asked only when there is an old value", () => {
    const fixed = ruled({ rule: "self == oldSelf", message: "field is immutable" });
    assert.equal(wrong(fixed, 1), "");
    assert.equal(wrong(fixed, 1, 1), "");
    assert.equal(wrong(fixed, 2, 1), "spec.x: Invalid value: 2: field is immutable");
    const optional = ruled({
      rule: "oldSelf.hasValue() || self == 0",
      optionalOldSelf: true,
      message: "start at 0",
    });
    assert.equal(wrong(optional, 1), "spec.x: Invalid value: 1: start at 0");
    assert.equal(wrong(optional, 2, 1), "");
  });

  test("follow items of keyed lists by their keys", () => {
    const item = ruled(
      { rule: "self.v >= oldSelf.v" },
      { type: "object", properties: { n: { type: "string" }, v: { type: "integer" } } },
    );
    const list = {
      type: "array",
      items: item,
      "x-kubernetes-list-type": "map",
      "x-kubernetes-list-map-keys": ["n"],
    };
    assert.equal(
      wrong(
        list,
        [
          { n: "b", v: 1 },
          { n: "a", v: 2 },
        ],
        [{ n: "a", v: 2 }],
      ),
      "",
    );
    assert.match(
      wrong(
        list,
        [
          { n: "b", v: 1 },
          { n: "a", v: 1 },
        ],
        [{ n: "a", v: 2 }],
      ),
      /^spec\.x\[1\]: /,
    );
  });

  test("see names that CEL cannot say in their escaped form", () => {
    const struct = {
      type: "object",
      properties: { "my-name": { type: "string" }, namespace: { type: "string" } },
    };
    assert.equal(
      wrong(ruled({ rule: "self.my__dash__name == self.__namespace__" }, struct), {
        "my-name": "a",
        namespace: "a",
      }),
      "",
    );
  });

  test("that fail while they run are a refusal that says so", () => {
    const text = wrong(
      ruled(
        { rule: "self.all(i, i.a == 1)" },
        { type: "array", items: { type: "object", properties: { a: { type: "integer" } } } },
      ),
      [{}],
    );
    assert.match(text, /^spec\.x: Invalid value: "array": No such key: a evaluating rule: self\.all/);
  });

  test("at the root see the name of the object", () => {
    const schema = schemaFromCrd({
      type: "object",
      "x-kubernetes-validations": [{ rule: "self.metadata.name == 't'", message: "call it t" }],
    });
    assert.deepEqual(validate(schema, object(1)), []);
    const other = { ...object(1), metadata: { name: "u" } };
    assert.equal(errorText(validate(schema, other)), "<nil>: Invalid value: call it t");
  });

  test("may be right though this server cannot compile them, and then are reported, not silently dropped", () => {
    assert.deepEqual(ruleProblems(kind(ruled({ rule: "self > 1" }))), []);
    const rule = "math.greatest(self, 1) == 1";
    assert.match(ruleProblems(kind(ruled({ rule })))[0]!, /^spec\.x: rule math.* is not checked: .*math/);
  });

  const library = [
    "ip('10.1.2.3').family() == 4 && ip.isCanonical('::1') && !isIP('10.1.2')",
    "cidr('10.0.0.0/8').containsIP('10.255.0.1') && !cidr('10.0.0.0/8').containsIP('::1')",
    "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.0.0.0/8').prefixLength() == 8",
    "isCIDR('fd00::/8') && !isCIDR('10.0.0.0') && !isCIDR('10.0.0.0/08') && !isCIDR('fe80::%eth0/64')",
    "!isIP('::ffff:10.0.0.1') && !isIP('fe80::1%eth0') && !isCIDR('::ffff:10.0.0.0/104')",
    "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').compareTo(quantity('0.5')) == 0",
    "url('https://a.example:8443/p?q=1').getPort() == '8443' && isURL('/p') && !isURL('a b')",
    "[1, 2, 3].isSorted() && [1, 2].sum() == 3 && ['a', 'b'].indexOf('b') == 1 && [3, 1].min() == 1",
    "sets.contains([1, 2], [2]) && sets.equivalent([1], [1, 1]) && !sets.intersects([1], [2])",
    "'abc 123'.find('[0-9]+') == '123' && 'a-b-c'.findAll('[a-z]') == ['a', 'b', 'c']",
    "'a-b-c'.replace('-', '', 1) == 'ab-c' && 'abc'.charAt(1) == 'b' && strings.quote('a\"') == '\"a\\\\\"\"'",
    "!format.dns1123Label().validate('a-b').hasValue() && format.dns1123Label().validate('A').hasValue()",
    "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('1.0.0-rc.1')",
    "{'a': [{'b': 1}]}.a[0].b == 1 && has({'a': [{'b': 1}]}.a[0].b) && !has({'a': [{}]}.a[0].b)",
    "duration('1h') > duration('59m') && timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026",
  ];
  for (const rule of library) {
    test(rule, () => {
      assert.deepEqual(ruleProblems(kind(ruled({ rule }))), []);
      assert.equal(wrong(ruled({ rule }), 1), "");
    });
  }
});
