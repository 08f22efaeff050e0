/**
 * Counters, gauges and histograms, and how Envoy prints them: `/stats` (dotted names) and Prometheus text
 * (`envoy_…` with labels taken out of the name; Istio's own metrics under their own names).
 */
import type { Counter, Gauge, Histogram, Stats, StatsScope } from "./contract.ts";

/** Upper bounds of Envoy's histograms (`Config::defaultHistogramBuckets`), ms. */
const bounds = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
];

class CounterCell implements Counter {
  value = 0;
  inc(by = 1): void {
    this.value += by;
  }
}

class GaugeCell implements Gauge {
  value = 0;
  inc(by = 1): void {
    this.value += by;
  }
  dec(by = 1): void {
    this.value -= by;
  }
  set(value: number): void {
    this.value = value;
  }
}

class HistogramCell implements Histogram {
  /** One for each bound and one above; then the sum. */
  readonly cells = new Float64Array(bounds.length + 2);
  record(value: number): void {
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (value <= bounds[middle]!) high = middle;
      else low = middle + 1;
    }
    this.cells[low]!++;
    this.cells[bounds.length + 1]! += value;
  }
}

type Cell = CounterCell | GaugeCell | HistogramCell;

interface Entry {
  /** As /stats shows it. */
  text: string;
  /** `{a="b"}` without braces. */
  labels: string;
  cell: Cell;
}

/** All statistics of one proxy. */
export class Registry implements Stats {
  /** By Prometheus name, then by labels. */
  readonly #families = new Map<string, Map<string, Entry>>();
  readonly #scopes = new Map<string, StatsScope>();

  scope(prefix: string, family: string, labels: Readonly<Record<string, string>>): StatsScope {
    const known = this.#scopes.get(prefix);
    if (known) return known;
    const printed = printLabels(labels);
    const made = new Map<string, Cell>();
    const cell = <C extends Cell>(name: string, create: () => C): C => {
      let found = made.get(name);
      if (!found) {
        found = this.#entry(`envoy_${family}_${prometheusName(name)}`, printed, `${prefix}.${name}`, create);
        made.set(name, found);
      }
      return found as C;
    };
    const scope: StatsScope = {
      counter: (name) => cell(name, () => new CounterCell()),
      gauge: (name) => cell(name, () => new GaugeCell()),
      histogram: (name) => cell(name, () => new HistogramCell()),
    };
    this.#scopes.set(prefix, scope);
    return scope;
  }

  counter(name: string, labels: Readonly<Record<string, string>>): Counter {
    return this.#labelled(name, labels, () => new CounterCell());
  }

  gauge(name: string, labels: Readonly<Record<string, string>>): Gauge {
    return this.#labelled(name, labels, () => new GaugeCell());
  }

  histogram(name: string, labels: Readonly<Record<string, string>>): Histogram {
    return this.#labelled(name, labels, () => new HistogramCell());
  }

  #labelled<C extends Cell>(name: string, labels: Readonly<Record<string, string>>, create: () => C): C {
    const printed = printLabels(labels);
    return this.#entry(prometheusName(name), printed, printed ? `${name}{${printed}}` : name, create);
  }

  #entry<C extends Cell>(family: string, labels: string, text: string, create: () => C): C {
    let entries = this.#families.get(family);
    if (!entries) {
      entries = new Map();
      this.#families.set(family, entries);
    }
    let entry = entries.get(labels);
    if (!entry) {
      entry = { text, labels, cell: create() };
      entries.set(labels, entry);
    }
    return entry.cell as C;
  }

  /** Forgets what belongs to a scope that is gone (a cluster, a listener). */
  dropScope(prefix: string): void {
    this.#scopes.delete(prefix);
    for (const [family, entries] of this.#families) {
      for (const [labels, entry] of entries) if (entry.text.startsWith(`${prefix}.`)) entries.delete(labels);
      if (entries.size === 0) this.#families.delete(family);
    }
  }

  /** `name: value` lines, sorted; histograms with their count and sum. `filter` as /stats?filter=. */
  text(filter?: RegExp): string {
    const lines: string[] = [];
    for (const entries of this.#families.values()) {
      for (const { text, cell } of entries.values()) {
        if (filter && !filter.test(text)) continue;
        if (cell instanceof HistogramCell) {
          const { count, sum } = summary(cell);
          lines.push(`${text}: count=${count} sum=${sum}`);
        } else lines.push(`${text}: ${cell.value}`);
      }
    }
    return lines.sort().join("\n") + (lines.length > 0 ? "\n" : "");
  }

  /** Prometheus text format 0.0.4. */
  prometheus(): string {
    const parts: string[] = [];
    for (const [family, entries] of [...this.#families].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const first = entries.values().next().value;
      if (!first) continue;
      const kind =
        first.cell instanceof CounterCell
          ? "counter"
          : first.cell instanceof GaugeCell
            ? "gauge"
            : "histogram";
      parts.push(`# TYPE ${family} ${kind}\n`);
      for (const { labels, cell } of entries.values()) {
        if (cell instanceof HistogramCell) parts.push(histogramText(family, labels, cell));
        else parts.push(`${family}{${labels}} ${cell.value}\n`);
      }
    }
    return parts.join("");
  }
}

function summary(cell: HistogramCell): { count: number; sum: number } {
  let count = 0;
  for (let i = 0; i <= bounds.length; i++) count += cell.cells[i]!;
  return { count, sum: cell.cells[bounds.length + 1]! };
}

function histogramText(family: string, labels: string, cell: HistogramCell): string {
  const comma = labels ? `${labels},` : "";
  let total = 0;
  let text = "";
  for (let i = 0; i < bounds.length; i++) {
    total += cell.cells[i]!;
    text += `${family}_bucket{${comma}le="${bounds[i]}"} ${total}\n`;
  }
  const { count, sum } = summary(cell);
  return `${text}${family}_bucket{${comma}le="+Inf"} ${count}\n${family}_sum{${labels}} ${sum}\n${family}_count{${labels}} ${count}\n`;
}

function printLabels(labels: Readonly<Record<string, string>>): string {
  let text = "";
  for (const name in labels) {
    const value = labels[name]!.replace(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`));
    text += `${text ? "," : ""}${prometheusName(name)}="${value}"`;
  }
  return text;
}

const prometheusName = (name: string) => name.replace(/[^a-zA-Z0-9_]/g, "_");
