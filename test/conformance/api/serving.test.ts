/** What a server says about itself: discovery, OpenAPI, version, health; and protobuf bodies and Events. */
import { maps } from "./objects.ts";
import { type Loose, type Scenario, suite } from "./suite.ts";

const v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/** Groups that a lab's server has: its answers are compared where both have something. */
const served = [
  "",
  "apps",
  "batch",
  "coordination.k8s.io",
  "discovery.k8s.io",
  "events.k8s.io",
  "rbac.authorization.k8s.io",
];
/** Kinds and subresources of these groups that it leaves out (`docs/lab.md`). */
const leftOut = [
  "componentstatuses",
  "replicationcontrollers",
  "cronjobs",
  "proxy",
  "ephemeralcontainers",
  "resize",
];

const isKept = (resource: { name?: string; resource?: string }) =>
  !(resource.name ?? resource.resource ?? "").split("/").some((part) => leftOut.includes(part));

const scenarios: Scenario[] = [
  [
    "discovery, group by group",
    async (api) => {
      for (const group of served) {
        const path = group === "" ? "/api/v1" : `/apis/${group}/v1`;
        await api.say("GET", path, undefined, {}, (body) => ({
          ...body,
          resources: body.resources
            .filter(isKept)
            .map(({ storageVersionHash: _, ...resource }: Loose) => resource)
            .sort((a: Loose, b: Loose) => (a.name < b.name ? -1 : 1)),
        }));
        if (group !== "") await api.get(`/apis/${group}`);
      }
      await api.say("GET", "/api", undefined, {}, (body) => ({ ...body, serverAddressByClientCIDRs: [] }));
      await api.say("GET", "/apis", undefined, {}, (body) =>
        body.groups
          .filter((group: Loose) => served.includes(group.name))
          .map((group: Loose) => group.preferredVersion)
          .sort((a: Loose, b: Loose) => (a.groupVersion < b.groupVersion ? -1 : 1)),
      );
    },
  ],
  [
    "discovery, all at once",
    async (api) => {
      for (const path of ["/api", "/apis"]) {
        const answer = await api.ask("GET", path, undefined, { accept: v2 });
        const groups = answer.body.items
          .filter((item: Loose) => served.includes(item.metadata.name ?? ""))
          .sort((a: Loose, b: Loose) => ((a.metadata.name ?? "") < (b.metadata.name ?? "") ? -1 : 1))
          .map((item: Loose) => ({
            ...item,
            metadata: { name: item.metadata.name },
            versions: item.versions.map((version: Loose) => ({
              ...version,
              resources: version.resources
                .filter(isKept)
                .map((resource: Loose) => ({
                  ...resource,
                  subresources: resource.subresources?.filter(
                    (sub: Loose) => !leftOut.includes(sub.subresource),
                  ),
                }))
                .sort((a: Loose, b: Loose) => (a.resource < b.resource ? -1 : 1)),
            })),
          }));
        api.note(path, { ...answer.body, items: groups }, answer.code);
        api.note("content type", [answer.headers["content-type"]]);
      }
    },
  ],
  [
    "OpenAPI says which operations there are, and what kubectl asks it for",
    async (api) => {
      const index = await api.ask("GET", "/openapi/v3");
      for (const [group, path] of [
        ["api/v1", "/api/v1/namespaces/{namespace}/configmaps"],
        ["apis/apps/v1", "/apis/apps/v1/namespaces/{namespace}/deployments"],
      ] as const) {
        const url = index.body.paths[group].serverRelativeURL as string;
        const { body } = await api.ask("GET", url);
        const brief = (operation: Loose) =>
          operation && {
            action: operation["x-kubernetes-action"],
            of: operation["x-kubernetes-group-version-kind"],
            parameters: (operation.parameters ?? [])
              .map((parameter: Loose) => parameter.name)
              .filter((name: string) => ["fieldValidation", "dryRun", "fieldManager", "force"].includes(name))
              .sort(),
            media: Object.keys(operation.requestBody?.content ?? {})
              .filter((type) => type.includes("patch+json") || type.includes("patch+yaml"))
              .sort(),
          };
        const one = body.paths[`${path}/{name}`];
        api.note(`${group} patch`, brief(one.patch));
        api.note(
          `${group} methods`,
          Object.keys(body.paths[path])
            .concat(Object.keys(one))
            .filter((name) => name !== "parameters")
            .sort(),
        );
      }
    },
  ],
  [
    "version and health",
    async (api) => {
      await api.say("GET", "/version", undefined, {}, (body) => ({
        major: body.major,
        minor: body.minor,
        gitVersion: body.gitVersion.replace("+weft", ""),
      }));
      for (const path of ["/healthz", "/livez", "/readyz", "/healthz/ping", "/livez/ping", "/readyz/none"])
        await api.get(path);
    },
  ],
  [
    "Events are one, in two groups",
    async (api) => {
      const core = "/api/v1/namespaces/{ns}/events";
      const events = "/apis/events.k8s.io/v1/namespaces/{ns}/events";
      await api.post(core, {
        metadata: { name: "a" },
        involvedObject: { kind: "Pod", namespace: "{ns}", name: "p" },
        reason: "R",
        message: "m",
        type: "Normal",
        source: { component: "c" },
        firstTimestamp: "2020-01-01T00:00:00Z",
        lastTimestamp: "2020-01-01T00:00:00Z",
        count: 1,
      });
      await api.get(`${events}/a`);
      await api.post(events, {
        metadata: { name: "b" },
        regarding: { kind: "Pod", namespace: "{ns}", name: "p" },
        reason: "R",
        note: "n",
        type: "Normal",
        action: "A",
        eventTime: "2020-01-01T00:00:00.000000Z",
        reportingController: "example.com/c",
        reportingInstance: "i",
      });
      await api.get(`${core}/b`);
      await api.post(events, { metadata: { name: "c" }, regarding: {}, eventTime: null });
      await api.post(core, {
        metadata: { name: "d" },
        involvedObject: { kind: "Pod", namespace: "elsewhere", name: "p" },
      });
      await api.post(core, {
        metadata: { name: "e" },
        involvedObject: { kind: "Pod", namespace: "{ns}", name: "p" },
        type: "Odd",
      });
      await api.get(`${core}?fieldSelector=involvedObject.name%3Dp,reason%3DR`);
      await api.get(`${events}?fieldSelector=regarding.name%3Dp,type%3DNormal`);
      await api.get(`${events}?fieldSelector=involvedObject.name%3Dp`);
    },
  ],
  [
    "protobuf bodies are objects like others",
    async (api) => {
      // v1 ConfigMap {metadata: {name: "p"}, data: {k: "v"}} as client-go sends it.
      const field = (number: number, bytes: Buffer) =>
        Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
      const text = (number: number, value: string) => field(number, Buffer.from(value));
      const raw = Buffer.concat([
        field(1, text(1, "p")),
        field(2, Buffer.concat([text(1, "k"), text(2, "v")])),
      ]);
      const unknown = Buffer.concat([
        field(1, Buffer.concat([text(1, "v1"), text(2, "ConfigMap")])),
        field(2, raw),
      ]);
      const body = Buffer.concat([Buffer.from("k8s\0"), unknown]);
      await api.say("POST", maps, body, { "content-type": "application/vnd.kubernetes.protobuf" });
      await api.get(`${maps}/p`);
      await api.say("PUT", `${maps}/p`, body, { "content-type": "application/vnd.kubernetes.protobuf" });
    },
  ],
];

suite("what a server says of itself", import.meta.filename, scenarios);
