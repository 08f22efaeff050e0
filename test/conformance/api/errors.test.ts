/** Refusals of the common mistakes: code, reason, message and details. */
import { type Scenario, suite } from "./suite.ts";

const maps = "/api/v1/namespaces/{ns}/configmaps";
const deployments = "/apis/apps/v1/namespaces/{ns}/deployments";
const map = (name: string, data = {}, metadata = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, ...metadata },
  data,
});

const scenarios: Scenario[] = [
  [
    "what is not there is 404, whatever is to be done with it",
    async (api) => {
      await api.get(`${maps}/none`);
      await api.get(`${deployments}/none`);
      await api.put(`${maps}/none`, map("none"));
      await api.put(`${deployments}/none/status`, {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name: "none" },
        spec: {
          selector: { matchLabels: { a: "b" } },
          template: { metadata: { labels: { a: "b" } }, spec: { containers: [{ name: "a", image: "b" }] } },
        },
      });
      await api.patch(`${maps}/none`, { data: { a: "b" } });
      await api.patch(`${deployments}/none`, { spec: { replicas: 1 } }, "strategic");
      await api.patch(`${deployments}/none/scale`, { spec: { replicas: 1 } });
      await api.get(`${deployments}/none/scale`);
      await api.delete(`${maps}/none`);
      await api.delete(`${deployments}/none`);
      await api.get("/api/v1/namespaces/none-at-all");
      await api.get("/api/v1/namespaces/none-at-all/configmaps");
      await api.post("/api/v1/namespaces/none-at-all/configmaps", map("a"));
      await api.delete("/api/v1/namespaces/none-at-all/configmaps");
      await api.get("/api/v1/nodes/none");
    },
  ],
  [
    "a path that nothing serves is 404 too, in other words",
    async (api) => {
      await api.get("/api/v1/namespaces/{ns}/gadgets");
      await api.get("/api/v1/namespaces/{ns}/gadgets/a");
      await api.post("/api/v1/namespaces/{ns}/gadgets", map("a"));
      await api.get("/apis/none.example.com/v1/gadgets");
      await api.get("/apis/apps/v9/namespaces/{ns}/deployments");
      await api.get("/apis/none.example.com");
      await api.get("/apis/none.example.com/v1");
      await api.get("/nothing/here");
      await api.get(`${maps}/a/nothing`);
      await api.put(`${maps}/a/status`, map("a"));
      await api.get("/api/v1/namespaces/{ns}/nodes");
      await api.get("/api/v1/namespaces/{ns}/nodes/a");
      await api.post("/api/v1/configmaps", map("a"));
      await api.get("/api/v1/configmaps/a");
      await api.delete("/api/v1/configmaps");
    },
  ],
  [
    "a method that a path does not know is 405",
    async (api) => {
      await api.put(maps, map("a"));
      await api.patch(maps, { data: {} });
      await api.post(`${maps}/a`, map("a"));
      await api.delete("/api/v1/namespaces");
      await api.get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews");
      await api.delete("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews");
      await api.put("/version", {});
      await api.delete("/api");
      await api.post(`${deployments}/a/status`, {});
      await api.delete(`${deployments}/a/scale`);
    },
  ],
  [
    "creating what exists is 409, and creating says what a body lacks",
    async (api) => {
      await api.post(maps, map("a"));
      await api.post(maps, map("a"));
      await api.post("/api/v1/namespaces", { metadata: { name: "{ns}" } });
      await api.post(maps, { apiVersion: "v1", kind: "ConfigMap", metadata: {} });
      await api.post(maps, { apiVersion: "v1", kind: "ConfigMap" });
      await api.post(maps, {});
      await api.post(maps, map("b", {}, { namespace: "other" }));
      await api.post(maps, map("b", {}, { resourceVersion: "7" }));
      await api.post(maps, map("b", {}, { resourceVersion: "0" }));
      await api.post(maps, map("c", {}, { uid: "00000000-0000-4000-8000-000000000001" }));
      await api.post(maps, map("Not A Name"));
      await api.post(maps, map("a".repeat(254)));
      await api.post(maps, map("d", {}, { labels: { "a b": "e f" } }));
      await api.post(maps, map("d", {}, { annotations: { "a b": "c" } }));
      await api.post(maps, map("d", {}, { finalizers: ["no slash at all"] }));
      await api.post(maps, map("d", {}, { finalizers: ["plain"] }));
      await api.post(
        maps,
        map("d", {}, { ownerReferences: [{ apiVersion: "v1", kind: "ConfigMap", name: "a" }] }),
      );
      await api.post(
        maps,
        map(
          "d",
          {},
          {
            ownerReferences: [
              { apiVersion: "v1", kind: "ConfigMap", name: "a", uid: "x", controller: true },
              { apiVersion: "v1", kind: "ConfigMap", name: "b", uid: "y", controller: true },
            ],
          },
        ),
      );
      await api.post(maps, map("d", { "a b": "c" }));
      await api.post(maps, { ...map("d"), data: { a: "b" }, binaryData: { a: "Yg==" } });
      await api.post(maps, { ...map("d"), immutable: true });
      await api.put(`${maps}/d`, { ...map("d", { a: "b" }), immutable: true });
      await api.put(`${maps}/d`, map("d"));
    },
  ],
  [
    "a body of the wrong kind, version or form is refused",
    async (api) => {
      await api.post(maps, { ...map("a"), kind: "Secret" });
      await api.post(maps, { ...map("a"), kind: "Nonsense" });
      await api.post(maps, { ...map("a"), apiVersion: "v2" });
      await api.post(maps, { ...map("a"), apiVersion: "apps/v1" });
      await api.post(deployments, { ...map("a") });
      await api.post(deployments, {
        apiVersion: "apps/v1beta1",
        kind: "Deployment",
        metadata: { name: "a" },
      });
      await api.post(maps, "");
      await api.post(maps, "[]");
      await api.post(maps, '"text"');
      await api.post(maps, "null");
      await api.post(maps, { ...map("a"), data: [] });
      await api.post(maps, { ...map("a"), data: { a: 1 } });
      await api.post(maps, { ...map("a"), metadata: "a" });
      await api.post(maps, { ...map("a"), metadata: { name: 7 } });
      await api.post(maps, { ...map("a"), metadata: { name: "a", labels: { a: 7 } } });
      await api.post(maps, { ...map("a"), metadata: { name: "a", finalizers: "b" } });
      await api.post(maps, { ...map("a"), binaryData: { a: "!!" } });
      await api.post(deployments, { metadata: { name: "a" }, spec: { replicas: "three" } });
      await api.post(deployments, { metadata: { name: "a" }, spec: { replicas: 1.5 } });
      await api.say("POST", maps, map("a"), { "content-type": "text/plain" });
      await api.say("POST", maps, map("a"), { "content-type": "application/cbor" });
      await api.say("PATCH", `${maps}/a`, {}, { "content-type": "application/json" });
      await api.say("PATCH", `${maps}/a`, {}, { "content-type": "text/plain" });
      await api.get(maps, "text/html");
      await api.get(maps, "application/xml, text/plain");
    },
  ],
  [
    "updates name the object that they are about",
    async (api) => {
      api.mask(/patch: Invalid value: ".*": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      await api.post(maps, map("a"));
      await api.put(`${maps}/a`, map("b"));
      await api.put(`${maps}/a`, { apiVersion: "v1", kind: "ConfigMap", metadata: {} });
      await api.put(`${maps}/a`, map("a", {}, { namespace: "other" }));
      await api.put(`${maps}/a`, map("a", {}, { uid: "00000000-0000-4000-8000-000000000001" }));
      await api.put(`${maps}/a`, map("a", {}, { resourceVersion: "1" }));
      await api.put(`${maps}/a`, map("a", {}, { resourceVersion: "word" }));
      await api.patch(`${maps}/a`, { metadata: { name: "b" } });
      await api.patch(`${maps}/a`, { metadata: { namespace: "other" } });
      await api.patch(`${maps}/a`, { metadata: { uid: "00000000-0000-4000-8000-000000000001" } });
      await api.patch(`${maps}/a`, { metadata: { resourceVersion: "1" } });
      await api.patch(`${maps}/a`, { kind: "Secret" });
      await api.patch(`${maps}/a`, { apiVersion: "v2" });
      await api.patch(`${maps}/a`, {
        metadata: { creationTimestamp: "2020-01-01T00:00:00Z", generation: 7, selfLink: "x" },
      });
      await api.patch(`${maps}/a`, { metadata: { deletionTimestamp: "2020-01-01T00:00:00Z" } });
      await api.patch(`${maps}/a`, { metadata: { generateName: "x-" } });
      await api.put(`${maps}/a?resourceVersion=9`, map("a", { x: "1" }));
    },
  ],
  [
    "patches that cannot be read or do not fit are refused",
    async (api) => {
      api.mask(/patch: Invalid value: "\{.*\}": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      // Go's words for a value of a wrong type depend on the decoder behind a patch, and on the YAML parser.
      api.mask(
        /cannot restore map from string|json: cannot unmarshal string into Go struct field ConfigMap.data .*/,
      );
      api.mask(/converting YAML to JSON: yaml: .*/);
      await api.post(maps, map("a", { x: "1" }));
      await api.patch(`${maps}/a`, "nonsense");
      await api.patch(`${maps}/a`, "[]");
      await api.patch(`${maps}/a`, "nonsense", "strategic");
      await api.patch(`${maps}/a`, { data: "text" }, "strategic");
      await api.patch(`${maps}/a`, { data: "text" });
      await api.patch(`${maps}/a`, { data: { x: 1 } });
      await api.patch(`${maps}/a`, "{}", "json");
      await api.patch(`${maps}/a`, [{ op: "jump", path: "/data/x" }], "json");
      await api.patch(`${maps}/a`, [{ op: "replace", path: "/data/none/x", value: "1" }], "json");
      await api.patch(`${maps}/a`, [{ op: "remove", path: "/data/none" }], "json");
      await api.patch(`${maps}/a`, [{ op: "test", path: "/data/x", value: "2" }], "json");
      await api.patch(`${maps}/a`, [{ op: "add", path: "/data/y" }], "json");
      await api.patch(`${maps}/a`, [{ op: "replace", path: "/metadata/name", value: "b" }], "json");
      await api.patch(`${maps}/a`, { data: { $patch: "jump" } }, "strategic");
      await api.patch(`${maps}/a`, map("a"), "apply");
      await api.patch(`${maps}/a?force=true`, { data: {} });
      await api.apply(`${maps}/a`, { metadata: { name: "a" } }, "me");
      await api.apply(`${maps}/a`, { apiVersion: "v1", kind: "ConfigMap" }, "me");
      await api.apply(`${maps}/a`, map("b"), "me");
      await api.apply(`${maps}/a`, { ...map("a"), kind: "Secret" }, "me");
      await api.apply(`${maps}/a`, { ...map("a"), apiVersion: "v2" }, "me");
      await api.apply(`${maps}/a`, map("a", {}, { namespace: "other" }), "me");
      await api.apply(`${maps}/a`, map("a", {}, { managedFields: [{ manager: "x" }] }), "me");
      await api.apply(`${maps}/a`, map("a", {}, { resourceVersion: "1" }), "me");
      await api.apply(`${maps}/a`, map("a", {}, { uid: "00000000-0000-4000-8000-000000000001" }), "me");
      await api.apply(`${maps}/new`, map("new", {}, { uid: "00000000-0000-4000-8000-000000000001" }), "me");
      await api.apply(`${maps}/new`, map("new", {}, { resourceVersion: "1" }), "me");
      await api.apply(`${maps}/a`, { ...map("a"), unknown: 1 }, "me");
      await api.apply(`${maps}/a`, { ...map("a"), data: { a: 1 } }, "me");
      await api.apply(`${maps}/a`, { ...map("a"), data: [] }, "me");
      await api.apply(`${maps}/a`, "a: b: c", "me");
      await api.apply(`${maps}/a`, "- a", "me");
    },
  ],
  [
    "options that do not exist are refused",
    async (api) => {
      api.mask(/in record \(\d+\)/, "in record (…)");
      await api.post(`${maps}?dryRun=Some`, map("a"));
      await api.post(`${maps}?fieldValidation=Maybe`, map("a"));
      await api.post(`${maps}?fieldManager=${"m".repeat(129)}`, map("a"));
      await api.post(`${maps}?fieldManager=a%07b`, map("a"));
      await api.post(maps, map("a"));
      await api.put(`${maps}/a?dryRun=Some`, map("a"));
      await api.put(`${maps}/a?fieldValidation=Maybe`, map("a"));
      await api.patch(`${maps}/a?dryRun=Some`, {});
      await api.patch(`${maps}/a?fieldValidation=Maybe`, {});
      await api.delete(`${maps}/a?dryRun=Some`);
      await api.delete(`${maps}/a`, { dryRun: ["Some"] });
      await api.delete(`${maps}/a`, { propagationPolicy: "Sideways" });
      await api.delete(`${maps}/a?propagationPolicy=Sideways`);
      await api.delete(`${maps}/a`, { propagationPolicy: "Orphan", orphanDependents: true });
      await api.delete(`${maps}/a?gracePeriodSeconds=word`);
      await api.delete(`${maps}/a`, { gracePeriodSeconds: "word" });
      await api.delete(`${maps}/a`, { kind: "Wrong", apiVersion: "v1" });
      await api.delete(`${maps}/a`, "nonsense");
      await api.delete(`${maps}/a`, { preconditions: { uid: "00000000-0000-4000-8000-000000000001" } });
      await api.delete(`${maps}/a`, { preconditions: { resourceVersion: "1" } });
      await api.delete(maps, { propagationPolicy: "Sideways" });
      await api.delete(`${maps}/a?gracePeriodSeconds=-1`);
    },
  ],
  [
    "selectors that cannot be read are refused",
    async (api) => {
      for (const selector of [
        "a==b==c",
        "a in b",
        "!",
        "a in (b",
        "=x",
        "a b",
        "-a=b",
        "a=b c",
        "a in ()",
        "a>x",
        ",",
      ]) {
        await api.get(`${maps}?labelSelector=${encodeURIComponent(selector)}`);
      }
      for (const selector of [
        "metadata.name",
        "spec.x=1",
        "status.phase=Running",
        "metadata.name>a",
        "metadata.labels.a=b",
      ]) {
        await api.get(`${maps}?fieldSelector=${encodeURIComponent(selector)}`);
        await api.get(`${deployments}?fieldSelector=${encodeURIComponent(selector)}`);
      }
      await api.get("/api/v1/pods?fieldSelector=spec.image%3Dx");
      await api.delete(`${maps}?labelSelector=${encodeURIComponent("a in (b")}`);
      await api.delete(`${maps}?fieldSelector=nothing%3D1`);
    },
  ],
];

suite("refusals", import.meta.filename, scenarios);
