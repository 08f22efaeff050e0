/** The lab file (`weft up -f lab.yaml`): what it says becomes a `LabSpec`, or an error that names the line. */
import { clusterSetZone, regionLabel, WeftError, zoneLabel } from "../api/index.ts";
import { parseImageName } from "./images/index.ts";
import { formatAddress, parseRange, type Range } from "./network/index.ts";
import {
  type ClusterSpec,
  defaultCluster,
  isClusterName,
  type LabSpec,
  type LinkSpec,
  type NodeSpec,
  nodeRanges,
  parseLatency,
  reservedNames,
} from "./spec.ts";
import { type Field, parseFields } from "./yaml.ts";

/** Reads a lab file. `name` is what errors call it. Throws LAB_FILE_INVALID and RANGE_IN_USE. */
export function parseLabFile(name: string, text: string): LabSpec {
  const file = parseFields(name, text);
  if (file.isNull) throw file.invalid("it is empty; it needs clusters");
  const fields = file.object(["clusters", "network", "links", "images", "mesh"]);
  if (!fields.clusters) throw file.invalid("it needs clusters");
  const items = fields.clusters.list();
  if (items.length === 0) throw fields.clusters.invalid("it needs at least one cluster");
  if (items.length > mostClusters) throw fields.clusters.invalid(`there can be ${mostClusters} at most`);
  const taken = new Ranges();
  const clusters = items.map((item, i) => clusterOf(item, i, taken));
  refuseTwice(items, "name", (i) => clusters[i]!.name);
  refuseTwice(items, "apiPort", (i) => clusters[i]!.hostPort);
  checkNodeNames(items, clusters);
  const network = fields.network?.oneOf(["flat", "gateway"]);
  const links = fields.links && linksOf(fields.links, clusters);
  const images = fields.images && imagesOf(fields.images);
  const proxy = fields.mesh?.object(["proxy"]).proxy?.oneOf(["embedded", "envoy"]);
  return {
    clusters,
    ...(network && { network }),
    ...(links && { links }),
    ...(images && { images }),
    ...(proxy && { mesh: { proxy } }),
  };
}

/** What the addresses of the backbone leave room for. */
const mostClusters = 100;
const mostNodes = 250;

const clusterFields = [
  "name",
  "podRange",
  "serviceRange",
  "balancerRange",
  "clusterDomain",
  "apiPort",
  "region",
  "zone",
  "nodes",
] as const;

function clusterOf(item: Field, index: number, taken: Ranges): ClusterSpec {
  const fields = item.object(clusterFields);
  if (!fields.name) throw item.invalid("a cluster needs a name");
  const name = fields.name.text();
  if (!isClusterName(name)) {
    throw fields.name.invalid(`'${name}' is no name for a cluster: lower-case letters, digits and '-'`);
  }
  const defaults = defaultCluster(name, index);
  const cluster: ClusterSpec = {
    ...defaults,
    podRange: rangeOf(fields.podRange, 8, 28) ?? defaults.podRange,
    serviceRange: rangeOf(fields.serviceRange, 12, 28) ?? defaults.serviceRange,
    balancerRange: rangeOf(fields.balancerRange, 16, 30) ?? defaults.balancerRange,
    ...(fields.clusterDomain && { clusterDomain: domainOf(fields.clusterDomain) }),
    ...(fields.apiPort && { hostPort: fields.apiPort.integer(1, 65535) }),
  };
  taken.add(cluster.podRange, `the pods of ${name}`, name, fields.podRange ?? item);
  taken.add(cluster.serviceRange, `the services of ${name}`, name, fields.serviceRange ?? item);
  const balancers = `the load balancers of ${name}`;
  taken.add(cluster.balancerRange, balancers, name, fields.balancerRange ?? item);
  cluster.nodes = nodesOf(fields.nodes, cluster, index, placeLabels(fields));
  return cluster;
}

const nodeFields = ["name", "region", "zone", "labels"] as const;

function nodesOf(
  field: Field | undefined,
  cluster: ClusterSpec,
  index: number,
  place: Record<string, string>,
): NodeSpec[] {
  const items = field?.isList ? field.list() : undefined;
  if (items?.length === 0) throw field!.invalid("a cluster needs at least one node");
  const count = items?.length ?? field?.integer(1, mostNodes) ?? 1;
  if (count > mostNodes) throw field!.invalid(`there can be ${mostNodes} at most`);
  const ranges = nodeRanges(cluster.podRange, count);
  if (!ranges) throw field!.invalid(`${cluster.podRange} has no room for the pods of ${count} nodes`);
  return defaultCluster(cluster.name, index, count).nodes.map((node, n) => {
    const fields = items?.[n]?.object(nodeFields) ?? {};
    const labels = { ...place, ...placeLabels(fields), ...(fields.labels && labelsOf(fields.labels)) };
    const name = fields.name ? nodeName(fields.name) : node.name;
    return { ...node, name, podRange: ranges[n]!, labels };
  });
}

/** Nodes and clusters are told apart by their names in the whole lab. */
function checkNodeNames(items: readonly Field[], clusters: readonly ClusterSpec[]): void {
  const known = new Map(clusters.map(({ name }) => [name, `the cluster ${name}`]));
  for (const name of reservedNames) known.set(name, "a process of the lab");
  for (const [i, { name: cluster, nodes }] of clusters.entries()) {
    for (const [n, { name }] of nodes.entries()) {
      const other = known.get(name);
      if (other) {
        const list = items[i]!.object(clusterFields).nodes;
        const field = list?.isList ? list.list()[n]! : (list ?? items[i]!);
        throw field.invalid(`'${name}' is the name of ${other} already; names are unique in a lab`);
      }
      known.set(name, `a node of ${cluster}`);
    }
  }
}

