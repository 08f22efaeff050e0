import { events, nameOf } from "../../api/index.ts";
import { sleep } from "../../world/index.ts";
import { type ControllerContext, messageOf } from "./context.ts";

/** kube-apiserver's `--event-ttl`, in milliseconds. */
const timeToLive = 3_600_000;
/** How often to look, in milliseconds. */
const interval = 600_000;

/** Deletes Events an hour after they were last seen. A look every ten minutes costs less than a watch of them all. */
export async function expireEvents(context: ControllerContext): Promise<void> {
  const { client, world, signal } = context;
  while (!signal.aborted) {
    await sleep(world, interval, signal).catch(() => {});
    if (signal.aborted) return;
    try {
      const { items } = await client.list(events, { signal });
      for (const event of items) {
        const { lastTimestamp, eventTime, metadata } = event;
        const last =
          lastTimestamp ?? event.series?.lastObservedTime ?? eventTime ?? metadata.creationTimestamp;
        const age = world.now() - Date.parse(String(last));
        if (age > timeToLive) await client.delete(events, nameOf(event), { uid: metadata.uid, signal });
      }
    } catch (error) {
      if (!signal.aborted && !context.isRace(error)) context.log(`events: ${messageOf(error)}`);
    }
  }
}
