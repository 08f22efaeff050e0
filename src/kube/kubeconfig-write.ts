/** Adding contexts to a person's kubeconfig and taking them out again, with everything else left as it is. */
import { randomUUID } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import type { Document, YAMLMap, YAMLSeq } from "yaml";
import { realWorld, sleep, type World } from "../world/index.ts";
import type { Credentials } from "./https.ts";
import { invalid, kubeconfigFiles, yaml, yamlFault } from "./kubeconfig.ts";

/** A context to add; its cluster and its user get the same name. */
export interface NewContext {
  name: string;
  credentials: Credentials;
  namespace?: string;
}

/** What we note in a context of ours so that taking it out can undo what adding it did. */
interface Note {
  /** `current-context` before us; null when the file had none. */
  previousContext: string | null;
  /** The file was not there before us. */
  created: boolean;
  /** Nor was its directory. */
  directory?: boolean;
}

const noteName = "weft.dev";
const lists = ["clusters", "contexts", "users"] as const;

/** The file that kubectl itself would write to: of a list the first that exists, or else the last. */
export function kubeconfigToWrite(explicit?: string, environment: NodeJS.ProcessEnv = process.env): string {
  const files = kubeconfigFiles(explicit, environment);
  return files.find((file) => existsSync(file)) ?? files.at(-1)!;
}

/**
 * Adds or replaces contexts and makes the first of them the current one. Comments, order and all other entries
 * stay. Throws WeftError KUBECONFIG_INVALID and changes nothing when the file cannot be read as a kubeconfig.
 */
export async function mergeContexts(
  file: string,
  contexts: readonly NewContext[],
  world: World = realWorld(),
): Promise<void> {
  await edit(file, world, (document, { created, directory }) => {
    if (!document.has("apiVersion")) document.set("apiVersion", "v1");
    if (!document.has("kind")) document.set("kind", "Config");
    // When we are the ones who set it, what was there before us is in our note.
    const current = (document.get("current-context") as string | undefined) ?? null;
    const note = noteOf(document, current) ?? { previousContext: current, created, directory };
    for (const { name, credentials, namespace } of contexts) {
      put(document, "clusters", { cluster: clusterOf(credentials), name });
      put(document, "contexts", {
        context: {
          cluster: name,
          extensions: [{ extension: note, name: noteName }],
          ...(namespace && { namespace }),
          user: name,
        },
        name,
      });
      put(document, "users", { name, user: userOf(credentials) });
    }
    if (contexts[0]) document.set("current-context", contexts[0].name);
    return true;
  });
}

/**
 * Takes contexts out, with the clusters and users of the same names. Was one of them current, the context that
 * was current before it is again. A file that Weft made and that is empty now is deleted, with
 * its directory if Weft made that too.
 */
export async function removeContexts(
  file: string,
  names: readonly string[],
  world: World = realWorld(),
): Promise<void> {
  if (!existsSync(file)) return;
  let removeDirectory = false;
  await edit(file, world, (document) => {
    const current = (document.get("current-context") as string | undefined) ?? null;
    const note = names.map((name) => noteOf(document, name)).find((note) => note !== undefined);
    let left = 0;
    for (const list of lists) {
      const items = document.get(list);
      if (!yaml().isSeq(items)) continue;
      items.items = items.items.filter((item) => !names.includes(nameOfItem(item)));
      left += items.items.length;
    }
    if (current !== null && names.includes(current)) {
      const previous = note?.previousContext ?? null;
      if (previous !== null && (previous === "" || find(document, "contexts", previous))) {
        document.set("current-context", previous);
      } else document.delete("current-context");
    }
    if (!note?.created || left > 0) return true;
    removeDirectory = note.directory ?? false;
    return false;
  });
  try {
    if (removeDirectory) rmdirSync(dirname(file));
  } catch {
    // Something else is in it by now.
  }
}

