import type { Host } from "../contract.ts";
import type { Deadlines } from "./deadlines.ts";
import { Http1Pool } from "./http1-client.ts";
import type { Pool } from "./upstream.ts";

/** The pools of one host: they hang on it, and live as long as it does. */
class HostPools {
  readonly pools: (Pool | undefined)[] = [];
}

/** The pool for requests to a host; HTTP/2 where the cluster says so, or where it says "as the client" and that has it. */
export function poolFor(
  host: Host,
  clientSpokeHttp2: boolean,
  priority: "default" | "high",
  deadlines: Deadlines,
): Pool {
  const { protocol } = host.cluster;
  const http2 = protocol === "http2" || (protocol === "downstream" && clientSpokeHttp2);
  let pools = host.pool as HostPools | undefined;
  if (!pools) {
    pools = new HostPools();
    host.pool = pools;
  }
  const at = (http2 ? 2 : 0) + (priority === "high" ? 1 : 0);
  let pool = pools.pools[at];
  if (!pool) {
    pool = new Http1Pool(host, priority, deadlines);
    pools.pools[at] = pool;
  }
  return pool;
}
