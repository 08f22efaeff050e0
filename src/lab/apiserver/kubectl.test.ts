/** The real kubectl is the judge: what a person types, and what they read. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../../test/support/eventually.ts";
import { listeningServer } from "./testing/listening.ts";

let cluster: Awaited<ReturnType<typeof listeningServer>>;
let environment: NodeJS.ProcessEnv;

function start(args: readonly string[], input?: string): ChildProcess {
  const child = spawn("kubectl", args, { env: environment, stdio: ["pipe", "pipe", "pipe"] });
  child.stdin!.end(input);
  return child;
}

/** Runs kubectl with words or one line; answers with both outputs together. */
async function kubectl(
  line: string | readonly string[],
  input?: string,
): Promise<{ code: number; said: string }> {
  const child = start(typeof line === "string" ? line.split(" ") : line, input);
  let said = "";
  child.stdout!.on("data", (chunk: Buffer) => (said += chunk.toString()));
  child.stderr!.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(child, "close")) as [number];
  return { code, said };
}

/** Runs kubectl and expects it to succeed with exactly these words. */
async function says(
  line: string | readonly string[],
  expected: string | RegExp,
  input?: string,
): Promise<void> {
  const { code, said } = await kubectl(line, input);
  if (typeof expected === "string") assert.equal(said, `${expected}\n`);
  else assert.match(said, expected);
  assert.equal(code, 0, said);
}

/** Runs kubectl and expects a refusal. */
async function refuses(line: string | readonly string[], expected: RegExp, input?: string): Promise<void> {
  const { code, said } = await kubectl(line, input);
  assert.match(said, expected);
  assert.notEqual(code, 0, said);
}

before(async () => {
  cluster = await listeningServer();
  const home = join(cluster.folder, "home");
  mkdirSync(home);
  environment = { PATH: process.env.PATH, HOME: home, KUBECONFIG: cluster.kubeconfig() };
});

after(async () => {
  assert.deepEqual(cluster.bugs, []);
  await cluster[Symbol.asyncDispose]();
});

