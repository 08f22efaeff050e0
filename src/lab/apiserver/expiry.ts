/** Events are news: they go an hour after they were last written (kube-apiserver's `--event-ttl`). */
import type { Timer } from "../../world/index.ts";
import { apiServerUser } from "./bootstrap.ts";
import type { Core } from "./core.ts";
import { asRecord } from "./object.ts";
import { deleteObject } from "./verbs/delete.ts";

/** How long events are kept, and how often old ones are looked for. Milliseconds. */
const lifetime = 3600_000;
const interval = 300_000;

/** Removes old Events for as long as the server lives; the returned function ends it. */
export function expireEvents(core: Core): () => void {
  let timer: Timer;
  const sweep = () => {
    timer = core.world.after(interval, sweep);
    const type = core.registry.get("", "v1", "events")!;
    const oldest = core.world.now() - lifetime;
    const write = { user: apiServerUser, dryRun: false, warnings: [], manager: undefined };
    for (const event of [...core.store.bucket(type.bucket).objects.values()]) {
      const series = asRecord(event.series);
      const times = [
        event.metadata.creationTimestamp,
        event.lastTimestamp,
        event.eventTime,
        series?.lastObservedTime,
      ];
      const newest = Math.max(...times.map((time) => Date.parse(String(time)) || 0));
      if (newest < oldest) deleteObject(core, type, event, { write });
    }
  };
  timer = core.world.after(interval, sweep);
  return () => timer.cancel();
}
