/** The routing model at 1,000 Services with 10,000 endpoints: the first configuration of a scope, and single changes. */
import type { KubeObject } from "../../src/api/index.ts";
import { objectsOf, type TestMesh, testMesh, workload } from "../../src/traffic/testing.ts";
import type { Benchmark, Report } from "./figures.ts";

const services = 1_000;
const perService = 10;
const namespaces = 20;

/** CPU milliseconds of this process for `run`. */
function cpu(run: () => void): number {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

function world(): { mesh: TestMesh; slices: (KubeObject & Record<string, unknown>)[] } {
  const mesh = testMesh();
  const objects: KubeObject[] = [];
  for (let i = 0; i < namespaces; i++)
    objects.push({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: `ns${i}`, labels: { "maistra.io/member-of": "istio-system" } },
    });
  const slices: (KubeObject & Record<string, unknown>)[] = [];
  for (let i = 0; i < services; i++) {
    const made = objectsOf(
      workload(`s${i}`, {
        namespace: `ns${i % namespaces}`,
        ip: `10.11.${i >> 8}.${i & 255}`,
        base: `10.${20 + (i >> 8)}.${i & 255}`,
        versions: Array.from({ length: perService }, (_, k) => `v${(k % 2) + 1}`),
      }),
    );
    objects.push(...made);
    slices.push(made.at(-1) as KubeObject & Record<string, unknown>);
  }
  mesh.put(...objects);
  return { mesh, slices };
}

export const trafficModel: Benchmark = async (report: Report) => {
  report.step(`${services} Services, ${services * perService} endpoints`);
  const { mesh, slices } = world();
  const scopes = Array.from({ length: namespaces }, (_, i) => i);
  const first = cpu(() => {
    mesh.connect({ id: "a", namespace: "ns0", labels: { app: "s0" } });
  });
  report.figure("first configuration of a scope, CPU", first, "ms", { limit: 300 });
  const others = cpu(() => {
    for (const i of scopes.slice(1))
      mesh.connect({ id: `b${i}`, namespace: `ns${i}`, labels: { app: `s${i}` } });
  });
  report.figure("each further scope, CPU", others / (scopes.length - 1), "ms");

  let n = 0;
  const flip = () => {
    const slice = structuredClone(slices[n++ % slices.length]!) as unknown as KubeObject & {
      endpoints: { conditions: { ready: boolean } }[];
    };
    slice.endpoints[n % perService]!.conditions.ready = n % 3 === 0;
    return slice;
  };
  const changes = Array.from({ length: 2_000 }, flip);
  const endpoint = cpu(() => {
    for (const change of changes) mesh.put(change);
  });
  report.figure("an endpoint's change, CPU", endpoint / changes.length, "ms", { limit: 1 });

  const rules = Array.from({ length: 50 }, (_, i) =>
    objectsOf(`
kind: VirtualService
metadata: { name: s, namespace: ns${i % namespaces} }
spec: { hosts: [s${i % namespaces}], http: [{ timeout: ${i + 1}s, route: [{ destination: { host: s${i % namespaces} } }] }] }
`),
  ).flat();
  const routes = cpu(() => {
    for (const rule of rules) mesh.put(rule);
  });
  report.figure(`a VirtualService's change in ${namespaces} scopes, CPU`, routes / rules.length, "ms");

  const added = objectsOf(
    Array.from({ length: 20 }, (_, i) =>
      workload(`new${i}`, { namespace: "ns1", ip: `10.11.200.${i}`, base: `10.99.${i}` }),
    ).join("---\n"),
  ).filter(({ kind }) => kind === "Service");
  const created = cpu(() => {
    for (const service of added) mesh.put(service);
  });
  report.figure(`a new Service in ${namespaces} scopes, CPU`, created / added.length, "ms");
};
