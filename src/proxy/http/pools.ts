import type { Host } from "../contract.ts";
import type { Deadlines } from "./deadlines.ts";
import { Http1Pool } from "./http1-client.ts";
import { Http2Pool } from "./http2-client.ts";
import type { Pool } from "./upstream.ts";

/** The pools of one host, by protocol, priority and ALPN: they hang on it, and live as long as it does. */
class HostPools {
  readonly pools: (Pool | undefined)[] = [];
  readonly byAlpn = new Map<string, (Pool | undefined)[]>();
}

const oneDotOne = ["http/1.1"];

/** The pool for requests to a host; HTTP/2 where the cluster says so, or where it says "as the client" and that has it. */
export function poolFor(
  host: Host,
  request: { http2: boolean; upgrade: boolean; alpn: readonly string[] | undefined },
  priority: "default" | "high",
  deadlines: Deadlines,
): Pool {
  const { protocol } = host.cluster;
  const http2 = protocol === "http2" || (protocol === "downstream" && request.http2);
  let pools = host.pool as HostPools | undefined;
  if (!pools) {
    pools = new HostPools();
    host.pool = pools;
  }
  let list = pools.pools;
  // Where ALPN is to say what is spoken, it says HTTP/1.1: that is what is asked for.
  const alpn = request.alpn ?? (protocol === "auto" ? oneDotOne : undefined);
  if (alpn) {
    const key = alpn.join();
    list = pools.byAlpn.get(key) ?? [];
    pools.byAlpn.set(key, list);
  }
  const at = (http2 ? 2 : 0) + (priority === "high" ? 1 : 0);
  let pool = list[at];
  if (!pool) {
    pool = http2
      ? new Http2Pool(host, priority, deadlines, alpn)
      : new Http1Pool(host, priority, deadlines, alpn);
    list[at] = pool;
  }
  return pool;
}
