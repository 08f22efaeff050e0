/**
 * Pods of other kinds than seed 002's in its mesh: what ends, what calls while it is starting, what has a sidecar of the
 * old form, and what they reach that is in no mesh. And that none of the proxies needs more than the seed gives it.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable } from "../../support/lab.ts";
import {
  callMany,
  callUntil,
  cluster,
  deployCoolapp,
  gatewayUrl,
  inCoolapp,
  proxy,
  readAnswer,
  startMeshLab,
} from "./coolapp.ts";

const reason = labUnavailable();
if (reason) console.log(`skipped: other workloads in the mesh of seed 002: ${reason}`);

const curl = "curlimages/curl";
const catalog = "docker.io/rhtgptetraining/foundation-catalog-service:1.0.0";
const get = ["-sS", "--fail", "--max-time", "10"];
const inject = { "sidecar.istio.io/inject": "true" };

/** It asks before it starts and when it runs, and ends. */
const job = {
  apiVersion: "batch/v1",
  kind: "Job",
  metadata: { name: "once", namespace: "coolapp" },
  spec: {
    backoffLimit: 0,
    template: {
      metadata: { annotations: inject },
      spec: {
        restartPolicy: "Never",
        initContainers: [{ name: "first", image: curl, args: [...get, "http://catalog:8080/"] }],
        containers: [{ name: "once", image: curl, args: [...get, "http://gateway:8080/"] }],
      },
    },
  },
};

/** Its proxy is one of its containers, and it is asked in every way but the usual one whether it is well. */
const classic = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "classic",
    namespace: "coolapp",
    labels: { app: "classic" },
    annotations: { ...inject, "sidecar.istio.io/nativeSidecar": "false" },
  },
  spec: {
    containers: [
      {
        name: "app",
        image: catalog,
        ports: [{ name: "web", containerPort: 8080 }],
        startupProbe: { httpGet: { path: "/health", port: "web" }, periodSeconds: 1, failureThreshold: 30 },
        readinessProbe: { tcpSocket: { port: "web" }, periodSeconds: 1 },
        livenessProbe: { exec: { command: ["sh", "-c", "true"] }, periodSeconds: 5, timeoutSeconds: 5 },
      },
    ],
  },
};

const plain = [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: "elsewhere" } },
  {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "plain", namespace: "elsewhere", labels: { app: "plain" } },
    spec: { containers: [{ name: "app", image: catalog, ports: [{ containerPort: 8080 }] }] },
  },
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "plain", namespace: "elsewhere" },
    spec: { selector: { app: "plain" }, ports: [{ name: "http", port: 80, targetPort: 8080 }] },
  },
];

describe(`seed 002: other workloads, with the ${proxy} proxy`, { skip: reason, timeout: 300_000 }, () => {
  let lab: Lab;

  before(async () => {
    lab = await startMeshLab();
    await deployCoolapp(lab);
    for (const object of [...plain, classic, job]) await create(object);
  });
  after(async () => {
    await lab?.down();
  });

  async function create(object: object): Promise<void> {
    const { status, stderr } = await lab.tryKubectl(cluster, ["create", "-f", "-"], JSON.stringify(object));
    assert.equal(status, 0, stderr);
  }
  /** In the application's container of the classic pod. */
  const fromClassic = (...command: string[]) =>
    inCoolapp(lab, "exec", "classic", "-c", "app", "--", ...command);

  test("a Job calls the mesh before it starts and when it runs, and ends though it has a sidecar", async () => {
    await inCoolapp(lab, "wait", "--for=condition=Complete", "job/once", "--timeout=60s");
    assert.match(await inCoolapp(lab, "logs", "job/once", "-c", "first"), /^catalog v1 from '/);
    assert.ok(readAnswer(await inCoolapp(lab, "logs", "job/once", "-c", "once")));
  });

  test("a sidecar of the old form: a container like the others, and its pod becomes ready by every kind of probe", async () => {
    await inCoolapp(lab, "wait", "--for=condition=Ready", "pod/classic", "--timeout=60s");
    const containers = await inCoolapp(
      lab,
      ...["get", "pod", "classic", "-o", "jsonpath={.spec.containers[*].name}"],
    );
    assert.deepEqual(containers.split(" ").sort(), ["app", "istio-proxy"]);
    assert.match(await fromClassic("curl", ...get, "http://catalog:8080/"), /^catalog v1 from '/);
  });

  test("what is in no mesh is reached by its name and by its address, and says nothing of a proxy", async () => {
    await lab.kubectl(
      cluster,
      ...["-n", "elsewhere", "wait", "--for=condition=Ready", "pod/plain", "--timeout=60s"],
    );
    const address = await lab.kubectl(
      cluster,
      ...["-n", "elsewhere", "get", "pod", "plain", "-o", "jsonpath={.status.podIP}"],
    );
    for (const url of ["http://plain.elsewhere/", `http://${address}:8080/`]) {
      const answer = await eventually(url, () => fromClassic("curl", ...get, url));
      assert.match(answer, /^catalog v1 from 'plain/);
    }
  });

  test("the API server is reached as before", async () => {
    const files = "/var/run/secrets/kubernetes.io/serviceaccount";
    const ask = `curl ${get.join(" ")} --cacert ${files}/ca.crt -H "authorization: Bearer $(cat ${files}/token)"`;
    const said = await fromClassic("sh", "-c", `${ask} https://kubernetes.default.svc/version`);
    assert.match((JSON.parse(said) as { gitVersion: string }).gitVersion, /^v1\./);
  });

  test("after 1,000 requests nobody was restarted: the proxies live within the seed's 128Mi", async () => {
    const url = await gatewayUrl(lab);
    await callUntil("an answer", url, ({ status }) => status === 200);
    for (const answer of await callMany(url, 1000)) assert.equal(answer.status, 200, answer.body);
    const pods = JSON.parse(await lab.kubectl(cluster, "get", "pods", "-A", "-o", "json")) as {
      items: { metadata: { name: string }; spec: Containers; status: Statuses }[];
    };
    const proxies = pods.items.flatMap(({ spec, status, metadata }) => {
      const containers = [...(spec.initContainers ?? []), ...spec.containers];
      const statuses = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
      for (const { name, restartCount } of statuses)
        assert.equal(restartCount, 0, `${metadata.name} ${name}`);
      return containers.filter(({ name }) => name === "istio-proxy");
    });
    assert.equal(proxies.length, 7, "two gateways, three applications, the Job and the classic pod");
    for (const { resources } of proxies) assert.equal(resources?.limits?.memory, "128Mi");
  });
});

interface Containers {
  initContainers?: { name: string; resources?: { limits?: Record<string, string> } }[];
  containers: { name: string; resources?: { limits?: Record<string, string> } }[];
}
interface Statuses {
  initContainerStatuses?: { name: string; restartCount: number }[];
  containerStatuses?: { name: string; restartCount: number }[];
}