const deployment = (replicas: number, more = "") => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo, labels: {app: web}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1"${more}}
`;

describe("kubectl", () => {
  test("creates every kind that it has a command for", async () => {
    await says("create ns demo", "namespace/demo created");
    await says("create sa default -n demo", "serviceaccount/default created");
    await says("create configmap c -n demo --from-literal=x=1", "configmap/c created");
    await says("create secret generic s -n demo --from-literal=password=secret", "secret/s created");
    await says("create deployment d --image=nginx --replicas=2 -n demo", "deployment.apps/d created");
    await says("create job j --image=busybox -n demo", "job.batch/j created");
    await says(
      "create role r --verb=get --resource=pods -n demo",
      "role.rbac.authorization.k8s.io/r created",
    );
    await says(
      "create rolebinding b --role=r --user=bob -n demo",
      "rolebinding.rbac.authorization.k8s.io/b created",
    );
    await says(
      "create clusterrole cr --verb=list --resource=nodes",
      "clusterrole.rbac.authorization.k8s.io/cr created",
    );
    await says(
      "create clusterrolebinding crb --clusterrole=cr --user=bob",
      "clusterrolebinding.rbac.authorization.k8s.io/crb created",
    );
    await says("create service clusterip svc --tcp=80:8080 -n demo", "service/svc created");
    await says("expose deployment d --port=80 -n demo", "service/d exposed");
    await says("run p --image=nginx -n demo", "pod/p created");
    await says("create priorityclass high --value=1000", "priorityclass.scheduling.k8s.io/high created");
    await says(
      "create quota q --hard=pods=5 -n demo",
      "Warning: a ResourceQuota is stored but not enforced by this API server\nresourcequota/q created",
    );
    await says(
      "create poddisruptionbudget pdb --selector=app=d --min-available=1 -n demo",
      "poddisruptionbudget.policy/pdb created",
    );
    await says("create ingress i --rule=a.example/x=svc:80 -n demo", "ingress.networking.k8s.io/i created");
  });

  test("shows objects in every form", async () => {
    await says("get ns", /^NAME +STATUS +AGE\ndefault +Active +[0-9]+s\n/);
    await says("get pods -n demo", /^NAME +READY +STATUS +RESTARTS +AGE\np +0\/1 +Pending +0 +[0-9]+s\n$/);
    await says("get pods -n demo -o wide", /NODE +NOMINATED NODE +READINESS GATES\n/);
    await says("get po,svc,deploy,rs -n demo", /pod\/p .*service\/d .*deployment\.apps\/d +0\/2/s);
    await says("get all -A", /NAMESPACE +NAME +/);
    await says("get deploy d -n demo -o jsonpath={.spec.replicas}", /^2$/);
    await says("get cm c -n demo -o go-template={{.data.x}}", /^1$/);
    await says("get cm -n demo -o name", "configmap/c");
    await says("get cm -n demo -o custom-columns=N:.metadata.name,X:.data.x", /^N +X\nc +1\n$/);
    await says("get deploy d -n demo -o yaml", /^apiVersion: apps\/v1\nkind: Deployment\n/);
    await says("get deploy d -n demo -o json", /"kind": "Deployment"/);
    await says("get deploy d -n demo -o yaml --show-managed-fields", /manager: kubectl-create/);
    await says("get deploy -n demo -l app=d --show-labels", /app=d\n$/);
    await says("get deploy -n demo -l app!=d", "No resources found in demo namespace.");
    await says("get pods -A --field-selector=metadata.name=p -o name", "pod/p");
    await says("get pods -A --sort-by=.metadata.name", /^NAMESPACE +NAME/);
    await says("get endpointslices -A", /default +kubernetes +IPv4 +6443 +172\.18\.0\.1/);
    await says("get svc -n demo --chunk-size=1 -o name", "service/d\nservice/svc");
    await says("get --raw /version", /"gitVersion":"v1\.36\./);
    await says("get events -n demo", "No resources found in demo namespace.");
  });

  test("describes, explains and lists what there is", async () => {
    await says("describe deployment d -n demo", /^Name: +d\nNamespace: +demo\n.*Replicas: +2 desired/s);
    await says("describe pod p -n demo", /^Name: +p\n.*Service Account: +default\n/s);
    await says("describe svc kubernetes", /IP: +10\.11\.0\.1\n.*Endpoints: +172\.18\.0\.1:6443\n/s);
    await says(
      "explain deployment.spec.replicas",
      /KIND: +Deployment\nVERSION: +v1\n\nFIELD: replicas <integer>/,
    );
    await says("explain pods --recursive", /containers\t<\[\]Container> -required-/);
    await says("api-resources --namespaced=false", /^nodes +no +v1 +false +Node$/m);
    await says("api-versions", /^apps\/v1$/m);
    await says("version", /Server Version: v1\.36\./);
    await says("cluster-info", /Kubernetes control plane.* is running at/);
  });

  test("applies on the client's side, and again, and sees the difference", async () => {
    await says("apply -f -", "deployment.apps/web created", deployment(1));
    await says("apply -f -", "deployment.apps/web unchanged", deployment(1));
    const { code, said } = await kubectl("diff -f -", deployment(3));
    assert.equal(code, 1, said);
    assert.match(said, /^- {2}replicas: 1\n\+ {2}replicas: 3$/m);
    await says("apply -f -", "deployment.apps/web configured", deployment(3, ", env: [{name: A, value: b}]"));
    await says("apply -f -", "deployment.apps/web configured", deployment(3));
    await says("get deploy web -n demo -o jsonpath={.spec.template.spec.containers[0].env}", /^$/);
    await says(
      "apply -f - --dry-run=server",
      "deployment.apps/web configured (server dry run)",
      deployment(5),
    );
    await says("get deploy web -n demo -o jsonpath={.spec.replicas}", /^3$/);
  });

  test("applies on the server's side, and meets conflicts", async () => {
    const map = (x: string) =>
      JSON.stringify({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: "ssa", namespace: "demo" },
        data: { x },
      });
    await says("apply --server-side -f -", "configmap/ssa serverside-applied", map("1"));
    await refuses(
      "apply --server-side --field-manager=other -f -",
      /Apply failed with 1 conflict: conflict with "kubectl": \.data\.x/,
      map("2"),
    );
    await says(
      "apply --server-side --field-manager=other --force-conflicts -f -",
      "configmap/ssa serverside-applied",
      map("2"),
    );
    await says("get cm ssa -n demo -o jsonpath={.data.x}", /^2$/);
  });

  test("changes objects", async () => {
    await says("scale deploy/d --replicas=4 -n demo", "deployment.apps/d scaled");
    await says("label cm c -n demo a=b", "configmap/c labeled");
    await says("annotate cm c -n demo note=hello", "configmap/c annotated");
    await says(["patch", "cm", "c", "-n", "demo", "-p", '{"data":{"y":"2"}}'], "configmap/c patched");
    await says(
      ["patch", "cm", "c", "-n", "demo", "--type=json", "-p", '[{"op":"remove","path":"/data/y"}]'],
      "configmap/c patched",
    );
    await says("set image deploy/d nginx=nginx:2 -n demo", "deployment.apps/d image updated");
    await says("set env deploy/d A=b -n demo", "deployment.apps/d env updated");
    await says("rollout pause deploy/d -n demo", "deployment.apps/d paused");
    await says("rollout restart deploy/web -n demo", "deployment.apps/web restarted");
    await says(
      "replace -f -",
      "configmap/c replaced",
      JSON.stringify({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: "c", namespace: "demo" },
        data: { z: "1" },
      }),
    );
    environment.KUBE_EDITOR = `sed -i s/z:/q:/`;
    await says("edit cm c -n demo", "configmap/c edited");
    await says("get cm c -n demo -o jsonpath={.data}", /^\{"q":"1"\}$/);
  });

  test("is told what is wrong, with the field's path", async () => {
    await refuses("get pods nope -n demo", /^Error from server \(NotFound\): pods "nope" not found\n$/);
    await refuses(
      "create ns demo",
      /^Error from server \(AlreadyExists\): namespaces "demo" already exists\n$/,
    );
    await refuses("get gadgets", /the server doesn't have a resource type "gadgets"/);
    await refuses(
      "apply -f -",
      /Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec\.replcas"/,
      deployment(1).replace("replicas:", "replcas:").replace("name: web", "name: new"),
    );
    await refuses(
      "apply -f -",
      /The request is invalid: patch: Invalid value: .*: strict decoding error: unknown field "spec\.replcas"/,
      deployment(1).replace("replicas:", "replcas:"),
    );
    await refuses(
      "create -f -",
      /cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec\.spec\.replicas of type int32/,
      deployment(1).replace("replicas: 1", "replicas: many").replace("name: web", "name: new"),
    );
    await refuses(
      "apply -f -",
      /The Deployment "web" is invalid: spec\.replicas: Invalid value: -1: must be greater than or equal to 0/,
      deployment(-1),
    );
    await refuses("create cm x -n nowhere", /namespaces "nowhere" not found/);
    await cluster.client.patch("/api/v1/namespaces/demo/pods/p/status", { status: { phase: "Running" } });
    await refuses("port-forward -n demo pod/p :80", /pod p does not have a host assigned/);
    await refuses("exec -n demo p -- ls", /pod p does not have a host assigned/);
    await refuses("logs -n demo p", /pod p does not have a host assigned/);
  });

  test("asks who it is and what it may", async () => {
    await says("auth can-i create deployments -n demo", "yes");
    await refuses("auth can-i create deployments -n demo --as bob", /^no\n$/);
    await says("auth can-i get pods -n demo --as bob", "yes");
    await says("auth whoami -o jsonpath={.status.userInfo.username}", /^kubernetes-admin$/);
    await refuses(
      "get secrets -n demo --as bob",
      /Error from server \(Forbidden\): secrets is forbidden: User "bob" cannot list resource "secrets" in API group "" in the namespace "demo"/,
    );
    await says("create token default -n demo", /^eyJ/);
    await says(
      ["auth", "reconcile", "-f", "-"],
      /role\.rbac\.authorization\.k8s\.io\/r reconciled/,
      JSON.stringify({
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "Role",
        metadata: { name: "r", namespace: "demo" },
        rules: [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list"] }],
      }),
    );
  });

  test("is told which kind is not served", async () => {
    await refuses(
      "autoscale deployment d -n demo --max=3",
      /horizontalpodautoscalers\.autoscaling\/v\d is not served here/,
    );
    await refuses(
      ["create", "cronjob", "c", "--image=busybox", "--schedule=* * * * *"],
      /cronjobs\.batch\/v1 is not served here/,
    );
  });

  test("makes kinds of its own and uses them", async () => {
    const crd = JSON.stringify({
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: "widgets.example.com" },
      spec: {
        group: "example.com",
        scope: "Namespaced",
        names: { plural: "widgets", kind: "Widget", shortNames: ["wd"], categories: ["all"] },
        versions: [
          {
            name: "v1",
            served: true,
            storage: true,
            subresources: { status: {} },
            additionalPrinterColumns: [{ name: "Size", type: "integer", jsonPath: ".spec.size" }],
            schema: {
              openAPIV3Schema: {
                type: "object",
                description: "A widget.",
                properties: {
                  spec: {
                    type: "object",
                    properties: { size: { type: "integer", description: "How big." } },
                  },
                },
              },
            },
          },
        ],
      },
    });
    const widget = (field: string) =>
      JSON.stringify({
        apiVersion: "example.com/v1",
        kind: "Widget",
        metadata: { name: "w", namespace: "demo" },
        spec: { [field]: 3 },
      });
    await says(
      "apply -f -",
      "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created",
      crd,
    );
    await says(
      "wait --for=condition=Established crd/widgets.example.com --timeout=10s",
      "customresourcedefinition.apiextensions.k8s.io/widgets.example.com condition met",
    );
    await says("apply -f -", "widget.example.com/w created", widget("size"));
    await refuses("apply -f -", /strict decoding error: unknown field "spec\.sise"/, widget("sise"));
    await says("get wd -n demo", "NAME   SIZE\nw      3");
    await says("get all -n demo", /widget\.example\.com\/w +3/);
    await says("explain widget.spec.size", /FIELD: size <integer>\n\n\nDESCRIPTION:\n +How big\./);
    await says(
      ["patch", "wd", "w", "-n", "demo", "--subresource=status", "--type=merge", "-p", '{"spec":{"size":9}}'],
      /^widget\.example\.com\/w patched \(no change\)/,
    );
    await says(
      "delete crd widgets.example.com",
      'customresourcedefinition.apiextensions.k8s.io "widgets.example.com" deleted',
    );
    await refuses(
      "get wd -n demo",
      /the server (doesn't have a resource type|could not find the requested resource)/,
    );
  });

  test("watches and waits", async () => {
    const watching = start("get cm -n demo -w --output-watch-events -l watched=yes".split(" "));
    const lines = createInterface({ input: watching.stdout! });
    const seen: string[] = [];
    const done = (async () => {
      for await (const line of lines) {
        seen.push(line.replace(/ +/g, " "));
        if (line.startsWith("DELETED")) watching.kill();
      }
    })();
    // kubectl lists, then watches: writes until the first of them has been seen.
    await eventually("kubectl has seen one", async () => {
      await cluster.client.delete("/api/v1/namespaces/demo/configmaps/seen");
      await cluster.client.post("/api/v1/namespaces/demo/configmaps", {
        metadata: { name: "seen", labels: { watched: "yes" } },
      });
      return seen.length >= 2;
    });
    await cluster.client.delete("/api/v1/namespaces/demo/configmaps/seen");
    await done;
    assert.match(seen[0]!, /^EVENT NAME DATA AGE$/);
    assert.match(seen[1]!, /^ADDED seen 0 [0-9]+s$/);
    const waiting = kubectl("wait --for=delete cm/c -n demo --timeout=20s");
    await says("delete cm c -n demo", 'configmap "c" deleted');
    assert.equal((await waiting).code, 0);
    const failing = kubectl([
      "wait",
      "--for=jsonpath={.status.phase}=Failed",
      "pod/p",
      "-n",
      "demo",
      "--timeout=20s",
    ]);
    await cluster.client.patch("/api/v1/namespaces/demo/pods/p/status", { status: { phase: "Failed" } });
    assert.equal((await failing).said, "pod/p condition met\n");
  });

  test("deletes", async () => {
    await says("delete pod p -n demo", 'pod "p" deleted');
    await says(
      "delete deploy d web -n demo --cascade=background",
      /deployment\.apps "d" deleted\ndeployment\.apps "web" deleted/,
    );
    await says("delete svc --all -n demo", 'service "d" deleted\nservice "svc" deleted');
    await refuses("delete ns default", /this namespace may not be deleted/);
    await says("delete ns demo --wait=false", 'namespace "demo" deleted');
    await says("get ns demo -o jsonpath={.status.phase}", /^Terminating$/);
    await refuses("create cm x -n demo", /because it is being terminated/);
  });
});
