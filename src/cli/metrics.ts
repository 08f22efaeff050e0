/** The control plane's figures as text that Prometheus reads (exposition format 0.0.4). */
import type { ControlPlane } from "../control.ts";
import type { Discovery } from "../discovery.ts";

type Labels = Record<string, string>;

/** One line per figure, with HELP and TYPE. Counters begin at 0 with the process. */
export function metrics(plane: ControlPlane): string {
  const text = new Exposition();
  add(text, plane);
  for (const [peer, lag] of plane.lags) {
    text.add("weft_peer_lag_seconds", "gauge", "How far behind the view of a peer is.", lag / 1000, { peer });
  }
  return text.toString();
}

/** A discovery's figures: the same, and its proxies'. */
export function discoveryMetrics(discovery: Discovery): string {
  const text = new Exposition();
  add(text, discovery);
  const proxies = discovery.xds.proxies();
  text.add("weft_proxies", "gauge", "Proxies that are connected.", proxies.length);
  for (const kind of ["cluster", "listener", "endpoints", "route", "secret"] as const) {
    for (const state of ["synced", "stale", "rejected"] as const) {
      const count = proxies.filter(({ kinds }) => kinds[kind].state === state).length;
      text.add("weft_proxies_state", "gauge", "Connected proxies by what they have.", count, { kind, state });
    }
  }
  const sum = (of: (proxy: (typeof proxies)[number]) => number) =>
    proxies.reduce((total, proxy) => total + of(proxy), 0);
  const lag = Math.max(0, ...proxies.map(({ lag }) => lag)) / 1000;
  text.add("weft_proxies_lag_seconds", "gauge", "Age of the oldest change that a proxy does not have.", lag);
  text.add(
    "weft_xds_sent_bytes",
    "gauge",
    "Sent to the proxies that are connected.",
    sum((each) => each.sent.bytes),
  );
  text.add(
    "weft_xds_sent_responses",
    "gauge",
    "Sent to the proxies that are connected.",
    sum((each) => each.sent.responses),
  );
  return text.toString();
}

/** What control plane and discovery have in common. */
function add(
  text: Exposition,
  plane: Pick<ControlPlane, "engine" | "ready" | "leading" | "collections" | "sinks">,
): void {
  const { evaluated, changed, batches, bugs } = plane.engine.work;
  text.add(
    "weft_ready",
    "gauge",
    "1 when everything that our own cluster has is known.",
    plane.ready ? 1 : 0,
  );
  text.add(
    "weft_leading",
    "gauge",
    "1 when this control plane is the one that writes.",
    plane.leading ? 1 : 0,
  );
  text.add("weft_engine_evaluated_total", "counter", "Keys evaluated.", evaluated);
  text.add("weft_engine_changed_total", "counter", "Keys evaluated whose result changed.", changed);
  text.add("weft_engine_batches_total", "counter", "Batches settled.", batches);
  text.add("weft_engine_bugs_total", "counter", "Exceptions in derivations and subscribers.", bugs);
  for (const [name, { size }] of plane.collections) {
    text.add("weft_collection_rows", "gauge", "Rows of a collection.", size, { collection: name });
  }
  for (const [sink, { writes, waiting, held, lag, conflicts }] of plane.sinks) {
    for (const [kind, count] of Object.entries(writes)) {
      text.add("weft_sink_writes_total", "counter", "Writes to the API, by kind.", count, { sink, kind });
    }
    text.add("weft_sink_waiting", "gauge", "Objects that wait for a write.", waiting, { sink });
    text.add("weft_sink_held", "gauge", "Objects left alone until more has been heard.", held, { sink });
    text.add("weft_sink_lag_seconds", "gauge", "Age of the oldest change not written.", lag / 1000, { sink });
    text.add("weft_sink_conflicts", "gauge", "Objects that others have made.", conflicts.size, { sink });
  }
  const { user, system } = process.cpuUsage();
  text.add("process_cpu_seconds_total", "counter", "CPU time, user and system.", (user + system) / 1e6);
  text.add("process_resident_memory_bytes", "gauge", "Resident memory.", process.memoryUsage.rss());
}

class Exposition {
  /** By metric: its HELP and TYPE, then its samples. All samples of one metric must stand together. */
  readonly #metrics = new Map<string, string[]>();

  add(name: string, type: "counter" | "gauge", help: string, value: number, labels: Labels = {}): void {
    const lines = this.#metrics.get(name) ?? [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
    this.#metrics.set(name, lines);
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
    lines.push(`${name}${pairs.length > 0 ? `{${pairs.join(",")}}` : ""} ${value}`);
  }

  toString(): string {
    return `${[...this.#metrics.values()].flat().join("\n")}\n`;
  }
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
