/** Findings for a set of objects, wherever they come from: a cluster, files, or both. */
import {
  authorizationPolicies,
  destinationRules,
  endpointSlices,
  gatewayApi,
  gateways,
  type KubeObject,
  type MeshSettings,
  nameOf,
  namespaces,
  nodes,
  peerAuthentications,
  pods,
  type Resource,
  rateLimits,
  type Secret,
  secrets,
  serviceEntries,
  serviceImports,
  services,
  sidecars,
  virtualServices,
  workloadEntries,
} from "../api/index.ts";
import { derive, type Engine, type Source, source } from "../collections/index.ts";
import { credentialOf } from "./credentials.ts";
import { traffic } from "./index.ts";
import type { TrafficInputs } from "./inputs.ts";
import type { Finding, Proxy as MeshProxy } from "./model.ts";

type ObjectInput = Exclude<keyof TrafficInputs, "mesh" | "proxies" | "credentials" | "allCredentials">;

/** The kinds that traffic reads, by the input that they feed. */
export const inputResources: Readonly<Record<ObjectInput, Resource>> = {
  namespaces,
  services,
  endpointSlices,
  pods,
  nodes,
  imports: serviceImports,
  virtualServices,
  destinationRules,
  gateways,
  serviceEntries,
  workloadEntries,
  sidecars,
  peerAuthentications,
  authorizationPolicies,
  rateLimits,
  kubeGateways: gatewayApi.gateways,
  httpRoutes: gatewayApi.httpRoutes,
  referenceGrants: gatewayApi.referenceGrants,
};

/** The input that an object of any served version belongs to; undefined: traffic does not read it. */
export function inputOf(object: Pick<KubeObject, "apiVersion" | "kind">): ObjectInput | undefined {
  const slash = object.apiVersion.indexOf("/");
  const group = slash < 0 ? "" : object.apiVersion.slice(0, slash);
  const found = Object.entries(inputResources).find(
    ([, resource]) => resource.kind === object.kind && resource.group === group,
  );
  return found?.[0] as ObjectInput | undefined;
}

/** What is wrong with these objects in a mesh, by `Kind/namespace/name`. Of two of one name the later counts. */
export function analyze(
  engine: Engine,
  mesh: MeshSettings,
  objects: Iterable<KubeObject>,
  /** Whether all Secrets of the mesh's namespace are among them. */
  secretsKnown = false,
): ReadonlyMap<string, readonly Finding[]> {
  const sources = new Map<string, Source<KubeObject>>();
  const input = (name: ObjectInput) => {
    const made = source<KubeObject>(engine, { name, key: nameOf, synced: true });
    sources.set(name, made);
    return made;
  };
  const settings = source<MeshSettings>(engine, { name: "mesh", key: () => "mesh", synced: true });
  const proxies = source<MeshProxy>(engine, { name: "proxies", key: ({ id }) => id, synced: true });
  const inputs = Object.fromEntries(
    (Object.keys(inputResources) as ObjectInput[]).map((name) => [name, input(name)]),
  );
  const credentials = source<KubeObject>(engine, { name: "secrets", key: nameOf, synced: true });
  const { findings } = traffic({
    ...inputs,
    mesh: settings,
    proxies,
    credentials: derive(credentials, (each) => credentialOf(each as Secret), { name: "credentials" }),
    allCredentials: secretsKnown,
  } as unknown as TrafficInputs);
  settings.put(mesh);
  for (const object of objects) {
    const name = inputOf(object);
    if (name) sources.get(name)?.put(object);
    else if (object.kind === secrets.kind && object.apiVersion === "v1") credentials.put(object);
  }
  engine.settle();
  return new Map(findings.entries());
}
