import type { Host } from "../contract.ts";
import type { Deadlines } from "./deadlines.ts";
import type { Exchange } from "./exchange.ts";
import { Http1Pool } from "./http1-pool.ts";
import { Http2Pool } from "./http2-pool.ts";
import { portAt } from "./route-action.ts";
import type { PendingStream, Pool, UpstreamEvents } from "./upstream.ts";

/** The pools of one host, by protocol, priority and ALPN: they hang on it, and live as long as it does. */
class HostPools {
  readonly pools: (Pool | undefined)[] = [];
  readonly byAlpn = new Map<string, (Pool | undefined)[]>();
}

const oneDotOne = ["http/1.1"];

/** The pool for requests to a host; HTTP/2 where the cluster says so, or where it says "as the client" and that has it. */
function poolFor(
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

/** Asks for a stream to a host, for `exchange` or a copy of it; what it returns gives the waiting up. */
export function requestTo(
  host: Host,
  priority: "default" | "high",
  exchange: Exchange,
  authority: string,
  upgrade: boolean,
  events: UpstreamEvents,
): PendingStream | undefined {
  const { downstream } = exchange.facts;
  const pool = poolFor(
    host,
    { http2: exchange.protocol === "HTTP/2", upgrade, alpn: downstream.upstreamAlpn },
    priority,
    exchange.manager.deadlines,
  );
  const port = portAt(authority);
  const serverName = port < 0 ? authority : authority.slice(0, port);
  return pool.request(events, { priority, serverName, downstream, upgrade });
}
