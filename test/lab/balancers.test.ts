/**
 * Services of type LoadBalancer as a person meets them: an address in `kubectl get svc`, a URL in `weft status`, and
 * answers at that URL whatever is started again behind it.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { askLab } from "../../src/lab/client.ts";
import type { LabStatus } from "../../src/lab/index.ts";
import { LabState } from "../../src/lab/state.ts";
import { eventually } from "../support/eventually.ts";
import { type Lab, labUnavailable, startLab, tableRows } from "../support/lab.ts";

const reason = labUnavailable("lab");
if (reason) console.log(`skipped: load balancers: ${reason}`);

const app = (name: string, more: object = {}) =>
  JSON.stringify({
    apiVersion: "v1",
    kind: "List",
    items: [
      {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name },
        spec: {
          selector: { matchLabels: { app: name } },
          template: {
            metadata: { labels: { app: name } },
            spec: {
              terminationGracePeriodSeconds: 1,
              containers: [
                {
                  name: "web",
                  image: "jeremyot/serve:0a40de8",
                  args: [`--message=${name} at {{env "NODE_NAME"}}`],
                  env: [{ name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } }],
                  readinessProbe: { tcpSocket: { port: 8080 } },
                },
              ],
            },
          },
        },
      },
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name },
        spec: {
          type: "LoadBalancer",
          selector: { app: name },
          ports: [{ name: "http", port: 80, targetPort: 8080 }],
          ...more,
        },
      },
    ],
  });

describe("load balancers", { skip: reason, timeout: 240_000 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await startLab(["c1", "c2"], "--nodes", "2");
  });
  after(() => lab?.down());

  const status = async () => JSON.parse(await lab.weft("status", "-o", "json")) as LabStatus;
  const urlOf = (name: string, cluster = "c1") =>
    eventually(`${name} has a URL`, async () => {
      const { balancers } = await status();
      return balancers.find((each) => each.name === name && each.cluster === cluster)?.url;
    });
  const ask = async (url: string) => (await fetch(url, { signal: AbortSignal.timeout(5_000) })).text();
  const apply = async (cluster: string, name: string, more: object = {}) => {
    const { status, stderr } = await lab.tryKubectl(cluster, ["apply", "-f", "-"], app(name, more));
    assert.equal(status, 0, stderr);
    await lab.kubectl(cluster, "rollout", "status", `deployment/${name}`);
  };
  const kill = (process: string) => askLab(new LabState(`${lab.home}/lab`), { do: "kill", process });

  test("get an address, which kubectl shows and pods of every cluster reach, and a URL for this machine", async () => {
    await apply("c1", "web");
    const url = await urlOf("web");
    assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/);
    assert.match(await ask(url), /^web at c1-/);
    const [row] = tableRows(await lab.kubectl("c1", "get", "service", "web"));
    assert.equal(row!["EXTERNAL-IP"], "172.19.0.1");
    const printed = await lab.weft("status");
    assert.match(printed, /CLUSTER +NAMESPACE +LOAD BALANCER +ADDRESS +PORT +URL/);
    assert.ok(printed.includes(url), printed);
    for (const cluster of ["c1", "c2"]) {
      const pod = [
        "run",
        "asks",
        "--image=curlimages/curl",
        "--restart=Never",
        "--attach",
        "--rm",
        "--quiet",
      ];
      const said = await lab.kubectl(cluster, ...pod, "--", "-sS", "-m", "5", "http://172.19.0.1/");
      assert.match(said, /^web at c1-/);
    }
  });

  test("answer at once: a connection costs a few milliseconds", async () => {
    const url = await urlOf("web");
    const times: number[] = [];
    for (let i = 0; i < 50; i++) {
      const begun = performance.now();
      const { headers } = await fetch(url, { headers: { connection: "close" } });
      assert.ok(headers);
      times.push(performance.now() - begun);
    }
    times.sort((a, b) => a - b);
    assert.ok(times[25]! < 50, `median ${times[25]} ms`);
  });

  test("are reached at the same URL when pods, nodes' processes, the API server and the relay were started again", async () => {
    const url = await urlOf("web");
    await lab.kubectl("c1", "delete", "pod", "-l", "app=web", "--wait=false");
    await eventually("another pod answers", async () => (await ask(url)).startsWith("web at"));
    for (const process of ["c1-control-plane", "c1", "relay"]) {
      await kill(process);
      await eventually(`${url} answers after ${process} was killed`, async () =>
        (await ask(url)).startsWith("web at"),
      );
    }
    await eventually("the API server is back", () => lab.kubectl("c1", "get", "service", "web"));
    assert.equal(await urlOf("web"), url);
    await apply("c1", "later");
    assert.match(await ask(await urlOf("later")), /^later at/);
    const [row] = tableRows(await lab.kubectl("c1", "get", "service", "later"));
    assert.equal(row!["EXTERNAL-IP"], "172.19.0.2");
  });

  test("lead to nodes with endpoints of their own where the Service wants that", async () => {
    await apply("c2", "local", { externalTrafficPolicy: "Local" });
    const url = await urlOf("local", "c2");
    const where = (await ask(url)).trim();
    const [, node] = /^local at (\S+)/.exec(where)!;
    await lab.kubectl("c2", "cordon", node!);
    await lab.kubectl("c2", "delete", "pod", "-l", "app=local");
    await lab.kubectl("c2", "rollout", "status", "deployment/local");
    const now = await eventually("the other node answers", async () => await ask(url));
    assert.doesNotMatch(now, new RegExp(node!));
  });

  test("lose their address and their URL when they are no more", async () => {
    const url = await urlOf("later");
    await lab.kubectl("c1", "patch", "service", "later", "-p", '{"spec":{"type":"ClusterIP"}}');
    await eventually("the status has no address", async () => {
      const service = JSON.parse(await lab.kubectl("c1", "get", "service", "later", "-o", "json"));
      return service.status.loadBalancer.ingress === undefined;
    });
    await eventually(
      "the URL is gone",
      async () => !(await status()).balancers.some(({ name }) => name === "later"),
    );
    await assert.rejects(ask(url));
  });

  test("have the same URL in a lab that was kept", async () => {
    const url = await urlOf("web");
    await lab.weft("down", "--keep");
    await assert.rejects(ask(url));
    await lab.weft("up");
    await eventually("it answers again", async () => (await ask(url)).startsWith("web at"));
  });
});
