/** Optimistic concurrency, what changes and what does not, deletion, dry run, names that the server makes. */
import {
  configMap,
  deployment,
  deployments,
  leases,
  maps,
  pods,
  secrets,
  service,
  services,
} from "./objects.ts";
import { type Scenario, suite } from "./suite.ts";

const merge = { "content-type": "application/merge-patch+json" };

const scenarios: Scenario[] = [
  [
    "who writes what another has changed since is refused",
    async (api) => {
      const { body } = await api.post(maps, configMap("a", { x: "1" }));
      await api.put(`${maps}/a`, { ...body, data: { x: "2" } });
      await api.put(`${maps}/a`, { ...body, data: { x: "3" } });
      await api.put(`${maps}/a`, configMap("a", { x: "4" }));
      await api.put(`${maps}/a`, configMap("a", { x: "4" }, { resourceVersion: "0" }));
      await api.patch(`${maps}/a`, {
        metadata: { resourceVersion: body.metadata.resourceVersion },
        data: { x: "5" },
      });
      await api.patch(
        `${maps}/a`,
        [{ op: "replace", path: "/metadata/resourceVersion", value: body.metadata.resourceVersion }],
        "json",
      );
      await api.apply(
        `${maps}/a`,
        configMap("a", { y: "1" }, { resourceVersion: body.metadata.resourceVersion }),
        "me",
      );
      await api
        .delete(`${maps}/a`, { preconditions: { resourceVersion: body.metadata.resourceVersion } })
        .catch(() => {});
      api.steps.pop();
      await api.delete(`${maps}/a`, { preconditions: { uid: body.metadata.uid } });
    },
  ],
  [
    "a write that changes nothing leaves the revision",
    async (api) => {
      const { body } = await api.post(maps, configMap("a", { x: "1" }));
      await api.put(`${maps}/a`, body);
      await api.put(`${maps}/a`, configMap("a", { x: "1" }));
      await api.patch(`${maps}/a`, {});
      await api.patch(`${maps}/a`, { data: { x: "1" } });
      await api.patch(`${maps}/a`, [], "json");
      await api.patch(`${maps}/a`, { data: { x: "1" } }, "strategic");
      await api.apply(`${maps}/a`, configMap("a", { x: "1" }), "me");
      await api.apply(`${maps}/a`, configMap("a", { x: "1" }), "me");
      const made = await api.post(deployments, deployment("d"));
      await api.put(`${deployments}/d`, made.body);
      await api.put(`${deployments}/d`, deployment("d"));
      await api.patch(`${deployments}/d`, { spec: { replicas: 1 } }, "strategic");
    },
  ],
  [
    "some kinds are made by an update of what is not there, others are not",
    async (api) => {
      const meta = (name: string) => ({ metadata: { name } });
      await api.put(`${leases}/l`, {
        ...meta("l"),
        spec: { holderIdentity: "me", leaseDurationSeconds: 15 },
      });
      await api.put(`${leases}/l2`, { ...meta("l2"), metadata: { name: "l2", resourceVersion: "1" } });
      await api.put("/api/v1/namespaces/{ns}/endpoints/e", { ...meta("e"), subsets: [] });
      await api.put(`${services}/s`, service("s"));
      await api.put(`${secrets}/s`, meta("s"));
      await api.put("/api/v1/namespaces/{ns}/serviceaccounts/s", meta("s"));
      await api.put("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices/e", {
        ...meta("e"),
        addressType: "IPv4",
        endpoints: [],
      });
      await api.put("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/roles/r", {
        ...meta("r"),
        rules: [],
      });
      await api.put("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings/r", {
        ...meta("r"),
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "r" },
      });
      await api.put("/api/v1/namespaces/{ns}/events/e", {
        ...meta("e"),
        involvedObject: { namespace: "{ns}" },
      });
      await api.put("/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies/n", {
        ...meta("n"),
        spec: { podSelector: {} },
      });
      await api.put("/api/v1/nodes/{ns}-n", meta("{ns}-n"));
      await api.put("/api/v1/namespaces/{ns}-n", meta("{ns}-n"));
      await api.put("/apis/scheduling.k8s.io/v1/priorityclasses/{ns}-n", { ...meta("{ns}-n"), value: 1 });
      await api.put("/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets/p", {
        ...meta("p"),
        spec: { selector: {} },
      });
      await api.put("/api/v1/namespaces/{ns}/limitranges/l", { ...meta("l"), spec: { limits: [] } });
      await api.put("/api/v1/namespaces/{ns}/resourcequotas/q", { ...meta("q"), spec: {} });
      await api.put("/apis/storage.k8s.io/v1/storageclasses/{ns}-s", {
        ...meta("{ns}-s"),
        provisioner: "example.com/p",
      });
      await api.put("/apis/networking.k8s.io/v1/ingressclasses/{ns}-i", {
        ...meta("{ns}-i"),
        spec: { controller: "example.com/c" },
      });
      await api.ask("DELETE", "/apis/scheduling.k8s.io/v1/priorityclasses/{ns}-n");
      await api.ask("DELETE", "/apis/networking.k8s.io/v1/ingressclasses/{ns}-i");
    },
  ],
  [
    "generation counts changes of what is wanted",
    async (api) => {
      await api.post(deployments, { ...deployment("d"), metadata: { name: "d", generation: 7 } });
      await api.patch(`${deployments}/d`, { metadata: { annotations: { a: "b" } } });
      await api.patch(`${deployments}/d`, { spec: { replicas: 2 } });
      await api.patch(`${deployments}/d/status`, { status: { replicas: 2, observedGeneration: 1 } });
      await api.patch(`${deployments}/d/scale`, { spec: { replicas: 3 } });
      await api.patch(`${deployments}/d`, { metadata: { generation: 40 } });
      await api.delete(`${deployments}/d?propagationPolicy=Foreground`);
      await api.post(services, service("s"));
      await api.patch(`${services}/s`, { spec: { selector: { a: "b" } } });
      await api.post("/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies", {
        metadata: { name: "n" },
        spec: { podSelector: {} },
      });
      await api.patch("/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies/n", {
        spec: { podSelector: { matchLabels: { a: "b" } } },
      });
      await api.post("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices", {
        metadata: { name: "e" },
        addressType: "IPv4",
        endpoints: [{ addresses: ["10.0.0.1"] }],
      });
      await api.patch("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices/e", {
        endpoints: [{ addresses: ["10.0.0.2"] }],
      });
      await api.patch("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices/e", {
        metadata: { labels: { a: "b" } },
      });
      await api.post("/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets", {
        metadata: { name: "p" },
        spec: { minAvailable: 1, selector: { matchLabels: { a: "b" } } },
      });
      await api.patch("/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets/p", {
        spec: { minAvailable: 2 },
      });
    },
  ],
  [
    "status has its own door",
    async (api) => {
      await api.post(deployments, { ...deployment("d"), status: { replicas: 9 } });
      await api.put(`${deployments}/d`, { ...deployment("d", { replicas: 4 }), status: { replicas: 9 } });
      await api.put(`${deployments}/d/status`, {
        ...deployment("d", { replicas: 7 }),
        metadata: { name: "d", labels: { new: "label" }, annotations: { new: "annotation" } },
        status: { replicas: 4, readyReplicas: 1 },
      });
      await api.get(`${deployments}/d/status`);
      await api.patch(`${deployments}/d/status`, { status: { replicas: 5, readyReplicas: 9 } });
      await api.patch(`${deployments}/d/status`, { status: { replicas: -5 } });
      await api.patch(`${deployments}/d/status`, {
        metadata: { resourceVersion: "1" },
        status: { replicas: 5 },
      });
      await api.apply(
        `${deployments}/d/status`,
        { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "d" }, status: { replicas: 6 } },
        "me",
        "&force=true",
      );
      await api.apply(
        `${deployments}/none/status`,
        { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "none" }, status: { replicas: 6 } },
        "me",
      );
      await api.post(services, service("s"));
      await api.patch(`${services}/s/status`, {
        status: { loadBalancer: { ingress: [{ ip: "192.0.2.1" }] } },
      });
      await api.patch(
        "/api/v1/namespaces/{ns}/status",
        {
          status: { conditions: [{ type: "X", status: "True", lastTransitionTime: "2020-01-01T00:00:00Z" }] },
        },
        "strategic",
      );
    },
  ],
  [
    "scale is a small view of an object",
    async (api) => {
      await api.post(deployments, deployment("d", { replicas: 2 }));
      const { body } = await api.get(`${deployments}/d/scale`);
      await api.put(`${deployments}/d/scale`, { ...body, spec: { replicas: 5 } });
      await api.put(`${deployments}/d/scale`, { ...body, spec: { replicas: 6 } });
      await api.put(`${deployments}/d/scale`, {
        metadata: { name: "d", namespace: "{ns}" },
        spec: { replicas: 6 },
      });
      await api.put(`${deployments}/d/scale`, { metadata: { name: "other" }, spec: { replicas: 6 } });
      await api.patch(`${deployments}/d/scale`, { spec: { replicas: 7 } });
      await api.patch(`${deployments}/d/scale`, { spec: { replicas: 8 } }, "strategic");
      await api.patch(
        `${deployments}/d/scale`,
        [{ op: "replace", path: "/spec/replicas", value: 9 }],
        "json",
      );
      await api.apply(
        `${deployments}/d/scale`,
        {
          apiVersion: "autoscaling/v1",
          kind: "Scale",
          metadata: { name: "d", namespace: "{ns}" },
          spec: { replicas: 10 },
        },
        "me",
        "&force=true",
      );
      await api.patch(`${deployments}/d/scale`, { spec: { replicas: -1 } });
      await api.patch(`${deployments}/d/scale`, {
        metadata: { resourceVersion: "1" },
        spec: { replicas: 3 },
      });
      await api.get(`${deployments}/d`);
      await api.patch(`${deployments}/none/scale`, { spec: { replicas: 3 } });
    },
  ],
  [
    "deletion answers with a Status, or with the object where something holds it",
    async (api) => {
      await api.post(maps, configMap("a"));
      await api.delete(`${maps}/a`);
      await api.delete(`${maps}/a`);
      await api.post(services, service("s"));
      await api.delete(`${services}/s`);
      await api.post(deployments, deployment("d"));
      await api.delete(`${deployments}/d`);
      await api.post("/api/v1/namespaces/{ns}/serviceaccounts", { metadata: { name: "s" } });
      await api.delete("/api/v1/namespaces/{ns}/serviceaccounts/s");
      await api.post(secrets, { metadata: { name: "s" } });
      await api.delete(`${secrets}/s`, { gracePeriodSeconds: 30 });
      await api.post(leases, { metadata: { name: "l" } });
      await api.delete(`${leases}/l?propagationPolicy=Background`);
    },
  ],
  [
    "finalizers hold an object until the last is gone, and none is added then",
    async (api) => {
      await api.post(maps, configMap("a", {}, { finalizers: ["example.com/a", "example.com/b"] }));
      const watch = await api.watch(`${maps}?watch=1&fieldSelector=metadata.name%3Da`);
      await api.delete(`${maps}/a`);
      await api.delete(`${maps}/a`);
      await api.delete(`${maps}/a?propagationPolicy=Foreground`);
      await api.patch(`${maps}/a`, {
        metadata: { finalizers: ["example.com/a", "example.com/b", "example.com/c"] },
      });
      await api.patch(`${maps}/a`, { data: { x: "1" }, metadata: { finalizers: ["example.com/b"] } });
      await api.post(maps, configMap("a"));
      await api.put(`${maps}/a`, configMap("a", { x: "2" }, { finalizers: ["example.com/b"] }));
      await api.put(`${maps}/a`, configMap("a"));
      await api.get(`${maps}/a`);
      await watch.take(5);
    },
  ],
  [
    "propagation policies leave their finalizers",
    async (api) => {
      for (const policy of ["Foreground", "Orphan", "Background"]) {
        await api.ask("POST", maps, configMap("a"));
        await api.delete(`${maps}/a?propagationPolicy=${policy}`);
        await api.delete(`${maps}/a?propagationPolicy=Orphan`);
        await api.delete(`${maps}/a?propagationPolicy=Background`);
        await api.ask("PATCH", `${maps}/a`, { metadata: { finalizers: null } }, merge);
        await api.get(`${maps}/a`);
      }
      await api.ask("POST", maps, configMap("a"));
      await api.delete(`${maps}/a`, { orphanDependents: true });
      await api.ask("PATCH", `${maps}/a`, { metadata: { finalizers: null } }, merge);
      await api.ask("POST", maps, configMap("a"));
      await api.delete(`${maps}/a?orphanDependents=false`);
      await api.post("/apis/batch/v1/namespaces/{ns}/jobs", {
        metadata: { name: "j" },
        spec: { template: { spec: { restartPolicy: "Never", containers: [{ name: "c", image: "i" }] } } },
      });
      await api.delete("/apis/batch/v1/namespaces/{ns}/jobs/j");
      await api.post(maps, configMap("o", {}, { finalizers: ["orphan"] }));
      await api.delete(`${maps}/o?propagationPolicy=Background`);
      await api.get(`${maps}/o`);
    },
  ],
  [
    "a dry run does everything but keep it",
    async (api) => {
      await api.post(`${maps}?dryRun=All`, configMap("a"));
      await api.get(`${maps}/a`);
      await api.ask("POST", maps, configMap("a"));
      await api.post(`${maps}?dryRun=All`, configMap("a"));
      await api.put(`${maps}/a?dryRun=All`, configMap("a", { x: "1" }));
      await api.patch(`${maps}/a?dryRun=All`, { data: { x: "1" } });
      await api.apply(`${maps}/a`, configMap("a", { x: "1" }), "me", "&dryRun=All");
      await api.apply(`${maps}/n`, configMap("n", { x: "1" }), "me", "&dryRun=All");
      await api.delete(`${maps}/a?dryRun=All`);
      await api.delete(`${maps}/a`, { dryRun: ["All"] });
      await api.post(`${services}?dryRun=All`, service("s"));
      await api.post(`${maps}?dryRun=All`, { metadata: { generateName: "made-" } });
      await api.post(`${maps}?dryRun=All&dryRun=All`, configMap("z"));
      await api.delete(`${maps}?dryRun=All`);
      await api.get(maps);
    },
  ],
  [
    "names are made from generateName",
    async (api) => {
      await api.post(maps, { metadata: { generateName: "made-" } });
      await api.post(maps, { metadata: { generateName: "made-", name: "given" } });
      api.mask(/Not Good[a-z0-9]{5}/g, "Not Good…");
      await api.post(maps, { metadata: { generateName: "Not Good" } });
      const { body } = await api.ask("POST", maps, { metadata: { generateName: "x".repeat(300) } });
      api.note("too long", [body.code, body.reason]);
      await api.put(`${maps}/`, { metadata: { generateName: "made-" } });
      await api.post(`${maps}?fieldValidation=Strict`, { metadata: { generateName: "made-", name: "" } });
    },
  ],
  [
    "unknown and duplicate fields are refused, warned about or ignored",
    async (api) => {
      const twice =
        '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME","colour":"red","labels":{"a":"b","a":"c"}},"data":{"x":"1","x":"2"},"more":{"a":1,"a":2}}';
      for (const mode of ["Strict", "Warn", "Ignore", ""]) {
        await api.say(
          "POST",
          `${maps}?fieldValidation=${mode}`,
          twice.replace("NAME", `a${mode.toLowerCase()}`),
        );
      }
      const yaml =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\n  colour: red\ndata:\n  x: '1'\n  x: '2'\n";
      await api.say("POST", `${maps}?fieldValidation=Strict`, yaml, { "content-type": "application/yaml" });
      await api.say("POST", `${maps}?fieldValidation=Warn`, yaml, { "content-type": "application/yaml" });
      api.mask(/patch: Invalid value: "\{.*\}": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      for (const mode of ["Strict", "Warn", "Ignore"]) {
        await api.say("PUT", `${maps}/a?fieldValidation=${mode}`, twice.replace("NAME", "a"));
        await api.say(
          "PATCH",
          `${maps}/a?fieldValidation=${mode}`,
          '{"data":{"x":"1","x":"2"},"more":1}',
          merge,
        );
        await api.say("PATCH", `${maps}/a?fieldValidation=${mode}`, '{"data":{"x":"1","x":"2"},"more":1}', {
          "content-type": "application/strategic-merge-patch+json",
        });
        await api.say(
          "PATCH",
          `${maps}/a?fieldValidation=${mode}`,
          [{ op: "add", path: "/more", value: 1 }],
          { "content-type": "application/json-patch+json" },
        );
        await api.say(
          "PATCH",
          `${maps}/a?fieldManager=me&fieldValidation=${mode}`,
          '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"z":"1","z":"2"}}',
          { "content-type": "application/apply-patch+yaml" },
        );
      }
      await api.post(
        `${deployments}?fieldValidation=Strict`,
        deployment("d", { replica: 1 }, { imag: "x", ports: [{ containerPort: 80, hostport: 1 }] }),
      );
      await api.post(
        `${deployments}?fieldValidation=Warn`,
        deployment("d", { replica: 1 }, { imag: "x", ports: [{ containerPort: 80, hostport: 1 }] }),
      );
    },
  ],
  [
    "a namespace ends in steps",
    async (api) => {
      await api.post("/api/v1/namespaces", { metadata: { name: "{ns}-t" } });
      await api.post("/api/v1/namespaces/{ns}-t/configmaps", configMap("a"));
      await api.put("/api/v1/namespaces/{ns}-t/finalize", {
        metadata: { name: "{ns}-t" },
        spec: { finalizers: ["kubernetes", "example.com/f"] },
      });
      await api.delete("/api/v1/namespaces/{ns}-t");
      await api.post("/api/v1/namespaces/{ns}-t/configmaps", configMap("b"));
      await api.apply("/api/v1/namespaces/{ns}-t/configmaps/c", configMap("c"), "me");
      await api.put("/api/v1/namespaces/{ns}-t/configmaps/a", configMap("a", { x: "1" }));
      await api.delete("/api/v1/namespaces/{ns}-t");
      await api.patch("/api/v1/namespaces/{ns}-t", { metadata: { labels: { a: "b" } } });
      await api.delete("/api/v1/namespaces/{ns}-t/configmaps/a");
      await api.post("/api/v1/namespaces", { metadata: { name: "{ns}-t" } });
      await api.put("/api/v1/namespaces/{ns}-t/finalize", {
        metadata: { name: "{ns}-t" },
        spec: { finalizers: [] },
      });
      await api.get("/api/v1/namespaces/{ns}-t");
      await api.delete("/api/v1/namespaces/default");
      await api.delete("/api/v1/namespaces/kube-system");
      await api.post("/api/v1/namespaces", {
        metadata: { name: "{ns}-f" },
        spec: { finalizers: ["example.com/x"] },
      });
      await api.put("/api/v1/namespaces/{ns}-f", { metadata: { name: "{ns}-f" }, spec: { finalizers: [] } });
      await api.post("/api/v1/namespaces", { metadata: { name: "Not_Good" } });
      await api.post("/api/v1/namespaces", { metadata: { name: "with.dots" } });
    },
  ],
  [
    "pods end gracefully, when they have a node",
    async (api) => {
      await api.ask("POST", "/api/v1/namespaces/{ns}/serviceaccounts", { metadata: { name: "default" } });
      const pod = (name: string, spec = {}) => ({
        metadata: { name },
        spec: { containers: [{ name: "c", image: "i" }], automountServiceAccountToken: false, ...spec },
      });
      await api.post(pods, pod("a"));
      await api.delete(`${pods}/a`);
      await api.post(pods, pod("b", { nodeName: "n" }));
      await api.delete(`${pods}/b`);
      await api.delete(`${pods}/b?gracePeriodSeconds=60`);
      await api.delete(`${pods}/b?gracePeriodSeconds=5`);
      await api.delete(`${pods}/b?gracePeriodSeconds=0`);
      await api.get(`${pods}/b`);
      await api.post(pods, pod("c", { nodeName: "n", terminationGracePeriodSeconds: 7 }));
      await api.patch(`${pods}/c/status`, { status: { phase: "Succeeded" } });
      await api.delete(`${pods}/c`);
      await api.post(pods, pod("d", { nodeName: "n" }));
      await api.delete(`${pods}/d?gracePeriodSeconds=-1`);
      await api.delete(`${pods}?dryRun=All`);
    },
  ],
];

suite("writes", import.meta.filename, scenarios);
