/**
 * Seed 002's own command list, from the control plane's custom resource to the last `describe`, with kubectl in place
 * of oc, on the lab. What it prints is held to what the seed prints. WEFT_PROXY=envoy runs it on Envoy.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable, run, tableRows } from "../../support/lab.ts";
import {
  call,
  callMany,
  callUntil,
  cluster,
  file,
  gatewayUrl,
  inCoolapp,
  memberReady,
  podOf,
  podRows,
  proxy,
  readAnswer,
  startMeshLab,
  versionOf,
} from "./coolapp.ts";

const reason = labUnavailable();
if (reason) console.log(`skipped: seed 002 on the lab: ${reason}`);

describe(`seed 002: the transcript, with the ${proxy} proxy`, { skip: reason, timeout: 300_000 }, () => {
  let lab: Lab;
  let url = "";
  const inSystem = (...args: string[]) => lab.kubectl(cluster, "-n", "istio-system", ...args);
  const curl = async (...args: string[]) => {
    const { status, stdout, stderr } = await run("curl", ["-s", ...args, url], lab.env);
    assert.equal(status, 0, `${stdout}${stderr}`);
    return stdout;
  };

  before(async () => {
    lab = await startMeshLab();
  });
  after(async () => {
    await lab?.down();
  });

  test("oc adm new-project istio-system, and the control plane", async () => {
    assert.equal(
      await lab.kubectl(cluster, "create", "ns", "istio-system"),
      "namespace/istio-system created\n",
    );
    assert.equal(
      await inSystem("apply", "-f", file("service-mesh.yaml")),
      "servicemeshcontrolplane.maistra.io/service-mesh-installation created\n",
    );
  });

  test("its pods come up: discovery, and a gateway each way in and out", async () => {
    await eventually(
      "three pods, ready",
      async () => {
        const rows = tableRows(await inSystem("get", "po"));
        const ready = rows.filter((row) => row.READY === "1/1" && row.STATUS === "Running");
        const has = (name: string) => ready.some((row) => row.NAME!.startsWith(name));
        return (
          has("istiod-service-mesh-installation-") &&
          has("istio-ingressgateway-") &&
          has("istio-egressgateway-")
        );
      },
      90_000,
    );
    const row = await eventually("a ready mesh", async () => {
      const [row] = tableRows(await inSystem("get", "smcp"));
      return row?.STATUS === "ComponentsReady" && row;
    });
    assert.equal(row.NAME, "service-mesh-installation");
    assert.equal(row.READY, "3/3");
  });

  test("what the page asks for and is not served yet is said, with the fields", async () => {
    const conditions = JSON.parse(
      await inSystem("get", "smcp", "service-mesh-installation", "-o", "jsonpath={.status.conditions}"),
    ) as { type: string; reason: string; message: string }[];
    const said = conditions.find(({ type }) => type === "NotServedYet")?.message ?? "";
    for (const field of ["telemetry", "tracing", "kiali", "grafana"]) assert.match(said, new RegExp(field));
  });

  test("the member roll", async () => {
    assert.equal(
      await inSystem("apply", "-f", file("service-mesh-roll.yaml")),
      "servicemeshmemberroll.maistra.io/default created\n",
    );
    const rows = tableRows(await inSystem("get", "servicemeshmemberrolls.maistra.io"));
    assert.equal(rows[0]!.NAME, "default");
    assert.equal(rows[0]!.MEMBERS, '["coolapp"]');
    assert.equal(await lab.kubectl(cluster, "create", "ns", "coolapp"), "namespace/coolapp created\n");
    await memberReady(lab);
  });

  for (const [app, deployment] of [
    ["catalog", "catalog-v1"],
    ["partner", "partner-v1"],
    ["gateway", "gateway"],
  ] as const) {
    test(`${app}: its pod has two containers, and both become ready`, async () => {
      assert.equal(
        await inCoolapp(lab, "create", "-f", file(`${app}/kubernetes/${app}-service-template.yml`)),
        `deployment.apps/${deployment} created\n`,
      );
      assert.equal(
        await inCoolapp(lab, "create", "-f", file(`${app}/kubernetes/Service.yml`)),
        `service/${app} created\n`,
      );
      const seen = new Set<string>();
      await eventually(`${deployment} 2/2`, async () => {
        const row = (await podRows(lab)).find(({ NAME }) => NAME!.startsWith(`${deployment}-`));
        if (row) seen.add(row.READY!);
        return row?.READY === "2/2" && row.STATUS === "Running";
      });
      for (const ready of seen) assert.match(ready, /^[012]\/2$/, "two from the start");
      const names = await inCoolapp(
        lab,
        ...["get", "pod", await podOf(lab, deployment)],
        ...["-o", "jsonpath={.spec.initContainers[*].name} {.spec.containers[*].name}"],
      );
      assert.deepEqual(names.split(" ").sort(), [app, "istio-init", "istio-proxy"].sort());
    });
  }

  test("oc get all shows pods, services, deployments and replicasets", async () => {
    const [pods, services, deployments, sets] = (await inCoolapp(lab, "get", "all"))
      .trimEnd()
      .split("\n\n")
      .map(tableRows);
    assert.deepEqual(
      pods!.map(({ NAME }) => NAME!.replace(/-[a-z0-9]+-[a-z0-9]{5}$/, "")),
      ["pod/catalog-v1", "pod/gateway", "pod/partner-v1"],
    );
    assert.deepEqual(
      services!.map((row) => [row.NAME, row.TYPE, row["PORT(S)"]]),
      [
        ["service/catalog", "ClusterIP", "8080/TCP"],
        ["service/gateway", "ClusterIP", "8080/TCP"],
        ["service/partner", "ClusterIP", "8080/TCP"],
      ],
    );
    assert.ok(deployments!.every(({ READY }) => READY === "1/1"));
    assert.equal(sets!.length, 3);
  });

  test("Gateway and VirtualService let requests in; curl counts from 1", async () => {
    assert.equal(
      await inCoolapp(lab, "apply", "-f", file("service-mesh-gw.yaml")),
      "gateway.networking.istio.io/ingress-gateway created\nvirtualservice.networking.istio.io/ingress-gateway created\n",
    );
    url = await gatewayUrl(lab);
    // Asked on a path that no route has, which reaches nobody: 404 once the route table is there.
    await eventually("the gateway's routes", async () => (await call(`${url}/none`)).status === 404);
    const pod = (await podOf(lab, "catalog-v1")).replace("catalog-v1-", "");
    for (const count of [1, 2, 3]) {
      assert.equal(await curl(), `gateway => partner => catalog v1 from '${pod}': ${count}\n`);
    }
  });

  test("weft proxies: five of them, of the kind that was asked for, and all have everything", async () => {
    const rows = tableRows(await lab.weft("proxies", "--context", `weft-${cluster}`));
    assert.deepEqual(rows.map(({ NAME }) => NAME!.replace(/-[a-z0-9]+-[a-z0-9]{5}\./, ".")).sort(), [
      ...["catalog-v1.coolapp", "gateway.coolapp"],
      ...["istio-egressgateway.istio-system", "istio-ingressgateway.istio-system", "partner-v1.coolapp"],
    ]);
    for (const { PROXY, CDS, LDS } of rows) assert.deepEqual([PROXY, CDS, LDS], [proxy, "SYNCED", "SYNCED"]);
  });

  test("a second version of catalog is an endpoint of the same service", async () => {
    assert.equal(
      await inCoolapp(lab, "create", "-f", file("catalog-v2/kubernetes/catalog-service-template.yml")),
      "deployment.apps/catalog-v2 created\n",
    );
    const rows = await eventually("four pods 2/2", async () => {
      const rows = await podRows(lab, "-o", "wide", "--show-labels");
      return rows.length === 4 && rows.every(({ READY }) => READY === "2/2") && rows;
    });
    const v2 = rows.find(({ NAME }) => NAME!.startsWith("catalog-v2-"))!;
    for (const label of ["app=catalog", "application=catalog", "deployment=catalog", "version=v2"]) {
      assert.ok(v2.LABELS!.split(",").includes(label), v2.LABELS);
    }
    const addresses = rows
      .filter(({ NAME }) => NAME!.startsWith("catalog-"))
      .map(({ IP }) => `${IP}:8080`)
      .sort();
    const said = await eventually("both endpoints", async () => {
      const said = await inCoolapp(lab, "describe", "service", "catalog");
      return addresses.every((address) => said.includes(address)) && said;
    });
    assert.match(said, /^Name: +catalog\nNamespace: +coolapp\nLabels: +app=catalog\n/);
    assert.match(said, /^Selector: +application=catalog$/m);
    assert.match(said, /^Port: +http +8080\/TCP$/m);
  });

  test("the two take turns", async () => {
    await callUntil("an answer of v2", url, (answer) => readAnswer(answer.body)?.version === "v2");
    const answers: { version: string; count: number }[] = [];
    for (let i = 0; i < 8; i++) answers.push(readAnswer(await curl())!);
    const versions = answers.map(({ version }) => version);
    assert.deepEqual(
      versions,
      versions.map((_, i) => (i % 2 === 0 ? versions[0] : versions[1])),
    );
    assert.notEqual(versions[0], versions[1]);
    for (const version of ["v1", "v2"]) {
      const counts = answers.filter((answer) => answer.version === version).map(({ count }) => count);
      assert.deepEqual(
        counts,
        counts.map((_, i) => counts[0]! + i),
        "each pod counts its own",
      );
    }
  });

  test("a route to a subset that nobody defined is 503, and the answer says who met it", async () => {
    assert.equal(
      await inCoolapp(lab, "create", "-f", file("istiofiles/virtual-service-catalog-v2.yml")),
      "virtualservice.networking.istio.io/catalog created\n",
    );
    await callUntil("503", url, ({ status }) => status === 503);
    const said = await curl("-i");
    assert.match(said, /^HTTP\/1\.1 503 Service Unavailable\r\n/);
    assert.match(said, /^content-type: text\/plain;charset=UTF-8\r$/im);
    assert.match(said, /^content-length: 30\r$/im);
    assert.match(said, /^x-envoy-upstream-service-time: \d+\r$/im);
    assert.match(said, /^server: istio-envoy\r$/im);
    assert.match(said, /\r\n\r\ngateway => 503 partner => 503\n$/);
  });

  test("and Weft says which subset is missing, in the VirtualService's status and in weft analyze", async () => {
    await eventually("a condition that names it", async () => {
      const status = await inCoolapp(lab, "get", "virtualservice", "catalog", "-o", "jsonpath={.status}");
      return /version-v2/.test(status);
    });
    const { stdout, stderr } = await run(
      "bin/weft",
      ["analyze", "--context", `weft-${cluster}`, "-n", "coolapp"],
      lab.env,
    );
    assert.match(`${stdout}${stderr}`, /VirtualService.*catalog[\s\S]*version-v2/);
  });

  test("weft why: which field sends partner's calls there, and that there is nothing", async () => {
    const why = await lab.weft("why", "--context", `weft-${cluster}`, "deploy/partner-v1.coolapp", "catalog");
    const upstream = "outbound|8080|version-v2|catalog.coolapp.svc.cluster.local";
    const expected =
      `route 8080 catalog.coolapp.svc.cluster.local:8080 [/*]: ${upstream}; there is no ${upstream}\n` +
      "    VirtualService coolapp/catalog spec.http[0]\n" +
      "    Service coolapp/catalog\n";
    assert.equal(why.slice(0, expected.length), expected);
  });

  test("with the DestinationRule all goes to v2", async () => {
    assert.equal(
      await inCoolapp(lab, "create", "-f", file("istiofiles/destination-rule-catalog-v1-v2.yml")),
      "destinationrule.networking.istio.io/catalog created\n",
    );
    await callUntil("200", url, ({ status }) => status === 200);
    const answers = await callMany(url, 40);
    assert.deepEqual(new Set(answers.map(versionOf)), new Set(["v2"]));
    await eventually("nothing is missing any more", async () => {
      const status = await inCoolapp(lab, "get", "virtualservice", "catalog", "-o", "jsonpath={.status}");
      return !/version-v2/.test(status);
    });
  });

  test("replaced, all goes to v1", async () => {
    assert.equal(
      await inCoolapp(lab, "replace", "-f", file("istiofiles/virtual-service-catalog-v1.yml")),
      "virtualservice.networking.istio.io/catalog replaced\n",
    );
    await callUntil("an answer of v1", url, (answer) => readAnswer(answer.body)?.version === "v1");
    const answers = await callMany(url, 40);
    assert.deepEqual(new Set(answers.map(versionOf)), new Set(["v1"]));
  });

  test("70 to 30, within what a thousand requests allow", async () => {
    assert.equal(
      await inCoolapp(lab, "replace", "-f", file("istiofiles/virtual-service-catalog-v1_and_v2_70_30.yml")),
      "virtualservice.networking.istio.io/catalog replaced\n",
    );
    await callUntil("an answer of v2", url, (answer) => readAnswer(answer.body)?.version === "v2");
    const versions = (await callMany(url, 1000)).map(versionOf);
    const v1 = versions.filter((version) => version === "v1").length;
    // Binomial: mean 700, standard deviation 14.5; beyond 4.5 of them once in 150,000 runs.
    assert.ok(Math.abs(v1 - 700) <= 65, `${v1} of 1000 were answered by v1`);
    assert.equal(versions.length, 1000);
  });

  test("oc describe VirtualService shows what was written", async () => {
    const said = await inCoolapp(lab, "describe", "VirtualService", "catalog");
    assert.match(said, /^Name: +catalog\nNamespace: +coolapp\n/);
    assert.match(said, /^API Version: +networking\.istio\.io\/v1/m);
    assert.match(said, /^Kind: +VirtualService$/m);
    const [, spec = ""] = /\nSpec:\n([\s\S]*?)\n(?:Status|Events):/.exec(said) ?? [];
    assert.deepEqual(
      spec
        .trimEnd()
        .split("\n")
        .map((line) => line.trim().replace(/ +/g, " ")),
      [
        "Hosts:",
        "catalog",
        "Http:",
        "Route:",
        ...["Destination:", "Host: catalog", "Subset: version-v1", "Weight: 70"],
        ...["Destination:", "Host: catalog", "Subset: version-v2", "Weight: 30"],
      ],
    );
  });
});
