/** CEL rules of CustomResourceDefinitions: what kube-apiserver refuses when it compiles them. */
import { type Api, type Scenario, suite } from "./suite.ts";

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

const text = { type: "string", maxLength: 10 };
const struct = {
  type: "object",
  properties: {
    a: text,
    i: { type: "integer" },
    d: { type: "number" },
    b: { type: "boolean" },
    t: { type: "string", format: "date-time" },
    du: { type: "string", format: "duration" },
    by: { type: "string", format: "byte", maxLength: 10 },
    either: { "x-kubernetes-int-or-string": true },
    any: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
    o: { type: "object", properties: { x: text } },
    l: { type: "array", maxItems: 5, items: text },
    li: { type: "array", maxItems: 5, items: { type: "integer" } },
    lo: { type: "array", maxItems: 5, items: { type: "object", properties: { x: text } } },
    m: { type: "object", maxProperties: 5, additionalProperties: { type: "integer" } },
    "a-b": text,
    in: text,
    namespace: text,
  },
};

/** Tries each rule (a text, or a whole one) on the same struct. */
async function rules(api: Api, ...tried: (string | object)[]): Promise<void> {
  api.mask(/selfType\d+/g, "selfType");
  for (const rule of tried) {
    const p = { ...struct, "x-kubernetes-validations": [typeof rule === "string" ? { rule } : rule] };
    const openAPIV3Schema = {
      type: "object",
      properties: { spec: { type: "object", properties: { p } } },
    };
    const body = {
      metadata: { name: "gadgets.{ns}.example.com" },
      spec: {
        group: "{ns}.example.com",
        scope: "Namespaced",
        names: { plural: "gadgets", kind: "Gadget" },
        versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema } }],
      },
    };
    await api.say("POST", `${definitions}?dryRun=All`, body, {}, ({ kind, message, details }) =>
      kind === "Status" ? { message, details } : "taken",
    );
  }
}

const scenarios: Scenario[] = [
  [
    "a rule is CEL",
    (api) =>
      rules(
        api,
        "self.i >",
        "self.b &&",
        "self.i > > 1",
        "* self",
        "self.b ? 1",
        "self.b ? 1 :",
        "(self.a == 'x'",
        "self.a == 'x')",
        "has(self.a",
        "self.l[",
        "self.l[0 == 'a'",
        "[1,2",
        "{1:2",
        "self..a",
        "self.",
        "self.true == 1",
        "self.null",
        "self = 1",
        "self.a === 'x'",
        "self.a == 'x' & self.i == 1",
        "self.a == 'x';",
        "self.a == 'x",
        "self.a 'x'",
        "self.a not in self.l",
        "@",
        "é == 1",
        { rule: "self.a ==\n\t'x' +", message: "no" },
      ),
  ],
  [
    "names and functions are declared",
    (api) =>
      rules(
        api,
        "nobody > 1",
        "nobody == noother",
        "self.foo()",
        "undefinedFn(self)",
        "nope(nobody)",
        "self.a.nope().foo()",
        "self.l.exists(x, y == 1)",
        "self.l.all(x, x == 'a') && x == 'b'",
        "has(nobody.a)",
        "has(self.a, self.i)",
        "all(self.l, x, true)",
        "self.l.all(x)",
        "self.a-b == 'c'",
        { rule: "self.a == 'x' &&\n\tnobody == 1", message: "no" },
        "self.a == '日本é' && nope",
      ),
  ],
  [
    "fields are those of the schema",
    (api) =>
      rules(
        api,
        "self.missing == 1",
        "oldSelf.missing == 1",
        "self.o.y == 'x'",
        "self.any.foo == 1",
        "has(self.nope)",
        "has(self.o.nope)",
        "has(self)",
        "has(self.?a)",
        "has(self.l[0])",
        "self.lo.all(x, x.y == 1)",
        "self.lo[0].y == 1",
        "self.i.foo == 1",
        "self.l.nope",
        "self.metadata.name == 'x'",
        "self.__in__ == 'a' && self.a__dash__b == 'c'",
        "self.m.foo == 1 && has(self.m.foo)",
      ),
  ],
  [
    "operators and functions take these types",
    (api) =>
      rules(
        api,
        "self.a == 1",
        "self.i == 1.5",
        "self.i + 1.5 > 2.0",
        "self.i < 1.5",
        "self.a && true",
        "self.b && (self.i > 1 || self.a)",
        "self.i ? true : false",
        "!self.a",
        "-self.a == 'x'",
        "self.a in self.a",
        "self.i in self.l",
        "self.a in self.m",
        "self.a == null",
        "self.o == null",
        "self.o == 'x'",
        "self.m[1] == 1",
        "self.l['a'] == 'b'",
        "self.a[0] == 'x'",
        "self['a'] == 'x'",
        "self.a > self.i",
        "self.l > self.l",
        "self.t > '2020'",
        "self.t + self.t > self.t",
        "self.du + self.t > self.t",
        "self.i % 2.0 == 1.0",
        "size(self) > 1",
        "size(self.i) > 1",
        "self.a.startsWith(1)",
        "self.a.endsWith('a', 'b')",
        "self.a.matches('(')",
        "self.l.all(x, x > 1)",
        "self.l.all(x, x)",
        "self.l.filter(x, x).size() > 1",
        "self.l.exists_one(x, x == 1)",
        "self.i.all(x, true)",
        "self.o.all(x, true)",
        "self.b ? true : 'a'",
        "self.i == 99999999999999999999",
        "quantity('1') == 1",
        "self.a.lowerAscii() == 1",
      ),
  ],
  [
    "a rule is true or false, and its message expression a text",
    (api) =>
      rules(
        api,
        "self",
        "self.a",
        "self.either",
        "1",
        "'text'",
        "[1,2]",
        "{'a': 1}",
        "null",
        "self.b ? 'a' : 'b'",
        "self.l.map(x, x + 'a')",
        { rule: "self.b", messageExpression: "self.nope" },
        { rule: "self.b", messageExpression: "1" },
        { rule: "self.b", messageExpression: "'a' +" },
        { rule: "self.b", messageExpression: "'%s %d'.format([self.a, self.i])" },
        { rule: "nobody", messageExpression: "nobody" },
        { rule: "nobody", message: "<a>", reason: "FieldValueForbidden", fieldPath: ".a" },
      ),
  ],
  [
    "what stands beside a rule is right",
    (api) =>
      rules(
        api,
        "",
        "   ",
        "self.a == 'x' &&\n  self.nope == 1",
        { rule: "self.b", message: "a\nb" },
        { rule: "self.b", message: "  " },
        { rule: "self.b", messageExpression: "   " },
        { rule: "self.b", reason: "Odd" },
      ),
  ],
  [
    "rules of Kubernetes' libraries are taken",
    (api) =>
      rules(
        api,
        "isIP('1.2.3.4') && ip('1.2.3.4').family() == 4 && cidr('10.0.0.0/8').containsIP(ip('10.1.1.1'))",
        "quantity('1').isGreaterThan(quantity('1')) && semver('1.2.3').minor() == 2",
        "!format.dns1123Label().validate('a').hasValue() && sets.contains(self.li, [1])",
        "self.t + duration('1h') > self.t && self.t.getFullYear() == 2020 && self.t - self.t < self.du",
        "self.l.exists(self, self == 'a') && self.l.all(math, math == 'a')",
        "type(self.a) == string && dyn(self.a) == 1",
        "self.__namespace__ == self.namespace && has(self.namespace)",
      ),
  ],
];

suite("rules of custom kinds", import.meta.filename, scenarios);
