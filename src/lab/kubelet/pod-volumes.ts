/** A pod's volumes, filled from the API. */
import { join } from "node:path";
import type { Pod } from "../../api/index.ts";
import type { NodeContext } from "./context.ts";
import { fieldValue, resourceValue } from "./fields.ts";
import { type MountedVolume, mountVolumes, type VolumeSources } from "./volumes.ts";

/** Makes the volumes. Throws VolumeError. */
export function setUpVolumes(
  context: NodeContext,
  pod: Pod,
  address: string | undefined,
): Promise<Map<string, MountedVolume>> {
  const uid = pod.metadata.uid!;
  const dirs = {
    pod: join(context.stateDir, "pods", uid, "volumes"),
    memory: join(context.runDir, "pods", uid, "volumes"),
    host: join(context.stateDir, "host"),
  };
  return mountVolumes(pod, dirs, sourcesOf(context, pod, address));
}

/** Brings volumes that show objects of the API up to date; tokens are replaced long before they run out. */
export async function refreshVolumes(
  context: NodeContext,
  pod: Pod,
  address: string | undefined,
): Promise<void> {
  const changing = (pod.spec.volumes ?? []).filter(
    ({ configMap, secret, downwardAPI, projected }) => configMap || secret || downwardAPI || projected,
  );
  if (changing.length > 0)
    await setUpVolumes(context, { ...pod, spec: { ...pod.spec, volumes: changing } }, address);
}

/** Tokens by pod and audience, so that a refresh of the volumes need not ask for new ones. */
const tokens = new Map<string, { token: string; renewAt: number }>();

function sourcesOf(context: NodeContext, pod: Pod, address: string | undefined): VolumeSources {
  const namespace = pod.metadata.namespace!;
  const place = { podIP: address, hostIP: context.node.address };
  return {
    async configMap(name) {
      const found = await context.configMap(namespace, name);
      if (!found) return undefined;
      const binary = Object.entries(found.binaryData ?? {}).map(([key, value]) => [
        key,
        Buffer.from(value, "base64"),
      ]);
      return { ...found.data, ...Object.fromEntries(binary) };
    },
    async secret(name) {
      const found = await context.secret(namespace, name);
      if (!found) return undefined;
      return Object.fromEntries(
        Object.entries(found.data ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64")]),
      );
    },
    async token(audience, expirationSeconds) {
      const key = `${pod.metadata.uid}/${audience ?? ""}/${expirationSeconds}`;
      const known = tokens.get(key);
      const now = context.world.now();
      if (known && now < known.renewAt) return known.token;
      const name = pod.spec.serviceAccountName || "default";
      const request = {
        metadata: { namespace, name },
        spec: {
          ...(audience && { audiences: [audience] }),
          expirationSeconds,
          boundObjectRef: { apiVersion: "v1", kind: "Pod", name: pod.metadata.name, uid: pod.metadata.uid },
        },
      };
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
      const answer = await context.client.json<{ status: { token: string; expirationTimestamp: string } }>(
        "POST",
        path,
        { body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", ...request } },
      );
      const { token, expirationTimestamp } = answer.status;
      // As the kubelet does: at 80 % of the lifetime, or after a day.
      const lifetime = Date.parse(expirationTimestamp) - now;
      tokens.set(key, { token, renewAt: now + Math.min(lifetime * 0.8, 24 * 3600_000) });
      return token;
    },
    fieldRef: (path) => fieldValue(pod, path, place),
    resourceFieldRef(selector) {
      const all = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
      const container = all.find(({ name }) => name === selector.containerName);
      if (!container) throw new RangeError(`container ${selector.containerName} not found`);
      return resourceValue(container, selector.resource, String(selector.divisor ?? "0"), context.capacity);
    },
  };
}

/** Forgets the tokens of a pod that is gone. */
export function forgetTokens(uid: string): void {
  for (const key of tokens.keys()) if (key.startsWith(`${uid}/`)) tokens.delete(key);
}
