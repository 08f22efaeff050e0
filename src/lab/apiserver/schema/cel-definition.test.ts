import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { definitions } from "../../../api/index.ts";
import { checkDefinitionSchema, type Schema, validate } from "./index.ts";

const text = { type: "string" };
const struct = {
  type: "object",
  properties: {
    a: text,
    i: { type: "integer" },
    d: { type: "number" },
    b: { type: "boolean" },
    t: { type: "string", format: "date-time" },
    du: { type: "string", format: "duration" },
    by: { type: "string", format: "byte" },
    either: { "x-kubernetes-int-or-string": true },
    o: { type: "object", properties: { x: text } },
    l: { type: "array", items: text },
    li: { type: "array", items: { type: "integer" } },
    lo: { type: "array", items: { type: "object", properties: { x: text } } },
    m: { type: "object", additionalProperties: { type: "integer" } },
    "a-b": text,
    namespace: text,
  },
};

/** What is said of one rule at the struct, without the rule itself. */
function said(rule: string): string {
  const ruled = { ...struct, "x-kubernetes-validations": [{ rule, message: "m" }] };
  const schema = { type: "object", properties: { spec: ruled } } as Schema;
  return checkDefinitionSchema(schema, "s")
    .map(({ detail }) => detail)
    .join("; ");
}

