import assert from "node:assert/strict";
import { test } from "node:test";
import type { KubeRequest } from "../kube/index.ts";
import { KubeClient } from "../kube/index.ts";
import { SimulatedWorld } from "../world/index.ts";
import { proxyPod } from "./proxy-pod.ts";

test("a proxy is named by its pod, or by the workload that it is of", async () => {
  const pod = (name: string, phase: string) => ({
    metadata: { name, namespace: "default" },
    status: { phase },
  });
  const answers: Record<string, object> = {
    "/apis/apps/v1/namespaces/default/deployments/web": {
      metadata: { name: "web" },
      spec: { selector: { matchLabels: { app: "web" } } },
    },
    "/api/v1/namespaces/default/pods": {
      metadata: {},
      items: [pod("web-1", "Pending"), pod("web-2", "Running")],
    },
  };
  const selectors = new Set<string>();
  const transport = async ({ path }: KubeRequest) => {
    const url = new URL(path, "http://api");
    const selector = url.searchParams.get("labelSelector");
    if (selector) selectors.add(selector);
    const found = answers[url.pathname];
    const body = JSON.stringify(found ?? { kind: "Status", code: 404, reason: "NotFound" });
    return {
      status: found ? 200 : 404,
      headers: {},
      body: (async function* () {
        yield Buffer.from(body);
      })(),
    };
  };
  const client = new KubeClient({ transport, world: new SimulatedWorld(1), cluster: "c1" });
  const named = (asked: string, namespace = "default") => proxyPod(client, asked, namespace);
  assert.equal(await named("web-1"), "web-1.default");
  assert.equal(await named("web-1.shop"), "web-1.shop");
  assert.equal(await named("pod/web-1"), "web-1.default");
  assert.equal(await named("deploy/web"), "web-2.default");
  assert.equal(await named("deployment/web.default", "elsewhere"), "web-2.default");
  assert.deepEqual([...selectors], ["app=web"]);
  await assert.rejects(named("deploy/nobody"), /no discovery has a connected proxy 'deploy\/nobody'/);
  await assert.rejects(named("cronjob/web"), /'cronjob\/web'/);
});
