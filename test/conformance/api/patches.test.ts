/** The four kinds of patch, and who owns which field. */
import { configMap, deployment, deployments, maps, service, services } from "./objects.ts";
import { type Scenario, suite } from "./suite.ts";

const scenarios: Scenario[] = [
  [
    "managers share what they set to the same value, and own the rest alone",
    async (api) => {
      const apply = (manager: string, data: object, more = "") =>
        api.apply(`${maps}/a`, configMap("a", data), manager, more);
      await apply("one", { a: "1", b: "1" });
      await apply("two", { b: "1", c: "1" });
      await apply("two", { b: "2" });
      await apply("two", { b: "2" }, "&force=true");
      await apply("one", { a: "1" });
      await apply("one", {});
      await apply("two", {});
      await api.patch(`${maps}/a`, { data: { z: "1" } });
      await apply("one", { z: "2", y: "1" });
      await apply("one", { z: "2", y: "1" }, "&force=true");
      await api.patch(`${maps}/a`, { data: { y: null } });
      await apply("one", { z: "2", y: "1" });
      await apply("one", { z: "2", y: "1" }, "&force=false");
    },
  ],
  [
    "several conflicts are told by manager",
    async (api) => {
      await api.apply(`${deployments}/d`, deployment("d", { replicas: 2 }), "one");
      await api.patch(`${deployments}/d?fieldManager=updater`, {
        spec: { paused: true, minReadySeconds: 3 },
      });
      await api.apply(
        `${deployments}/d`,
        deployment("d", { replicas: 3, paused: false, minReadySeconds: 4 }, { image: "example.com/c:2" }),
        "two",
      );
      await api.apply(
        `${deployments}/d`,
        deployment("d", { replicas: 3, paused: false, minReadySeconds: 4 }, { image: "example.com/c:2" }),
        "two",
        "&force=true",
      );
      await api.apply(
        `${deployments}/d/status`,
        { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "d" }, status: { replicas: 1 } },
        "status",
      );
      await api.apply(
        `${deployments}/d/status`,
        { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "d" }, status: { replicas: 2 } },
        "other",
      );
    },
  ],
  [
    "an apply owns nothing of a status that has a door of its own",
    async (api) => {
      await api.apply(`${services}/s`, { ...service("s"), status: { loadBalancer: {} } }, "one");
      await api.apply(`${deployments}/d`, { ...deployment("d"), status: { replicas: 4 } }, "one");
      await api.get(`${services}/s`);
    },
  ],
  [
    "lists with keys are merged by them",
    async (api) => {
      await api.apply(
        `${services}/s`,
        service("s", {
          ports: [
            { name: "a", port: 80 },
            { name: "b", port: 81, protocol: "UDP" },
          ],
        }),
        "one",
      );
      await api.apply(
        `${services}/s`,
        service("s", {
          ports: [
            { name: "c", port: 82 },
            { name: "a", port: 80 },
          ],
        }),
        "two",
      );
      await api.apply(
        `${services}/s`,
        service("s", {
          ports: [
            { name: "c", port: 82 },
            { name: "x", port: 80 },
          ],
        }),
        "two",
      );
      await api.apply(`${services}/s`, service("s", { ports: [{ name: "a", port: 80 }] }), "one");
      await api.apply(
        `${services}/s`,
        service("s", {
          ports: [
            { name: "a", port: 80 },
            { name: "e", port: 80 },
          ],
        }),
        "one",
      );
      await api.apply(
        `${deployments}/d`,
        deployment(
          "d",
          {},
          {
            env: [
              { name: "A", value: "1" },
              { name: "B", value: "2" },
            ],
            ports: [{ containerPort: 80 }],
          },
        ),
        "one",
      );
      await api.apply(
        `${deployments}/d`,
        deployment(
          "d",
          {},
          {
            env: [
              { name: "B", value: "2" },
              { name: "C", value: "3" },
            ],
            args: ["a"],
          },
        ),
        "two",
      );
      await api.apply(`${deployments}/d`, deployment("d", {}, { env: [] }), "one");
      await api.apply(`${deployments}/d`, deployment("d", {}, { env: [{ value: "1" }] }), "one");
      await api.apply(
        `${maps}/f`,
        configMap("f", {}, { finalizers: ["example.com/a"], labels: { a: "b" } }),
        "one",
      );
      await api.apply(
        `${maps}/f`,
        configMap("f", {}, { finalizers: ["example.com/b"], annotations: { a: "b" } }),
        "two",
      );
      await api.apply(`${maps}/f`, configMap("f"), "one");
      await api.apply(`${maps}/f`, configMap("f"), "two");
    },
  ],
  [
    "who applies first after updates owns with those who updated",
    async (api) => {
      await api.post(`${maps}?fieldManager=maker`, configMap("a", { a: "1" }));
      await api.apply(`${maps}/a`, configMap("a", { a: "2" }), "one");
      await api.put(`${maps}/a?fieldManager=maker`, configMap("a", { a: "3", b: "1" }));
      await api.patch(`${maps}/a`, { metadata: { managedFields: [{}] } });
      await api.apply(`${maps}/a`, configMap("a", { a: "4" }), "one");
      await api.apply(`${maps}/a`, configMap("a", { a: "4" }), "one", "&force=true");
      await api.patch(`${maps}/a`, { metadata: { managedFields: [] } });
      await api.patch(`${maps}/a`, { data: { x: "1" } });
      await api.patch(`${maps}/a`, {
        metadata: {
          managedFields: [
            {
              manager: "m",
              operation: "Update",
              apiVersion: "v1",
              fieldsType: "FieldsV1",
              fieldsV1: { "f:data": {} },
            },
          ],
        },
      });
      await api.patch(`${maps}/a`, {
        metadata: { managedFields: [{ manager: "m", operation: "Jump", apiVersion: "v1" }] },
      });
    },
  ],
  [
    "kubectl takes over what it applied from its own side",
    async (api) => {
      const last = JSON.stringify(configMap("a", { a: "1" }));
      await api.post(
        `${maps}?fieldManager=kubectl-client-side-apply`,
        configMap(
          "a",
          { a: "1" },
          { annotations: { "kubectl.kubernetes.io/last-applied-configuration": last } },
        ),
      );
      await api.apply(`${maps}/a`, configMap("a", { a: "2" }), "kubectl");
      await api.apply(`${maps}/a`, configMap("a", { b: "2" }), "kubectl");
    },
  ],
  [
    "strategic merge patches know keys and directives",
    async (api) => {
      await api.post(
        deployments,
        deployment(
          "d",
          {},
          {
            env: [
              { name: "A", value: "1" },
              { name: "B", value: "2" },
            ],
            ports: [{ containerPort: 80 }, { containerPort: 81 }],
            args: ["a", "b"],
          },
        ),
      );
      const patch = (container: object, more = {}, query = "") =>
        api.patch(
          `${deployments}/d${query}`,
          { spec: { template: { spec: { containers: [{ name: "c", ...container }], ...more } } } },
          "strategic",
        );
      await patch({
        env: [
          { name: "B", value: "3" },
          { name: "C", value: "4" },
        ],
      });
      await patch({ env: [{ name: "A", $patch: "delete" }] });
      await patch({ env: [{ $patch: "replace" }, { name: "D", value: "5" }] });
      await patch({
        "$setElementOrder/env": [{ name: "E" }, { name: "D" }],
        env: [{ name: "E", value: "6" }],
      });
      await patch({ args: ["c"], ports: null });
      await patch(
        {},
        {
          "$setElementOrder/containers": [{ name: "x" }, { name: "c" }],
          volumes: [{ name: "v", emptyDir: {} }],
        },
      );
      // Whether the directive is warned of as an unknown field depends on the order of a Go map.
      await patch(
        {},
        { volumes: [{ name: "v", $retainKeys: ["name", "configMap"], configMap: { name: "m" } }] },
        "?fieldValidation=Ignore",
      );
      await patch({ image: null });
      await api.patch(
        `${deployments}/d`,
        { spec: { template: { spec: { containers: [{ image: "x" }] } } } },
        "strategic",
      );
      await api.patch(
        `${deployments}/d`,
        { spec: { strategy: { $retainKeys: ["type"], type: "Recreate" } } },
        "strategic",
      );
      await api.patch(
        `${deployments}/d`,
        { spec: { strategy: { $retainKeys: ["type"], type: "RollingUpdate", rollingUpdate: {} } } },
        "strategic",
      );
      await api.patch(
        `${deployments}/d`,
        { metadata: { labels: { $patch: "replace", only: "this" } } },
        "strategic",
      );
      await api.patch(
        `${deployments}/d`,
        { spec: { template: { spec: { nodeSelector: { a: "b" } } } } },
        "strategic",
      );
      await api.patch(
        `${deployments}/d`,
        { spec: { template: { spec: { nodeSelector: null } } } },
        "strategic",
      );
      await api.patch(`${maps}/none`, { data: {} }, "strategic");
      await api.post(maps, configMap("f", {}, { finalizers: ["example.com/a", "example.com/b"] }));
      await api.patch(`${maps}/f`, { metadata: { finalizers: ["example.com/c"] } }, "strategic");
      await api.patch(
        `${maps}/f`,
        {
          metadata: {
            "$deleteFromPrimitiveList/finalizers": ["example.com/a", "example.com/b", "example.com/c"],
          },
        },
        "strategic",
      );
    },
  ],
  [
    "JSON patches are operations in order, all or none",
    async (api) => {
      await api.post(maps, configMap("a", { a: "1", "b/c": "2" }));
      await api.patch(
        `${maps}/a`,
        [
          { op: "add", path: "/data/x", value: "1" },
          { op: "replace", path: "/data/a", value: "2" },
          { op: "copy", from: "/data/a", path: "/data/copy" },
          { op: "move", from: "/data/b~1c", path: "/data/moved" },
          { op: "test", path: "/data/copy", value: "2" },
          { op: "remove", path: "/data/x" },
        ],
        "json",
      );
      await api.patch(
        `${maps}/a`,
        [
          { op: "add", path: "/data/z", value: "1" },
          { op: "test", path: "/data/z", value: "2" },
        ],
        "json",
      );
      await api.patch(
        `${maps}/a`,
        [
          { op: "add", path: "/metadata/labels", value: {} },
          { op: "add", path: "/metadata/labels/a", value: "b" },
        ],
        "json",
      );
      await api.patch(`${maps}/a`, [{ op: "remove", path: "/data" }], "json");
      await api.patch(
        `${maps}/a`,
        [{ op: "replace", path: "", value: configMap("a", { all: "new" }) }],
        "json",
      );
    },
  ],
  [
    "merge patches replace lists and remove what is null",
    async (api) => {
      await api.post(deployments, deployment("d", {}, { env: [{ name: "A", value: "1" }] }));
      await api.patch(`${deployments}/d`, {
        spec: { template: { spec: { containers: [{ name: "c", image: "example.com/d:1" }] } } },
      });
      await api.patch(`${deployments}/d`, { spec: { template: { spec: { containers: [] } } } });
      await api.patch(`${deployments}/d`, {
        metadata: { labels: { a: "b" } },
        spec: { replicas: null, strategy: null },
      });
      await api.patch(`${deployments}/d`, { metadata: { labels: null } });
      await api.patch(`${deployments}/d`, { metadata: null });
      await api.patch(`${deployments}/d`, { spec: null });
    },
  ],
];

suite("patches", import.meta.filename, scenarios);
