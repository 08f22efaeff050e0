/**
 * The mesh's discovery is away: what runs goes on with what it has, and what is new waits. Nothing fails open: a pod
 * without its sidecar is not started.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable } from "../../support/lab.ts";
import {
  call,
  callMany,
  callUntil,
  cluster,
  deployCoolapp,
  file,
  gatewayUrl,
  inCoolapp,
  podOf,
  podRows,
  proxy,
  readAnswer,
  rolledOut,
  startMeshLab,
} from "./coolapp.ts";

const reason = labUnavailable();
if (reason) console.log(`skipped: seed 002 without discovery: ${reason}`);

describe(`seed 002: discovery is away, with the ${proxy} proxy`, { skip: reason, timeout: 300_000 }, () => {
  let lab: Lab;
  let url = "";
  const discovery = "istiod-service-mesh-installation";
  const scale = (namespace: string, name: string, replicas: number) =>
    lab.kubectl(cluster, "-n", namespace, "scale", "deployment", name, `--replicas=${replicas}`);
  const podsOf = async (namespace: string, selector: string) =>
    (await lab.kubectl(cluster, "-n", namespace, "get", "pods", "-l", selector, "-o", "name")).trim();

  before(async () => {
    lab = await startMeshLab();
    await deployCoolapp(lab);
    url = await gatewayUrl(lab);
    await callUntil("an answer", url, ({ status }) => status === 200);
    // Who would bring discovery back has to go first.
    await scale("weft-system", "weft", 0);
    await eventually("no control plane", async () => (await podsOf("weft-system", "app=weft")) === "");
    await scale("istio-system", discovery, 0);
    await eventually("no discovery", async () => (await podsOf("istio-system", `app=${discovery}`)) === "");
  });
  after(async () => {
    await lab?.down();
  });

  test("requests are answered as before", async () => {
    const answers = await callMany(url, 200);
    assert.deepEqual(
      answers.filter(({ body }) => !readAnswer(body)).map(({ status, body }) => `${status} ${body}`),
      [],
    );
  });

  test("a new pod is not made: it would have no sidecar", async () => {
    await inCoolapp(lab, "create", "-f", file("catalog-v2/kubernetes/catalog-service-template.yml"));
    await eventually("a refusal", async () => {
      const events = await inCoolapp(lab, "get", "events");
      return /FailedCreate.*catalog-v2.*(webhook|inject)/.test(events);
    });
    assert.ok((await podRows(lab)).every(({ NAME }) => !NAME!.startsWith("catalog-v2-")));
  });

  test("a proxy that is started anew waits, and so does its pod", async () => {
    // The agent ends itself and the kubelet starts it again: its certificate went with the process.
    const pod = (await podRows(lab, "-l", "app=catalog"))[0]!.NAME!;
    await inCoolapp(
      lab,
      "exec",
      pod,
      "-c",
      "catalog",
      "--",
      "curl",
      "-s",
      "-X",
      "POST",
      "localhost:15020/quitquitquit",
    );
    // Envoy goes on for as long as others keep idle connections with it: the pod's grace at most.
    await eventually(
      "1/2",
      async () => (await podRows(lab, "-l", "app=catalog"))[0]!.READY === "1/2",
      60_000,
    );
    const { status, body } = await callUntil("an error", url, ({ status }) => status === 503);
    assert.equal(status, 503, body);
  });

  test("when it is back, all of it goes on", async () => {
    await scale("istio-system", discovery, 1);
    await scale("weft-system", "weft", 1);
    await rolledOut(lab, "catalog-v2");
    await eventually(
      "all of them 2/2",
      async () => {
        const rows = await podRows(lab);
        return rows.length === 4 && rows.every(({ READY }) => READY === "2/2");
      },
      60_000,
    );
    await callUntil("v2", url, ({ body }) => readAnswer(body)?.version === "v2");
    assert.equal((await call(url)).status, 200);
  });

  test("a namespace that leaves the mesh: its pods go on with what they have, also when the mesh is gone", async () => {
    const inSystem = (...args: string[]) => lab.kubectl(cluster, "-n", "istio-system", ...args);
    const partner = async () => {
      const pod = await podOf(lab, "gateway");
      const out = await inCoolapp(
        lab,
        "exec",
        pod,
        "-c",
        "gateway",
        "--",
        "curl",
        "-s",
        "http://partner:8080/",
      );
      assert.match(out, /^partner => catalog v\d from /);
    };
    await inSystem("patch", "smmr", "default", "--type=merge", "-p", '{"spec":{"members":[]}}');
    // The gateway is still of the mesh: that it has lost its route says that discovery knows.
    await eventually(
      "no way in",
      async () => (await call(url, { fresh: true }).catch(() => undefined)) === undefined,
    );
    for (let i = 0; i < 10; i++) await partner();
    await inSystem("apply", "-f", file("service-mesh-roll.yaml"));
    await eventually(
      "a way in",
      async () => (await call(url, { fresh: true }).catch(() => undefined))?.status === 200,
    );
    await inSystem("delete", "smcp", "service-mesh-installation");
    await eventually(
      "no mesh",
      async () => (await inSystem("get", "pods,smmr", "-o", "name")) === "",
      90_000,
    );
    for (let i = 0; i < 10; i++) await partner();
  });
});
