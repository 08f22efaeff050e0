/** `kubectl rollout`, `scale`, `wait` and `delete` against the controllers, as a person uses them. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { kubeconfigText } from "../../kube/index.ts";
import { makeClusterPki } from "../pki.ts";
import { defaultCluster } from "../spec.ts";
import { type TestCluster, testCluster } from "./harness.ts";

let cluster: TestCluster;
let folder: string;

before(async () => {
  cluster = await testCluster();
  const spec = defaultCluster("c1", 0);
  spec.nodes[0]!.address = "127.0.0.1";
  const { cluster: pki } = await makeClusterPki(cluster.world, spec);
  const tls = { ...pki.serving, clientCa: pki.ca.cert };
  const { port } = await cluster.server.listen({ host: "127.0.0.1", port: 0, tls });
  folder = mkdtempSync(join(tmpdir(), "weft-kubectl-"));
  const credentials = { server: `https://127.0.0.1:${port}`, ca: pki.ca.cert, ...pki.admin };
  const context = { name: "c1", credentials, namespace: "demo" };
  writeFileSync(join(folder, "kubeconfig"), kubeconfigText([context]));
});

after(async () => {
  await cluster[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** What `kubectl <line>` prints; fails with what it says when it fails. */
function kubectl(line: string): Promise<string> {
  const env = { PATH: process.env.PATH, HOME: folder, KUBECONFIG: join(folder, "kubeconfig") };
  return new Promise((resolve, reject) => {
    execFile("kubectl", line.split(" "), { env, timeout: 20_000 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`kubectl ${line}: ${stdout}${stderr}`));
      else resolve(stdout);
    });
  });
}

test("kubectl rolls a Deployment out, back, on and restarts it", async () => {
  await kubectl("create ns demo");
  await kubectl("create deployment web --image=web:1 --replicas=3");
  assert.match(await kubectl("rollout status deployment/web"), /deployment "web" successfully rolled out\n$/);
  assert.equal(
    await kubectl("wait --for=condition=Available deploy/web"),
    "deployment.apps/web condition met\n",
  );
  await kubectl("set image deployment/web web=web:2");
  await kubectl("annotate deployment/web kubernetes.io/change-cause=second");
  assert.match(await kubectl("rollout status deployment/web"), /successfully rolled out/);
  assert.match(await kubectl("rollout history deployment/web"), /^1 +<none>\n2 +second$/m);
  assert.match(await kubectl("rollout history deployment/web --revision=1"), /Image:\tweb:1/);
  await kubectl("rollout undo deployment/web");
  await kubectl("rollout status deployment/web");
  assert.equal(
    await kubectl("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}"),
    "web:1",
  );
  assert.match(await kubectl("rollout history deployment/web"), /^2 .*\n3 /m);
  const pods = () => kubectl("get pods -l app=web --field-selector=status.phase=Running -o name");
  const before = (await pods()).split("\n");
  await kubectl("rollout restart deployment/web");
  await kubectl("rollout status deployment/web");
  const same = (await pods()).split("\n").filter((name) => name && before.includes(name));
  assert.deepEqual(same, []);
  await kubectl("rollout pause deployment/web");
  await kubectl("set image deployment/web web=web:9");
  await kubectl("rollout resume deployment/web");
  assert.match(await kubectl("rollout status deployment/web"), /successfully rolled out/);
  assert.match(await kubectl("get deploy web -o wide"), /^web +3\/3 +3 +3 +\S+ +web +web:9 +app=web$/m);
  await kubectl("scale deployment/web --replicas=1");
  await kubectl("wait --for=jsonpath={.status.replicas}=1 deploy/web");
  assert.match(
    await kubectl("describe deployment web"),
    /Normal +ScalingReplicaSet .* deployment-controller +Scaled up replica set web-\w+ from 0 to 3/,
  );
});

test("kubectl follows StatefulSets and DaemonSets, and puts old templates back", async () => {
  const spec = (kind: string, more: object) => {
    const labels = { app: kind.toLowerCase() };
    const manifest = {
      apiVersion: "apps/v1",
      kind,
      metadata: { name: labels.app, namespace: "demo" },
      spec: {
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers: [{ name: "c", image: "c:1" }] } },
        ...more,
      },
    };
    const file = join(folder, `${kind}.json`);
    writeFileSync(file, JSON.stringify(manifest));
    return file;
  };
  for (const [kind, more] of [
    ["StatefulSet", { serviceName: "x", replicas: 2 }],
    ["DaemonSet", {}],
  ] as const) {
    const name = `${kind.toLowerCase()}/${kind.toLowerCase()}`;
    await kubectl(`apply -f ${spec(kind, more)}`);
    await kubectl(`rollout status ${name}`);
    await kubectl(`set image ${name} c=c:2`);
    await kubectl(`rollout status ${name}`);
    assert.match(await kubectl(`rollout history ${name}`), /^1 +<none>\n2 +<none>$/m);
    await kubectl(`rollout undo ${name}`);
    await kubectl(`rollout status ${name}`);
    assert.equal(await kubectl(`get ${name} -o jsonpath={.spec.template.spec.containers[0].image}`), "c:1");
    await kubectl(`delete ${name} --wait`);
  }
});

test("kubectl deletes a namespace with all that is in it and waits for its end", async () => {
  await kubectl("create configmap left --from-literal=a=b");
  await kubectl("create job work --image=work");
  await kubectl("delete ns demo --timeout=15s");
  assert.deepEqual(cluster.log, []);
});
