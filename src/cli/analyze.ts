/** `weft analyze`: what is wrong with a mesh's objects, those of a cluster and those in files, before they are applied. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { LineCounter, parseAllDocuments } from "yaml";
import {
  configMaps,
  type KubeObject,
  type MeshSettings,
  memberOfLabel,
  meshLabel,
  nameOf,
  namespaces,
  readMeshSettings,
  secrets,
  serviceMeshControlPlanes,
  WeftError,
} from "../api/index.ts";
import { Engine } from "../collections/index.ts";
import { isForbidden, isNotFound, type KubeClient, loadKubeconfig } from "../kube/index.ts";
import { analyze, codes, type Finding, finding, inputOf, inputResources, served } from "../traffic/index.ts";
import { realWorld } from "../world/index.ts";
import { clientOf } from "./contexts.ts";
import { controlPlaneFindings } from "./control-plane-findings.ts";
import { asKept, fileFindings } from "./file-findings.ts";
import { podFindings } from "./pod-findings.ts";

interface Options {
  filename: string[];
  recursive?: boolean;
  namespace?: string;
  allNamespaces?: boolean;
  useKube: boolean;
  output: "log" | "json" | "yaml";
  failureThreshold: "Info" | "Warning" | "Error";
  context?: string;
  kubeconfig?: string;
}

/** As istioctl has it: issues were found; not the 1 of an error. */
const foundIssues = 79;

const levels = { error: "Error", warning: "Warning", info: "Info" } as const;
const rank = { Error: 0, Warning: 1, Info: 2 } as const;

export function define(command: Command): void {
  const several = (value: string, all: string[]) => [...all, value];
  command
    .argument(
      "[files...]",
      "YAML or JSON files, directories, or - for the standard input, as if they were applied",
    )
    .option("-f, --filename <file>", "the same as an argument; may be repeated", several, [])
    .option("-R, --recursive", "directories with all below them")
    .option("-n, --namespace <name>", "objects of this namespace (default: the context's)")
    .option("-A, --all-namespaces", "objects of all namespaces")
    .option("--use-kube <bool>", "look into the cluster too", (text) => text !== "false", true)
    .addOption(
      new Option("-o, --output <format>", "how to print").choices(["log", "json", "yaml"]).default("log"),
    )
    .addOption(
      new Option("--failure-threshold <level>", "from which level on the exit code is 79")
        .choices(["Info", "Warning", "Error"])
        .default("Error"),
    )
    .option("--context <name>", "context of the cluster (default: the current one)")
    .option("--kubeconfig <file>", "the kubeconfig that has the context (default: the one that kubectl uses)")
    .action(run);
}

async function run(files: string[], options: Options): Promise<void> {
  const cluster = options.useKube ? clientOf(options.context, options.kubeconfig) : undefined;
  const namespace =
    options.namespace ??
    (cluster ? loadKubeconfig(options.kubeconfig).context(cluster.context).namespace : "default");
  const written = [...files, ...options.filename].flatMap((name) =>
    objectsIn(name, options.recursive ?? false, namespace),
  );
  const inCluster = cluster ? await objectsOf(cluster.client) : [];
  const meshes = cluster ? await meshesOf(cluster.client) : [];
  const credentials = cluster ? await secretsOf(cluster.client, meshes) : new Map();
  const found = analyzeAll(
    meshes,
    [...inCluster, ...[...credentials.values()].flat()],
    written,
    new Set(credentials.keys()),
  );
  const fromFile = new Map(written.map((each) => [keyOf(each.object), each]));
  const messages = found
    .filter(
      ({ origin }) =>
        options.allNamespaces ||
        origin.namespace === namespace ||
        fromFile.has(`${origin.kind}/${origin.namespace}/${origin.name}`),
    )
    .map((each) =>
      message(each, fromFile.get(`${each.origin.kind}/${each.origin.namespace}/${each.origin.name}`)),
    )
    .sort(
      (a, b) =>
        rank[a.level] - rank[b.level] || (a.resource < b.resource ? -1 : a.resource > b.resource ? 1 : 0),
    );
  if (options.output === "json") console.log(JSON.stringify(messages, undefined, "\t"));
  else if (options.output === "yaml") console.log((await import("yaml")).stringify(messages).trimEnd());
  else for (const each of messages) console.log(lineOf(each));
  const where = whereOf(options, cluster !== undefined, namespace, written);
  const failed = messages.some(({ level }) => rank[level] <= rank[options.failureThreshold]);
  if (failed) {
    console.error(`Error: Analyzers found issues when analyzing ${where}.`);
    console.error("docs/mesh.md says what each message means and what to do.");
    process.exitCode = foundIssues;
  } else if (messages.length === 0 && options.output === "log")
    console.error(`✔ No validation issues found when analyzing ${where}.`);
}