describe("rules of definitions", () => {
  // Each was taken by kube-apiserver 1.36.3 (but for what it would cost).
  const right = [
    "self.a.split(',', 2)[0] == 'a' && self.a.replace('a','b',1).trim().substring(1).substring(0,1) == ''",
    "strings.quote(self.a) == '' && '%s %d'.format([self.a, self.i]) == 'x'",
    "self.l.isSorted() && self.li.sum() > 0 && self.li.min() < self.li.max() && self.l.indexOf('a') == 0",
    "self.a.find('[0-9]+') == '1' && self.a.findAll('[0-9]+').size() == 1 && self.a.findAll('x', 2).size() == 0",
    "url(self.a).getHost() == 'x' && isURL(self.a) && url(self.a).getQuery()['a'][0] == 'b'",
    "ip(self.a).family() == 4 && isIP(self.a) && ip.isCanonical(self.a) && string(ip('1.1.1.1')) == 'x'",
    "cidr(self.a).containsIP(ip('1.2.3.4')) && cidr(self.a).masked() == cidr('1.0.0.0/8')",
    "quantity('1').add(quantity('2')).sub(1).compareTo(quantity('1')) == 0 && quantity('1').asInteger() == 1",
    "semver('v1.2', true).minor() == 2 && isSemver('v1', true) && semver('1.2.3').isGreaterThan(semver('1.0.0'))",
    "!format.named('uuid').value().validate(self.a).hasValue() || format.uri().validate(self.a).value() == ['x']",
    "sets.contains(self.l, ['a']) && sets.equivalent(self.l, []) && sets.intersects(self.l, ['a'])",
    "self.l.all(i, v, i > 0 && v == 'a') && self.m.exists(k, v, k == 'a' && v > 1) && self.l.existsOne(i, v, i == 0)",
    "self.l.transformList(i, v, i > 1, v) == ['x'] && self.m.transformMap(k, v, v > 1, v + 1)['a'] == 1",
    "self.l.transformMapEntry(i, v, {v: i})['a'] == 1",
    "self.?a.optMap(x, x + 'b').orValue('') == 'b' && self.?a.optFlatMap(x, optional.of(x)).hasValue()",
    "self.?o.?x.or(optional.of('y')).value() == 'y' && self.l[?0].orValue('a') == 'a'",
    "[?self.?a].size() == 1 && {?'a': self.?a}.size() == 1 && !optional.none().hasValue()",
    "type(self.i) == int && type(null) == null_type && type([]) == list && type(self.m) == map && type(int) == type",
    "self.t - self.t < duration('1h') && self.t + duration('1h') > self.t && self.t.getHours('UTC') == 1",
    "self.by + b'a' == b'aa' && string(self.by) == 'a' && size(self.by) == 1",
    "self.either == '50%' || self.either > 1 || self.either.matches('x') && self.either + 1 == 2",
    "self.m.foo == 1 && 'foo' in self.m && self.m.map(k, k) == ['a'] && self.m.all(k, self.m[k] > 1)",
    "self.lo.all(a, self.lo.exists_one(b, a.x == b.x)) && self.lo.map(x, x.x).isSorted() && has(self.lo[0].x)",
    "self.i in [1, 2] && double(self.i) < 1.5 && self.i < 1.5 && uint(1) == 1u && self.i > 1u",
    "-self.i < -1 && -9223372036854775808 < 0 && 9223372036854775807 > 0 && .5 < 1.0 && 1.5E-3 < 1.0",
    "'\\u00e9\\x41\\101\\n\\?\\`' == \"x\" && r'\\d' == R\"\\d\" && '''a'b''' == \"\"\"a\"b\"\"\" && b'\\xff' == B\"\\377\"",
    "true // a comment 'with quote",
    "(self.b ? self.a : 'x') == 'a' && (self.b ? self.either : dyn(1)) == 1 && (self.b ? null : self.t) == self.t",
    "google.protobuf.Duration{seconds: 1} == self.du && google.protobuf.StringValue{value: 'a'} == self.a",
    "lists.range(3).size() == 3 && self.l.distinct().size() == 1 && self.lo.sortBy(x, x.x).size() == 1",
    "self.a == 'x' && .self.i == 1 && self\n.a == 'x'",
    "self.l.exists(self, self == 'a') && self.l.all(string, string == 'a') && self.l.all(math, math == 'a')",
    "self.a__dash__b == 'c' && self.__namespace__ == self.namespace && has(self.namespace)",
    "self == oldSelf && type(self) == type(oldSelf) && self.o != null && self.t != null",
    "type(ip('1.1.1.1')) == net.IP && matches(self.a, 'a+') && self.a.matches(self.a)",
  ];
  for (const rule of right) test(`takes ${rule}`, () => assert.equal(said(rule), ""));

  // Not declared for CRDs, but for other expressions: whoever writes them is warned.
  for (const rule of [
    "math.abs(-1) == 1",
    "authorizer.path('/x').check('get').allowed()",
    "self.`a-b` == 'x'",
  ])
    test(`does not judge ${rule}`, () => assert.equal(said(rule), ""));

  test("of the definitions that Weft installs are taken, every one", () => {
    let rules = 0;
    for (const { metadata, spec } of definitions()) {
      for (const { name, schema } of spec.versions) {
        rules += JSON.stringify(schema).split('"rule":').length - 1;
        const errors = checkDefinitionSchema(schema!.openAPIV3Schema as Schema, "s");
        assert.deepEqual(errors, [], `${metadata.name} ${name}`);
      }
    }
    assert.ok(rules > 300, `${rules} rules`);
  });

  test("may be any text: what is said of it points into it", () => {
    const words = [
      "self",
      ".a",
      ".l",
      "[0]",
      "(",
      ")",
      "'x'",
      " + ",
      " == ",
      "1",
      "?",
      ":",
      ".all(x, x)",
      "\n",
      "é",
      "",
    ];
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constantFrom(...words), fc.string({ maxLength: 3 }))), (parts) => {
        for (const [, line, column] of said(parts.join("")).matchAll(/<input>:(\d+):(\d+):/g)) {
          const at = parts.join("").split("\n")[Number(line) - 1];
          assert.ok(at !== undefined && Number(column) <= at.length + 1);
        }
      }),
    );
  });

  test("find reserved words under both their names", () => {
    const rule = { rule: "has(self.namespace) && self.namespace == self.__namespace__", message: "no" };
    const spec = { ...struct, "x-kubernetes-validations": [rule] };
    const schema = { type: "object", properties: { spec } } as Schema;
    assert.deepEqual(validate(schema, { spec: { namespace: "a" } }), []);
    assert.equal(validate(schema, { spec: {} })[0]?.detail, "no");
  });
});
