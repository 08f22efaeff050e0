/** mesh.weft.dev. The types are in `../weft-mesh.ts`. */
import { ageColumn, atomicList, boolean, conditions, crd, int32, object, string, strings } from "./schema.ts";

const stringMatch = (minProperties: number) =>
  object({ exact: string(), prefix: string(), regex: string() }, { minProperties, maxProperties: 1 });

const limit = object(
  {
    name: string({ minLength: 1, maxLength: 63 }),
    match: object({
      path: stringMatch(1),
      methods: atomicList(string({ minLength: 1 })),
      headers: { type: "object", additionalProperties: stringMatch(0) },
    }),
    tokens: int32({ minimum: 1, description: "Requests per interval." }),
    interval: string({
      description: "As 1s or 1m; 50ms at least.",
      maxLength: 32,
      "x-kubernetes-validations": [
        { rule: "duration(self) >= duration('50ms')", message: "must be a duration of 50ms at least" },
      ],
    }),
    burst: int32({ minimum: 1, description: "How many may come at once; as tokens unless given." }),
    per: object(
      { header: string({ minLength: 1 }), clientIdentity: boolean() },
      {
        minProperties: 1,
        maxProperties: 1,
        description: "A bucket for each of these instead of one for all.",
      },
    ),
  },
  { required: ["name", "tokens", "interval"] },
);

export const rateLimitDefinition = crd({
  group: "mesh.weft.dev",
  categories: ["weft"],
  kind: "RateLimit",
  plural: "ratelimits",
  scope: "Namespaced",
  versions: ["v1alpha1"],
  description: "Limits of requests that each proxy keeps for itself; 429 with Retry-After beyond them.",
  required: ["spec"],
  spec: object(
    {
      selector: object({ matchLabels: strings() }),
      targetRefs: atomicList(
        object(
          { group: string(), kind: string(), name: string(), namespace: string() },
          { required: ["kind", "name"] },
        ),
        { maxItems: 16 },
      ),
      limits: atomicList(limit, { minItems: 1, maxItems: 64 }),
    },
    {
      required: ["limits"],
      "x-kubernetes-validations": [
        {
          rule: "!(has(self.selector) && has(self.targetRefs))",
          message: "only one of selector and targetRefs can be given",
        },
      ],
    },
  ),
  status: object({ conditions: conditions() }),
  columns: [
    { name: "Limits", type: "string", jsonPath: ".spec.limits[*].name" },
    { name: "Accepted", type: "string", jsonPath: '.status.conditions[?(@.type=="Accepted")].status' },
    ageColumn,
  ],
});