function whereOf(
  { allNamespaces }: Options,
  inCluster: boolean,
  namespace: string,
  written: readonly Written[],
): string {
  if (allNamespaces) return "all namespaces";
  if (inCluster) return `namespace: ${namespace}`;
  const files = [...new Set(written.map(({ file }) => file))];
  return files.length > 3 ? `${files.length} files` : files.join(", ");
}

interface Message {
  code: string;
  name: string;
  level: "Error" | "Warning" | "Info";
  /** `VirtualService coolapp/catalog`. */
  resource: string;
  field: string;
  message: string;
  /** Where it is written: `file.yaml:12`. */
  reference?: string;
}

function message({ code, level, origin, message }: Finding, from: Written | undefined): Message {
  const { kind, namespace, name, field } = origin;
  return {
    code,
    name: codes[code as keyof typeof codes]?.name ?? "",
    level: levels[level],
    resource: `${kind} ${namespace}/${name}`,
    field,
    message,
    ...(from && { reference: `${from.file}:${from.line}` }),
  };
}

/** One line, as istioctl prints it, with the field in front of the sentence. */
function lineOf({ level, code, resource, reference, field, message }: Message): string {
  const from = reference ? ` ${reference}` : "";
  return `${level} [${code}] (${resource}${from}) ${field ? `${field}: ` : ""}${message}`;
}

/** For files that no cluster knows the mesh of: everybody is a member of a mesh as `weft install` makes it. */
const anyMesh: MeshSettings = {
  name: "any",
  namespace: "istio-system",
  cluster: "",
  trustDomain: "cluster.local",
  trustDomainAliases: [],
  clusterDomain: "cluster.local",
  mtls: { mode: "PERMISSIVE", auto: true },
  balancer: "LEAST_REQUEST",
  outboundPolicy: "ALLOW_ANY",
  traceSampling: 1,
  accessLog: true,
  proxy: { implementation: "embedded", image: "", resources: {}, concurrency: 0 },
  discoveryHost: "",
};

