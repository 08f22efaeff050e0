/** kubectl and objects: making, showing, changing, refusing and deleting them. What runs is in workloads.test.ts. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable, startLab, tableRows } from "../../support/lab.ts";
import { type Kubectl, kubectlIn, programs } from "./kubectl.ts";

const reason = labUnavailable();
if (reason) console.log(`skipped: kubectl and objects: ${reason}`);

const manifest = (...objects: object[]) =>
  JSON.stringify(objects.length === 1 ? objects[0] : { apiVersion: "v1", kind: "List", items: objects });
const configMap = (name: string, data: object, more: object = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, ...more },
  data,
});
const widget = (name: string, spec: object) => ({
  apiVersion: "example.com/v1",
  kind: "Widget",
  metadata: { name },
  spec,
});
const widgets = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "widgets.example.com" },
  spec: {
    group: "example.com",
    scope: "Namespaced",
    names: { kind: "Widget", plural: "widgets", singular: "widget", shortNames: ["wd"], categories: ["all"] },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        subresources: {
          status: {},
          scale: { specReplicasPath: ".spec.size", statusReplicasPath: ".status.size" },
        },
        additionalPrinterColumns: [{ name: "Size", type: "integer", jsonPath: ".spec.size" }],
        schema: {
          openAPIV3Schema: {
            type: "object",
            properties: {
              spec: {
                type: "object",
                required: ["size"],
                properties: {
                  size: { type: "integer", minimum: 1, maximum: 10, description: "How big it is." },
                  color: { type: "string", enum: ["red", "blue"] },
                },
                "x-kubernetes-validations": [{ rule: "self.size != 7", message: "seven is taken" }],
              },
              status: { type: "object", properties: { size: { type: "integer" } } },
            },
          },
        },
      },
    ],
  },
};

describe("kubectl and objects", { skip: reason, timeout: 240_000 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await startLab(["c1"]);
  });
  after(async () => {
    await lab?.down();
  });

  for (const [i, program] of programs().entries()) {
    describe(program.name, () => {
      let k: Kubectl;
      const ns = `objects-${i}`;
      before(async () => {
        k = await kubectlIn(lab, program, ns);
      });
      after(async () => {
        await k.run(`delete clusterrole,clusterrolebinding lister-${i}`);
      });
      const asked = async (what: string): Promise<Record<string, string>[]> => tableRows(await k.ok(what));

      test("creates what it has commands for", async () => {
        await k.says(`create namespace made-${i}`, `namespace/made-${i} created`);
        await k.refuses(
          `create namespace made-${i}`,
          new RegExp(`^Error from server \\(AlreadyExists\\): namespaces "made-${i}" already exists`),
        );
        await k.says(
          "create deployment web --image=registry.k8s.io/pause --replicas=0 --port=80",
          "deployment.apps/web created",
        );
        await k.says("create service clusterip web --tcp=80:8080", "service/web created");
        await k.says(`create service nodeport np --tcp=80:8080 --node-port=3008${i}`, "service/np created");
        await k.says("create configmap conf --from-literal=a=b --from-literal=c=d", "configmap/conf created");
        await k.says("create secret generic pass --from-literal=word=hunter2", "secret/pass created");
        await k.refuses("create secret tls t --cert=/nonexistent --key=/nonexistent", /no such file/);
        await k.says("create serviceaccount robot", "serviceaccount/robot created");
        await k.says(
          "create role reader --verb=get,list --resource=pods,pods/log",
          "role.rbac.authorization.k8s.io/reader created",
        );
        await k.says(
          `create rolebinding reader --role=reader --serviceaccount=${ns}:robot`,
          "rolebinding.rbac.authorization.k8s.io/reader created",
        );
        await k.says(
          `create clusterrole lister-${i} --verb=list --resource=nodes`,
          `clusterrole.rbac.authorization.k8s.io/lister-${i} created`,
        );
        await k.says(
          `create clusterrolebinding lister-${i} --clusterrole=lister-${i} --user=joe`,
          `clusterrolebinding.rbac.authorization.k8s.io/lister-${i} created`,
        );
        await k.says("create job once --image=busybox -- true", "job.batch/once created");
        assert.match(await k.ok("create token robot --duration=10m"), /^ey[\w-]+\.ey[\w-]+\.[\w-]+$/);
        await k.refuses(
          "create token nobody",
          /^error: failed to create token: serviceaccounts "nobody" not found/,
        );
        await k.says("expose deployment web --port=80 --name=exposed", "service/exposed exposed");
        await k.refuses(
          "create deployment web --image=x -n nowhere",
          /\(NotFound\): namespaces "nowhere" not found|failed to create deployment: namespaces "nowhere" not found/,
        );
      });

      test("shows them with the columns of Kubernetes", async () => {
        const [services] = [await asked("get svc -o wide --show-labels")];
        const np = services.find(({ NAME }) => NAME === "np")!;
        assert.equal(np.TYPE, "NodePort");
        assert.match(np["CLUSTER-IP"]!, /^10\.11\./);
        assert.equal(np["EXTERNAL-IP"], "<none>");
        assert.equal(np["PORT(S)"], `80:3008${i}/TCP`);
        assert.equal(np.SELECTOR, "app=np");
        assert.equal(np.LABELS, "app=np");
        const [web] = await asked("get deployment web -o wide");
        assert.deepEqual(
          [web!.READY, web!["UP-TO-DATE"], web!.AVAILABLE, web!.CONTAINERS, web!.IMAGES, web!.SELECTOR],
          ["0/0", "0", "0", "pause", "registry.k8s.io/pause", "app=web"],
        );
        assert.deepEqual(Object.keys(web!).slice(0, 5), ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]);
        const [secret] = await asked("get secret");
        assert.deepEqual([secret!.NAME, secret!.TYPE, secret!.DATA], ["pass", "Opaque", "1"]);
        const all = await k.ok("get all");
        for (const line of [
          /^service\/np /m,
          /^deployment\.apps\/web /m,
          /^replicaset\.apps\/web-/m,
          /^job\.batch\/once /m,
        ]) {
          assert.match(all, line);
        }
        const [node] = await asked("get nodes -o wide");
        assert.deepEqual(
          [node!.NAME, node!.STATUS, node!.ROLES, node!["INTERNAL-IP"]],
          ["c1-control-plane", "Ready", "control-plane", "172.18.0.2"],
        );
        assert.match(await k.ok("get configmaps -A"), new RegExp(`^${ns} +conf +2 `, "m"));
        await k.says("get pods -n nowhere", "No resources found in nowhere namespace.");
        await k.refuses("get nosuch", /^error: the server doesn't have a resource type "nosuch"/);
        await k.refuses("get service nosuch", /^Error from server \(NotFound\): services "nosuch" not found/);
      });

      test("shows them in every form of output", async () => {
        await k.says("get svc np -o name", "service/np");
        await k.says("get cm conf -o jsonpath={.data.a}", "b");
        await k.says("get cm conf -o go-template={{.data.c}}", "d");
        await k.says("get cm conf -o custom-columns=N:.metadata.name,A:.data.a", "N      A\nconf   b");
        assert.equal(JSON.parse(await k.ok("get cm conf -o json")).data.a, "b");
        await k.says("get cm conf -o yaml", /^apiVersion: v1\ndata:\n {2}a: b\n {2}c: d\nkind: ConfigMap\n/);
        await k.says("get svc -l app=np -o name", "service/np");
        await k.says("get svc -l 'app in (np,web)' -o name", "service/exposed\nservice/np\nservice/web");
        await k.says("get svc --field-selector metadata.name=web -o name", "service/web");
        await k.refuses("get pods --field-selector nosuch=x", /field label not supported: nosuch/);
        await k.refuses("get pods -l 'app=('", /unable to parse requirement/);
        const sorted = await asked("get svc --sort-by=.spec.ports[0].nodePort");
        assert.equal(sorted.at(-1)!.NAME, "np");
        await k.says("get --raw /healthz", "ok");
        await k.refuses("get --raw /nosuch", /NotFound/);
      });

      test("watches what changes", async () => {
        const [program, ...words] = k.words;
        const watching = spawn(
          program!,
          [...words, "get", "cm", "-l", "seen=yes", "-w", "--output-watch-events", "--no-headers"],
          { env: k.env, stdio: ["ignore", "pipe", "inherit"] },
        );
        let said = "";
        watching.stdout.on("data", (chunk: Buffer) => {
          said += chunk.toString();
        });
        await k.ok("create -f -", manifest(configMap("seen", { a: "1" }, { labels: { seen: "yes" } })));
        await eventually("the first event", () => said.includes("ADDED"));
        await k.ok(`patch cm seen --type=merge -p {"data":{"b":"2"}}`);
        await k.ok("delete cm seen");
        await eventually("three events", () => said.includes("DELETED"));
        watching.kill();
        await once(watching, "close");
        assert.deepEqual(
          said
            .trimEnd()
            .split("\n")
            .map((line) => line.split(/ +/).slice(0, 3)),
          [
            ["ADDED", "seen", "1"],
            ["MODIFIED", "seen", "2"],
            ["DELETED", "seen", "2"],
          ],
        );
      });

      test("describes them", async () => {
        const service = await k.ok("describe service np");
        for (const line of [
          /^Name: +np$/m,
          /^Type: +NodePort$/m,
          /^IP: +10\.11\./m,
          /^TargetPort: +8080\/TCP$/m,
          /^Endpoints: *$/m,
        ]) {
          assert.match(service, line);
        }
        assert.match(await k.ok("describe deployment web"), /^Replicas: +0 desired \| 0 updated \| 0 total/m);
        assert.match(await k.ok(`describe namespace ${ns}`), /^Status: +Active$/m);
        assert.match(await k.ok("describe secret pass"), /^word: +7 bytes$/m);
        assert.match(await k.ok("describe cm conf"), /^a:\n----\nb$/m);
        assert.match(await k.ok("describe role reader"), /^ {2}pods\/log +\[\] +\[\] +\[get list\]$/m);
        const node = await k.ok("describe node c1-control-plane");
        assert.match(node, /^ {2}Ready +True .*KubeletReady/m);
        assert.match(node, /^ {2}weft-system +weft-/m);
      });

      test("labels, annotates, patches and edits", async () => {
        await k.says("label svc np tier=front", "service/np labeled");
        await k.refuses("label svc np tier=back", /already has a value \(front\), and --overwrite is false/);
        await k.says("label svc np tier=back --overwrite", "service/np labeled");
        await k.says("label svc np tier-", "service/np unlabeled");
        await k.refuses("label svc np tier=-bad", /a valid label must be an empty string or consist of/);
        await k.says("annotate svc np note=x", "service/np annotated");
        await k.says("annotate svc np note-", "service/np annotated");
        await k.says(`patch svc np -p {"spec":{"ports":[{"port":81,"name":"more"}]}}`, "service/np patched");
        assert.equal((await k.ok("get svc np -o jsonpath={.spec.ports[*].port}")).split(" ").length, 2);
        await k.says(`patch svc np --type=merge -p {"metadata":{"labels":{"z":"y"}}}`, "service/np patched");
        await k.says(
          `patch svc np --type=json -p [{"op":"replace","path":"/metadata/labels/z","value":"x"}]`,
          "service/np patched",
        );
        await k.says("get svc np -o jsonpath={.metadata.labels.z}", "x");
        await k.says(
          `patch svc np --type=merge -p {"metadata":{"labels":{"z":"x"}}}`,
          "service/np patched (no change)",
        );
        await k.refuses(
          `patch svc np -p {"spec":{"clusterIP":"1.2.3.4"}}`,
          /^The Service "np" is invalid: spec\.clusterIPs\[0\]: Invalid value: \["1\.2\.3\.4"\]: may not change once set/,
        );
        await k.refuses(
          `patch deploy web -p {"spec":{"selector":{"matchLabels":{"x":"y"}}}}`,
          /spec\.selector: Invalid value: .*: field is immutable/,
        );
        const editing = (editor: string): Kubectl["run"] => {
          k.env.EDITOR = editor;
          return k.run;
        };
        let result = await editing("sed -i s/nothing/else/")("edit cm conf");
        assert.deepEqual(
          [result.status, result.stderr + result.stdout],
          [0, "Edit cancelled, no changes made.\n"],
        );
        result = await editing("sed -i s/a:.b/a:\\ changed/")("edit cm conf");
        assert.deepEqual([result.status, result.stdout], [0, "configmap/conf edited\n"]);
        await k.says("get cm conf -o jsonpath={.data.a}", "changed");
        result = await editing("sed -i s/port:.80$/port:\\ 800000/")("edit svc web");
        assert.match(result.stderr + result.stdout, /services "web" is invalid/);
        assert.equal(result.status, 1);
      });

      test("replaces, scales and sets", async () => {
        const conf = JSON.parse(await k.ok("get cm conf -o json"));
        conf.data = { only: "this" };
        await k.says("replace -f -", "configmap/conf replaced", JSON.stringify(conf));
        await k.refuses(
          "replace -f -",
          /the object has been modified; please apply your changes to the latest version and try again/,
          JSON.stringify(conf),
        );
        await k.refuses("replace -f -", /configmaps "absent" not found/, manifest(configMap("absent", {})));
        await k.says("scale deploy web --replicas=1", "deployment.apps/web scaled");
        await k.refuses(
          "scale deploy web --replicas=2 --current-replicas=5",
          /Expected replicas to be 5, was 1/,
        );
        await k.says("scale deploy web --replicas=0", "deployment.apps/web scaled");
        await k.refuses(
          "scale svc np --replicas=2",
          /could not find the requested resource|the server doesn't/,
        );
        await k.says(
          "set image deploy/web pause=registry.k8s.io/pause:2",
          "deployment.apps/web image updated",
        );
        await k.refuses("set image deploy/web nope=x", /unable to find container named "nope"/);
        await k.says("set env deploy/web A=B", "deployment.apps/web env updated");
        await k.says("set env deploy/web --list", /^A=B$/m);
      });

      test("applies, on both sides, and sees the difference", async () => {
        const two = [configMap("x1", { a: "b" }), configMap("x2", { a: "b" })];
        await k.says("apply -f -", "configmap/x1 created\nconfigmap/x2 created", manifest(...two));
        await k.says("apply -f -", "configmap/x1 unchanged\nconfigmap/x2 unchanged", manifest(...two));
        await k.refuses(
          "apply -f -",
          /ValidationError\(ConfigMap\): unknown field "datum" in io\.k8s\.api\.core\.v1\.ConfigMap/,
          manifest({ ...two[0], datum: {} }, two[1]!),
        );
        const changed = manifest(configMap("x1", { a: "c" }));
        await k.refuses("diff -f -", /^-\s+a: b\n\+\s+a: c$/m, changed);
        await k.says("diff -f -", "", manifest(two[0]!));
        await k.refuses(
          "apply --server-side --field-manager=other -f -",
          /conflict with "kubectl-client-side-apply" using v1: \.data\.a/,
          changed,
        );
        await k.says(
          "apply --server-side --field-manager=other --force-conflicts -f -",
          "configmap/x1 serverside-applied",
          changed,
        );
        await k.says(
          "get cm x1 --show-managed-fields -o jsonpath={.metadata.managedFields[?(@.manager=='other')].operation}",
          "Apply",
        );
        await k.says(
          "apply -f - --prune -l prune=yes --prune-allowlist=core/v1/ConfigMap",
          /configmap\/p1 created[\s\S]*configmap\/p2 created/,
          manifest(...["p1", "p2"].map((name) => configMap(name, { a: "b" }, { labels: { prune: "yes" } }))),
        );
        await k.says(
          "apply -f - --prune -l prune=yes --prune-allowlist=core/v1/ConfigMap",
          /configmap\/p1 unchanged\nconfigmap\/p2 pruned/,
          manifest(configMap("p1", { a: "b" }, { labels: { prune: "yes" } })),
        );
        await k.says("create cm dry --from-literal=a=b --dry-run=server -o name", "configmap/dry");
        await k.refuses("get cm dry", /NotFound/);
      });

      test("is told what is wrong, with the path of the field", async () => {
        const deployment = (name: string, spec: object) => ({
          apiVersion: "apps/v1",
          kind: "Deployment",
          metadata: { name },
          spec,
        });
        const template = (labels: object, container: object) => ({
          metadata: { labels },
          spec: { containers: [container] },
        });
        await k.refuses(
          "apply -f -",
          /^The Deployment "bad" is invalid: \n[\s\S]*spec\.template\.metadata\.labels: Invalid value: \{"app":"b"\}: `selector` does not match template `labels`[\s\S]*spec\.template\.spec\.containers\[0\]\.name: Invalid value: "Bad_Name"[\s\S]*spec\.template\.spec\.containers\[0\]\.ports\[0\]\.containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive/,
          manifest(
            deployment("bad", {
              selector: { matchLabels: { app: "a" } },
              template: template(
                { app: "b" },
                { name: "Bad_Name", image: "x", ports: [{ containerPort: 99999 }] },
              ),
            }),
          ),
        );
        const typos = deployment("bad", {
          replics: 3,
          selector: { matchLabels: { app: "a" } },
          template: template({ app: "a" }, { name: "a", image: "a", imag: "b" }),
        });
        await k.refuses(
          "apply -f -",
          /strict decoding error: unknown field "spec\.replics", unknown field "spec\.template\.spec\.containers\[0\]\.imag"/,
          manifest(typos),
        );
        await k.says(
          "apply --validate=warn --dry-run=server -f -",
          /^Warning: unknown field "spec\.replics"/m,
          manifest(typos),
        );
        for (const [object, why] of [
          [
            { ...configMap("bad", { "a b": "c" }) },
            /data\[a b\]: Invalid value: "a b": a valid config key must consist of/,
          ],
          [
            { ...configMap("bad", { a: 3 }) },
            /cannot unmarshal number into Go struct field ConfigMap\.data of type string/,
          ],
          [
            { ...configMap("Bad_Name", {}) },
            /metadata\.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain/,
          ],
          [
            {
              apiVersion: "v1",
              kind: "Service",
              metadata: { name: "bad" },
              spec: { type: "Foo", ports: [{ port: 0 }, { port: 1 }] },
            },
            /spec\.ports\[0\]\.name: Required value[\s\S]*spec\.ports\[0\]\.port: Invalid value: 0[\s\S]*spec\.type: Unsupported value: "Foo"/,
          ],
          [
            {
              apiVersion: "v1",
              kind: "Pod",
              metadata: { name: "bad" },
              spec: {
                containers: [{ name: "a", image: "b", volumeMounts: [{ name: "nope", mountPath: "/x" }] }],
              },
            },
            /spec\.containers\[0\]\.volumeMounts\[0\]\.name: Not found: "nope"/,
          ],
          [
            { apiVersion: "v1", kind: "Nosuch", metadata: { name: "bad" } },
            /no matches for kind "Nosuch" in version "v1"/,
          ],
        ] as const) {
          await k.refuses("apply -f -", why, manifest(object));
        }
        await k.refuses("apply -f -", /apiVersion not set/, "kind: ConfigMap\nmetadata: {name: bad}\n");
        await k.refuses("apply -f -", /error (parsing|converting)/, "kind: ConfigMap\n  metadata: [\n");
      });

      // A real API server serves it.
      const skip = process.env.WEFT_REAL_KUBERNETES !== undefined;
      test("names what is not served", { skip }, async () => {
        await k.refuses(
          `autoscale deployment web --max=3 ${i === 0 ? "--cpu-percent=50" : "--cpu=50%"}`,
          /horizontalpodautoscalers\.autoscaling\/v\d is not served here/,
        );
        await k.refuses(
          "create cronjob c --image=busybox --schedule='* * * * *'".replace(
            "--schedule='* * * * *'",
            "'--schedule=* * * * *'",
          ),
          /cronjobs\.batch\/v1 is not served here/,
        );
        await k.refuses("top nodes", /^error: Metrics API not available/);
      });

      test("asks who it is and what it may", async () => {
        await k.says("auth whoami -o jsonpath={.status.userInfo.username}", "kubernetes-admin");
        await k.says("auth can-i delete nodes", /^(Warning: .*\n)?yes/);
        await k.refuses("auth can-i get pods --as=joe", /^no/);
        await k.says(`auth can-i get pods/log --as=system:serviceaccount:${ns}:robot`, "yes");
        await k.refuses(`auth can-i create pods --as=system:serviceaccount:${ns}:robot`, /^no/);
        await k.says(
          "auth can-i --list --as=joe",
          /^selfsubjectaccessreviews\.authorization\.k8s\.io +\[\] +\[\] +\[create\]/m,
        );
        await k.refuses(
          "get pods --as=joe",
          /^Error from server \(Forbidden\): pods is forbidden: User "joe" cannot list resource "pods" in API group "" in the namespace "objects-\d"/,
        );
      });

      test("finds and explains kinds", async () => {
        const rows = await asked("api-resources");
        const deployments = rows.find(({ NAME }) => NAME === "deployments");
        assert.deepEqual(deployments, {
          NAME: "deployments",
          SHORTNAMES: "deploy",
          APIVERSION: "apps/v1",
          NAMESPACED: "true",
          KIND: "Deployment",
        });
        assert.match(await k.ok("api-versions"), /^apps\/v1$[\s\S]*^v1$/m);
        await k.says("explain pod.spec.containers.image", /FIELD: image <string>/);
        await k.says("explain deployment --recursive", /terminationGracePeriodSeconds\t<integer>/);
        await k.refuses("explain pod.spec.nosuch", /field "nosuch" does not exist/);
        await k.says("version", /^Server Version: v1\.\d+\.\d+/m);
      });

      test("uses kinds of its own", async () => {
        await k.says(
          "apply -f -",
          "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created",
          manifest(widgets),
        );
        await k.says(
          "wait --for=condition=Established crd/widgets.example.com --timeout=10s",
          "customresourcedefinition.apiextensions.k8s.io/widgets.example.com condition met",
        );
        await k.says(
          "apply -f -",
          "widget.example.com/w created",
          manifest(widget("w", { size: 3, color: "red" })),
        );
        await k.says("apply -f -", "widget.example.com/w configured", manifest(widget("w", { size: 4 })));
        await k.says("get wd", "NAME   SIZE\nw      4");
        await k.says("get all", /^widget\.example\.com\/w +4$/m);
        for (const [spec, why] of [
          [
            // kube-apiserver tells several mistakes in the order of a Go map.
            { size: 30, color: "green" },
            /^(?=[\s\S]*spec\.color: Unsupported value: "green": supported values: "red", "blue")(?=[\s\S]*spec\.size in body should be less than or equal to 10)/,
          ],
          [{ size: "x" }, /spec\.size in body must be of type integer: "string"/],
          [{ size: 7 }, /spec: Invalid value: .*seven is taken/],
          [{ size: 5, sise: 3 }, /strict decoding error: unknown field "spec\.sise"/],
          [{}, /spec\.size: Required value/],
        ] as const) {
          await k.refuses("apply -f -", why, manifest(widget("bad", spec)));
        }
        await k.says("scale wd w --replicas=6", "widget.example.com/w scaled");
        await k.refuses(
          `patch wd w -p {"spec":{"size":5}}`,
          /is not supported by example\.com\/v1, Kind=Widget/,
        );
        await k.says(`patch wd w --type=merge -p {"spec":{"size":5}}`, "widget.example.com/w patched");
        await k.says("describe wd w", /^Kind: +Widget$[\s\S]*^ {2}Size: +5$/m);
        await k.says("explain widget.spec.size", /How big it is\./);
        await k.says(
          "apply -f -",
          "widget.example.com/w configured\nconfigmap/besides created",
          manifest(widget("w", { size: 2 }), configMap("besides", {})),
        );
        await k.says("delete crd widgets.example.com", /"widgets\.example\.com" deleted/);
        await k.refuses(
          "get wd",
          /the server (doesn't have a resource type|could not find the requested resource)/,
        );
      });

      test("deletes one, some, and all", async () => {
        await k.says("delete cm x1", /^configmap "x1" deleted/);
        await k.refuses("delete cm x1", /\(NotFound\): configmaps "x1" not found/);
        await k.says("delete cm x1 --ignore-not-found", "");
        await k.says("delete svc -l app=np", /^service "np" deleted/);
        await k.says("delete secret --all", /^secret "pass" deleted/);
        await k.says("delete deployment web --cascade=orphan", /"web" deleted/);
        assert.match(await k.ok("get rs -o name"), /^replicaset\.apps\/web-/);
        await k.says("delete rs --all", /deleted/);
        await k.says(`delete ns made-${i}`, new RegExp(`^namespace "made-${i}" deleted`));
        await k.refuses(`get ns made-${i}`, /NotFound/);
      });
    });
  }
});