function nodeName(field: Field): string {
  const name = field.text();
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name)) {
    throw field.invalid(`'${name}' is no name for a node: at most 63 lower-case letters, digits and '-'`);
  }
  return name;
}

function placeLabels({ region, zone }: { region?: Field; zone?: Field }): Record<string, string> {
  return {
    ...(region && { [regionLabel]: labelValue(region) }),
    ...(zone && { [zoneLabel]: labelValue(zone) }),
  };
}

/** Source: Kubernetes documentation, "Labels and Selectors", syntax. */
const labelName = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?$/;

function labelsOf(field: Field): Record<string, string> {
  return Object.fromEntries(
    field.entries().map(([name, value]) => {
      if (!labelName.test(name)) throw value.invalid(`'${name}' is no name for a label`);
      return [name, labelValue(value)];
    }),
  );
}

function labelValue(field: Field): string {
  const value = field.text();
  if (!/^([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?$/.test(value)) {
    throw field.invalid(`'${value}' is no value for a label: at most 63 letters, digits, '-', '_' and '.'`);
  }
  return value;
}

function domainOf(field: Field): string {
  const domain = field.text().replace(/\.$/, "");
  const label = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";
  if (domain.length > 200 || !new RegExp(`^${label}(\\.${label})*$`).test(domain)) {
    throw field.invalid(`'${domain}' is no DNS domain`);
  }
  if (`.${domain}`.endsWith(`.${clusterSetZone}`) || `.${clusterSetZone}`.endsWith(`.${domain}`)) {
    throw field.invalid(`'${domain}' overlaps ${clusterSetZone}, the domain of services that span clusters`);
  }
  return domain;
}

function rangeOf(field: Field | undefined, leastBits: number, mostBits: number): string | undefined {
  if (!field) return undefined;
  const text = field.text();
  let range: Range;
  try {
    range = parseRange(text);
  } catch {
    throw field.invalid(`'${text}' is no IPv4 range; write it as 10.10.0.0/16`);
  }
  const { first, bits } = range;
  if (bits < leastBits || bits > mostBits) {
    throw field.invalid(`'${text}' should be between /${leastBits} and /${mostBits}`);
  }
  const whole = `${formatAddress(first)}/${bits}`;
  if (whole !== text)
    throw field.invalid(`'${text}' is no range; the range that the address is in is ${whole}`);
  return text;
}

/** Ranges that nothing else may overlap. */
class Ranges {
  readonly #taken: { range: Range; what: string }[] = [
    ["0.0.0.0/8", "addresses of this network (0.0.0.0/8)"],
    ["127.0.0.0/8", "loopback (127.0.0.0/8)"],
    ["169.254.0.0/16", "link-local addresses (169.254.0.0/16)"],
    ["172.18.0.0/16", "the lab's backbone (172.18.0.0/16)"],
    ["224.0.0.0/3", "multicast and reserved addresses (224.0.0.0/3)"],
  ].map(([range, what]) => ({ range: parseRange(range!), what: what! }));

  add(text: string, what: string, cluster: string, field: Field): void {
    const range = parseRange(text);
    const other = this.#taken.find(
      (taken) =>
        range.first < taken.range.first + taken.range.size && taken.range.first < range.first + range.size,
    );
    if (other) {
      const where = `${text} of ${what} (${field.at}: ${field.path})`;
      throw new WeftError("RANGE_IN_USE", { range: where, other: other.what, cluster });
    }
    this.#taken.push({ range, what: `${what} (${text})` });
  }
}

function linksOf(field: Field, clusters: readonly ClusterSpec[]): LinkSpec[] {
  const items = field.list();
  const links = items.map((item): LinkSpec => {
    const fields = item.object(["between", "latency"]);
    if (!fields.between) throw item.invalid("a link is between two clusters");
    if (!fields.latency) throw item.invalid("a link needs a latency");
    const ends = fields.between.list();
    const [a, b] = ends.map((end) => end.text());
    if (a === undefined || b === undefined || ends.length !== 2 || a === b) {
      throw fields.between.invalid("a link is between two clusters: [c1, c2]");
    }
    for (const end of ends) {
      if (clusters.some(({ name }) => name === end.text())) continue;
      throw end.invalid(`there is no cluster '${end.text()}'`);
    }
    const latency = parseLatency(fields.latency.text());
    if (latency === undefined) {
      throw fields.latency.invalid(
        `'${fields.latency.text()}' is no latency; write it as 50ms, 1.5s or 200us`,
      );
    }
    return { between: [a, b], latency };
  });
  refuseTwice(items, "between", (i) => links[i]!.between.toSorted().join(" and "));
  return links;
}

/** Null: this machine's file system. A list: the command. A text: a line for /bin/sh, as in a Dockerfile. */
function imagesOf(field: Field): NonNullable<LabSpec["images"]> {
  return field.entries().map(([name, value]) => {
    if (!parseImageName(name)) {
      throw value.invalid(`'${name}' is no image name; write it as [REGISTRY/]NAME[:TAG]`);
    }
    if (value.isNull) return { name };
    if (!value.isList) return { name, command: ["/bin/sh", "-c", value.text()] };
    const command = value.list().map((word) => word.text());
    if (command.length === 0) throw value.invalid("a command has at least one word");
    return { name, command };
  });
}

function refuseTwice(
  items: readonly Field[],
  name: string,
  key: (i: number) => string | number | undefined,
): void {
  const seen = new Set<string | number>();
  for (const [i, item] of items.entries()) {
    const value = key(i);
    if (value === undefined) continue;
    if (seen.has(value)) throw item.invalid(`there is another with the ${name} ${value}`);
    seen.add(value);
  }
}