/** Each mesh's objects in an engine of its own, those of files laid over those of the cluster. */
export function analyzeAll(
  meshes: readonly MeshSettings[],
  inCluster: readonly KubeObject[],
  written: readonly { object: KubeObject }[],
  /** Namespaces of meshes of which all Secrets are among them. */
  secretsKnown: ReadonlySet<string> = new Set(),
): Finding[] {
  const objects = new Map<string, KubeObject>();
  for (const object of inCluster) objects.set(keyOf(object), object);
  for (const { object } of written) {
    const old = objects.get(keyOf(object));
    // What is applied keeps its age.
    const metadata = { ...old?.metadata, ...object.metadata };
    objects.set(keyOf(object), { ...asKept(object), metadata });
  }
  for (const { object } of written)
    for (const made of madeOf(object)) if (!objects.has(keyOf(made))) objects.set(keyOf(made), made);
  if (meshes.length === 0)
    for (const made of gatewayServices) if (!objects.has(keyOf(made))) objects.set(keyOf(made), made);
  for (const { metadata } of [...objects.values()]) {
    const { namespace } = metadata;
    const key = `Namespace/${namespace}`;
    if (namespace && !objects.has(key))
      objects.set(key, { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  }
  const members = membersIn(written.map(({ object }) => object));
  const all = meshes.length > 0 ? meshes : [anyMesh];
  const inMesh = (namespace: string) => {
    const of =
      members.get(namespace) ?? objects.get(`Namespace/${namespace}`)?.metadata.labels?.[memberOfLabel];
    return meshes.some((mesh) => mesh.namespace === namespace || mesh.namespace === of);
  };
  const outside = inCluster
    .filter(({ metadata: { namespace } }) => namespace !== undefined && inMesh(namespace))
    .flatMap(podFindings);
  const inNoMesh =
    meshes.length === 0
      ? []
      : [...objects.values()].flatMap((object): Finding[] => {
          const { namespace, name } = object.metadata;
          const kind = keyOf(object).split("/")[0]!;
          if (!namespace || served[kind] === undefined) return [];
          if (inMesh(namespace)) return [];
          return [finding("WEFT0102", { kind, namespace, name, field: "" })];
        });
  const found = all.flatMap((mesh) => {
    const seen = [...objects.values()].map((object) => {
      if (object.kind !== "Namespace") return object;
      const isMember = meshes.length === 0 || members.get(object.metadata.name) === mesh.namespace;
      return isMember ? labelled(object, mesh.namespace) : object;
    });
    const engine = new Engine({
      world: realWorld(),
      onBug: ({ collection, key, error }) => {
        throw new Error(`a bug in ${collection} ${key ?? ""}`, { cause: error });
      },
    });
    try {
      return [...analyze(engine, mesh, seen, secretsKnown.has(mesh.namespace)).values()].flat();
    } finally {
      engine.dispose();
    }
  });
  const told = new Set(found.map(placeOf));
  const inFiles = written
    .flatMap(({ object }) => fileFindings(object))
    .filter((each) => !told.has(placeOf(each)));
  const refused = new Set(inFiles.map(placeOf));
  const ofMeshes = [...objects.values()]
    .flatMap((object) => controlPlaneFindings(object, realWorld().now()))
    .filter((each) => !refused.has(placeOf(each)));
  return [...found, ...inNoMesh, ...outside, ...inFiles, ...ofMeshes];
}

function placeOf({ origin: { kind, namespace, name, field } }: Finding): string {
  return `${kind}/${namespace}/${name} ${field}`;
}

/** The gateways of a mesh that is not there yet. */
const gatewayServices = ["ingressgateway", "egressgateway"].map((name): KubeObject & { spec: unknown } => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: `istio-${name}`, namespace: anyMesh.namespace },
  spec: {
    clusterIP: "None",
    selector: { app: `istio-${name}`, istio: name },
    ports: [
      { name: "http2", port: 80, targetPort: 8080 },
      { name: "https", port: 443, targetPort: 8443 },
    ],
  },
}));

/** A pod as a workload of a file is going to have: selectors are held against it. */
function madeOf(object: KubeObject): (KubeObject & { spec?: unknown })[] {
  const { spec } = object as KubeObject & {
    spec?: { template?: { metadata?: { labels?: Record<string, string> }; spec?: unknown } };
  };
  if (!object.apiVersion.startsWith("apps/") || !spec?.template) return [];
  const { name, namespace } = object.metadata;
  const metadata = { ...spec.template.metadata, name: `${name}-0`, namespace };
  return [{ apiVersion: "v1", kind: "Pod", metadata, spec: spec.template.spec ?? { containers: [] } }];
}

function labelled(object: KubeObject, mesh: string): KubeObject {
  const { metadata } = object;
  return { ...object, metadata: { ...metadata, labels: { ...metadata.labels, [memberOfLabel]: mesh } } };
}

