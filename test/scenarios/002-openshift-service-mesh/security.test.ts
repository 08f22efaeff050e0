/**
 * What a mesh is for besides routing, on seed 002's applications: connections between pods are mTLS and refused without
 * it, nobody is let through whom no policy names, callers are limited, and pods are replaced without a request lost.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable } from "../../support/lab.ts";
import {
  type Answer,
  call,
  callUntil,
  cluster,
  deployCoolapp,
  file,
  gatewayUrl,
  inCoolapp,
  podRows,
  proxy,
  readAnswer,
  rolledOut,
  startMeshLab,
} from "./coolapp.ts";

const reason = labUnavailable();
if (reason) console.log(`skipped: security of seed 002 on the lab: ${reason}`);

describe(`seed 002: who may call whom, with the ${proxy} proxy`, { skip: reason, timeout: 300_000 }, () => {
  let lab: Lab;
  let url = "";

  before(async () => {
    lab = await startMeshLab();
    await deployCoolapp(lab);
    url = await gatewayUrl(lab);
    await callUntil("an answer", url, ({ status }) => status === 200);
    // A pod without a proxy, in a namespace that is in no mesh.
    await lab.kubectl(cluster, "create", "ns", "elsewhere");
    await lab.kubectl(
      cluster,
      ...[
        "-n",
        "elsewhere",
        "run",
        "client",
        "--image=curlimages/curl",
        "--command",
        "--",
        "sleep",
        "infinity",
      ],
    );
    await lab.kubectl(
      cluster,
      "-n",
      "elsewhere",
      "wait",
      "--for=condition=Ready",
      "pod/client",
      "--timeout=60s",
    );
  });
  after(async () => {
    await lab?.down();
  });

  /** What a plain client gets from the pod of an application: a status, or `refused`. */
  async function plain(app: string): Promise<string> {
    const row = (await podRows(lab, "-o", "wide", "-l", `app=${app}`))[0]!;
    const { status, stdout } = await lab.tryKubectl(cluster, [
      ...["-n", "elsewhere", "exec", "client", "--"],
      ...["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", `http://${row.IP}:8080/`],
    ]);
    return status === 0 ? stdout.trim() : "refused";
  }

  test("until somebody asks for more, a client without a proxy is served too", async () => {
    assert.equal(await plain("catalog"), "200");
  });

  test("between proxies it is mTLS: the application is told who called", async () => {
    const pod = (await podRows(lab, "-l", "app=catalog"))[0]!.NAME!;
    await callUntil("an answer", url, ({ status }) => status === 200);
    await eventually("metrics that say so", async () => {
      const said = await inCoolapp(
        lab,
        ...["exec", pod, "-c", "catalog", "--"],
        ...["curl", "-s", "http://127.0.0.1:15090/stats/prometheus"],
      );
      if (proxy === "envoy") return /envoy_listener_ssl_handshake\{[^}]*\} [1-9]/.test(said);
      return /istio_requests_total\{[^}]*connection_security_policy="mutual_tls"[^}]*\} [1-9]/.test(said);
    });
  });

  test("strict: the plain client is refused, the applications go on", async () => {
    await inCoolapp(lab, "apply", "-f", file("policies/strict-mtls.yml"));
    await eventually("a refusal", async () => (await plain("catalog")) === "refused");
    for (const app of ["partner", "gateway"]) assert.equal(await plain(app), "refused");
    assert.ok(readAnswer((await call(url)).body));
    // The kubelet's probes go by the agent, so pods stay ready.
    assert.ok((await podRows(lab)).every(({ READY }) => READY === "2/2"));
  });

  test("deny by default: what no policy allows is 403, and the answer says where", async () => {
    await inCoolapp(lab, "apply", "-f", file("policies/deny-by-default.yml"));
    // The policies of the file arrive one after the other: at first partner is not allowed to be called either.
    const { status } = await callUntil(
      "catalog refuses partner",
      url,
      ({ body }) => body === "gateway => 503 partner => 403 RBAC: access denied\n",
    );
    assert.equal(status, 503);
  });

  test("allowed, it is served again", async () => {
    await inCoolapp(lab, "apply", "-f", file("policies/allow-catalog.yml"));
    await callUntil("200", url, ({ status }) => status === 200);
    const posted = await call(url, { method: "POST" });
    assert.equal(posted.status, 403, "the gateway may be read, not written");
    for (const name of ["deny-by-default", "allow-catalog", "strict-mtls"]) {
      await inCoolapp(lab, "delete", "-f", file(`policies/${name}.yml`));
    }
    await eventually("the plain client again", async () => (await plain("catalog")) === "200");
  });

  test("five requests a minute: the next is 429, with the time to wait", async () => {
    await inCoolapp(lab, "apply", "-f", file("policies/rate-limit.yml"));
    const limited = await callUntil("429", url, ({ status }) => status === 429);
    assert.match(String(limited.headers["retry-after"]), /^\d+$/);
    await inCoolapp(lab, "delete", "-f", file("policies/rate-limit.yml"));
    await callUntil("200", url, ({ status }) => status === 200);
  });

  test("pods are replaced under load, and no request is lost", async () => {
    const answers: Answer[] = [];
    const failed: string[] = [];
    let going = true;
    const caller = async () => {
      while (going) {
        try {
          const answer = await call(url);
          answers.push(answer);
          if (answer.status !== 200) failed.push(`${answer.status} ${answer.body}`);
        } catch (error) {
          failed.push((error as Error).message);
        }
      }
    };
    const load = Array.from({ length: 4 }, caller);
    const restarted = ["catalog-v1", "partner-v1", "gateway"];
    await inCoolapp(lab, "rollout", "restart", ...restarted.map((name) => `deployment/${name}`));
    for (const deployment of restarted) await rolledOut(lab, deployment);
    await eventually("the old pods are gone", async () => (await podRows(lab)).length === 3, 60_000);
    going = false;
    await Promise.all(load);
    const pods = new Set(answers.map(({ body }) => readAnswer(body)?.pod));
    assert.ok(pods.size >= 2, "old and new pods have answered");
    assert.deepEqual(failed, [], `of ${answers.length} requests`);
  });
});
