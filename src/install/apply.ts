/** Writing objects as the installer, and waiting for what they ask for. */
import { type KubeObject, type Resource, WeftError } from "../api/index.ts";
import type { KubeClient, Ref } from "../kube/index.ts";
import { sleep } from "../world/index.ts";
import { installManager, type Manifest } from "./manifests.ts";

/** How long to wait for what was asked for, milliseconds. */
const patience = 60_000;

/** Applies one object as ours; takes fields that others manage, for the object is ours as a whole. */
export function apply<T extends KubeObject>(
  client: KubeClient,
  { resource, object }: Manifest<T>,
  signal?: AbortSignal,
): Promise<T> {
  return client.apply(resource, object, { manager: installManager, force: true, ...(signal && { signal }) });
}

/** Asks until the object (undefined: there is none) is `good`; throws INSTALL_STUCK after a minute. */
export async function waitFor<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  ref: Ref,
  good: (object: T | undefined) => boolean,
  reason: () => Promise<string>,
  signal?: AbortSignal,
): Promise<void> {
  const { world } = client;
  const end = world.monotonic() + patience;
  for (let delay = 20; ; delay = Math.min(delay * 1.3, 100)) {
    if (good(await client.get(resource, ref, signal ? { signal } : {}))) return;
    if (world.monotonic() > end) {
      throw new WeftError("INSTALL_STUCK", { cluster: client.cluster, reason: await reason() });
    }
    await sleep(world, delay, signal);
  }
}