/** Member → mesh's namespace, as rolls in the files say. */
function membersIn(objects: readonly KubeObject[]): Map<string, string> {
  const members = new Map<string, string>();
  for (const object of objects) {
    if (object.kind !== "ServiceMeshMemberRoll") continue;
    const { spec } = object as KubeObject & { spec?: { members?: string[] } };
    for (const member of spec?.members ?? []) members.set(member, object.metadata.namespace ?? "");
  }
  return members;
}

function keyOf(object: KubeObject): string {
  // Two groups have a kind Gateway.
  const kind = inputOf(object) === "kubeGateways" ? "KubeGateway" : object.kind;
  return `${kind}/${nameOf(object)}`;
}

/** All that traffic reads, and control planes. What a cluster has no definition of, it has none of. */
async function objectsOf(client: KubeClient): Promise<KubeObject[]> {
  const lists = await Promise.all(
    [...Object.values(inputResources), serviceMeshControlPlanes].map(async (resource) => {
      try {
        return (await client.list(resource)).items;
      } catch (error) {
        if (isNotFound(error)) return [];
        throw error;
      }
    }),
  );
  return lists.flat();
}

/** Secrets of the meshes' namespaces, of those that we may read: gateways' credentials are among them. */
async function secretsOf(
  client: KubeClient,
  meshes: readonly MeshSettings[],
): Promise<Map<string, KubeObject[]>> {
  const found = new Map<string, KubeObject[]>();
  for (const { namespace } of meshes)
    try {
      found.set(namespace, (await client.list(secrets, { namespace })).items);
    } catch (error) {
      if (!isForbidden(error)) throw error;
    }
  return found;
}

async function meshesOf(client: KubeClient): Promise<MeshSettings[]> {
  const { items } = await client.list(configMaps, { labelSelector: meshLabel });
  return items.flatMap((each) => readMeshSettings(each) ?? []);
}

interface Written {
  object: KubeObject;
  file: string;
  /** Where the object begins, from 1. */
  line: number;
}

function objectsIn(name: string, recursive: boolean, namespace: string): Written[] {
  if (name !== "-" && statIn(name).isDirectory())
    return readdirSync(name, { withFileTypes: true, recursive })
      .filter((entry) => entry.isFile() && /\.(?:ya?ml|json)$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .flatMap((file) => objectsIn(file, recursive, namespace));
  return parse(readFileSync(name === "-" ? 0 : name, "utf8"), name, namespace);
}

function statIn(name: string) {
  try {
    return statSync(name);
  } catch (error) {
    throw new WeftError("FILE_INVALID", { at: name, reason: "there is no such file" }, error);
  }
}

/** The objects of a text, in their order; lists (`kind: List`) are opened. */
export function parse(text: string, file: string, namespace: string): Written[] {
  const lines = new LineCounter();
  const clusterWide = new Set(
    Object.values(inputResources)
      .filter(({ namespaced }) => !namespaced)
      .map(({ kind }) => kind),
  ).add(namespaces.kind);
  return parseAllDocuments(text, { lineCounter: lines }).flatMap((document) => {
    const line = lines.linePos(document.contents?.range?.[0] ?? document.range[0]).line;
    const [error] = document.errors;
    if (error)
      throw new WeftError("FILE_INVALID", {
        at: `${file}:${lines.linePos(error.pos[0]).line}`,
        reason: error.message.split("\n")[0]!.replace(/ at line \d+, column \d+:?$/, ""),
      });
    const value = document.toJS() as (KubeObject & { items?: KubeObject[] }) | null;
    if (value === null || value === undefined) return [];
    const objects = value.kind === "List" ? (value.items ?? []) : [value];
    return objects.map((object): Written => {
      if (typeof object?.apiVersion !== "string" || typeof object.kind !== "string" || !object.metadata?.name)
        throw new WeftError("FILE_INVALID", {
          at: `${file}:${line}`,
          reason: "an object has apiVersion, kind and metadata.name",
        });
      const metadata = clusterWide.has(object.kind) ? object.metadata : { namespace, ...object.metadata };
      return { object: { ...object, metadata }, file, line };
    });
  });
}