/** Reads, changes and writes the file under kubectl's lock. `change` returns false to delete the file. */
async function edit(
  named: string,
  world: World,
  change: (document: Document, made: { created: boolean; directory: boolean }) => boolean,
): Promise<void> {
  // A link to a file elsewhere stays a link.
  const file = existsSync(named) ? realpathSync(named) : named;
  const directory = mkdirSync(dirname(file), { recursive: true, mode: 0o700 }) !== undefined;
  const unlock = await lock(file, world);
  try {
    const created = !existsSync(file);
    const text = created ? "" : readFileSync(file, "utf8");
    const document = yaml().parseDocument(text);
    const [error] = document.errors;
    if (error) throw invalid(file, yamlFault(error), error);
    if (document.contents === null) document.contents = document.createNode({}) as never;
    if (!yaml().isMap(document.contents)) throw invalid(file, "it is not a mapping");
    if (!change(document, { created, directory })) {
      rmSync(file);
      return;
    }
    // kubectl writes lists without indentation, people with: as the file has it.
    const indentSeq = /^(clusters|contexts|users):\s*\n +- /m.test(text);
    const temporary = `${file}.${randomUUID()}`;
    const mode = created ? 0o600 : statSync(file).mode & 0o777;
    writeFileSync(temporary, document.toString({ lineWidth: 0, indentSeq }), { mode });
    renameSync(temporary, file);
  } finally {
    unlock();
  }
}

/** kubectl's own lock (client-go `tools/clientcmd/config.go`): a file that only one can make. */
async function lock(file: string, world: World): Promise<() => void> {
  const path = `${file}.lock`;
  for (const deadline = world.monotonic() + 5_000; ; await sleep(world, 50)) {
    try {
      writeFileSync(path, "", { flag: "wx", mode: 0o600 });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST")
        throw invalid(file, (error as Error).message, error);
      if (world.monotonic() >= deadline) {
        throw invalid(file, `it is locked; if no program is changing it, delete ${path}`, error);
      }
    }
  }
}

function put(
  document: Document,
  list: (typeof lists)[number],
  entry: { name: string } & Record<string, unknown>,
): void {
  let items = document.get(list);
  if (!yaml().isSeq(items) || items.items.length === 0) {
    // An empty list is often written `[]`, in which our entries would look odd.
    items = document.createNode([]) as YAMLSeq;
    document.set(list, items);
  }
  const seq = items as YAMLSeq;
  const node = document.createNode(entry);
  const index = seq.items.findIndex((item) => nameOfItem(item) === entry.name);
  if (index < 0) seq.items.push(node);
  else seq.items[index] = node;
}

function find(document: Document, list: (typeof lists)[number], name: string): YAMLMap | undefined {
  const items = document.get(list);
  if (!yaml().isSeq(items)) return undefined;
  return items.items.find((item) => nameOfItem(item) === name) as YAMLMap | undefined;
}

function nameOfItem(item: unknown): string {
  return yaml().isMap(item) ? String(item.get("name") ?? "") : "";
}

function noteOf(document: Document, context: string | null): Note | undefined {
  const found = context === null ? undefined : find(document, "contexts", context);
  const { context: fields } = (found?.toJSON() ?? {}) as {
    context?: { extensions?: { name?: string; extension?: Note }[] };
  };
  return fields?.extensions?.find(({ name }) => name === noteName)?.extension;
}

const base64 = (data: string | Uint8Array) => Buffer.from(data).toString("base64");

function clusterOf({ ca, server, tlsServerName, insecure }: Credentials): object {
  return {
    ...(ca !== undefined && { "certificate-authority-data": base64(ca) }),
    ...(insecure && { "insecure-skip-tls-verify": true }),
    server,
    ...(tlsServerName && { "tls-server-name": tlsServerName }),
  };
}

function userOf({ cert, key, token, basic }: Credentials): object {
  return {
    ...(cert !== undefined && { "client-certificate-data": base64(cert) }),
    ...(key !== undefined && { "client-key-data": base64(key) }),
    ...(token !== undefined && { token: typeof token === "function" ? token() : token }),
    ...basic,
  };
}

/** A kubeconfig of its own with these contexts, e.g. for a peer's Secret; the first is the current one. */
export function kubeconfigText(contexts: readonly NewContext[]): string {
  return yaml().stringify(
    {
      apiVersion: "v1",
      kind: "Config",
      clusters: contexts.map(({ name, credentials }) => ({ name, cluster: clusterOf(credentials) })),
      users: contexts.map(({ name, credentials }) => ({ name, user: userOf(credentials) })),
      contexts: contexts.map(({ name, namespace }) => ({
        name,
        context: { cluster: name, user: name, ...(namespace && { namespace }) },
      })),
      ...(contexts[0] && { "current-context": contexts[0].name }),
    },
    { lineWidth: 0 },
  );
}
