/**
 * Reading kubeconfig files: what kubectl reads (client-go `tools/clientcmd`), as far as Weft needs it.
 * `kubeconfig-write.ts` writes them.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { WeftError } from "../api/index.ts";
import type { Credentials } from "./https.ts";

/** One context: a cluster, a user, a namespace. */
export interface KubeContext {
  name: string;
  cluster: string;
  user: string | undefined;
  /** Default namespace; `default` when the file names none. */
  namespace: string;
}

export interface Kubeconfig {
  /** Undefined when no file names one. */
  currentContext: string | undefined;
  contexts: KubeContext[];
  /** The context of that name, the current one when left out. Throws WeftError CONTEXT_UNKNOWN. */
  context(name?: string): KubeContext;
  /** What it takes to speak to a context's API server. Throws WeftError KUBECONFIG_INVALID. */
  credentials(context?: string): Credentials;
}

type Fields = Record<string, unknown>;

/** An entry with the file it came from, against whose directory its relative paths are read; none are, without. */
interface Entry {
  fields: Fields;
  file: string;
  directory: string | undefined;
}

/** YAML is needed only where a kubeconfig is read, and takes longer to load than the rest of the room. */
export function yaml(): typeof import("yaml") {
  return createRequire(import.meta.url)("yaml") as typeof import("yaml");
}

/** The files that a kubeconfig is read from: the given one, those of $KUBECONFIG, or ~/.kube/config. */
export function kubeconfigFiles(explicit?: string, environment: NodeJS.ProcessEnv = process.env): string[] {
  if (explicit) return [explicit];
  const listed = (environment.KUBECONFIG ?? "").split(":").filter((file) => file !== "");
  return listed.length > 0 ? [...new Set(listed)] : [join(environment.HOME || homedir(), ".kube", "config")];
}

/**
 * Loads and merges kubeconfig files as kubectl does: of two entries of one name the first counts, files of a
 * list that do not exist count as empty, an explicit file must exist.
 */
export function loadKubeconfig(explicit?: string, environment: NodeJS.ProcessEnv = process.env): Kubeconfig {
  const files = kubeconfigFiles(explicit, environment).filter((file) => explicit || existsSync(file));
  return merged(
    files.map((file) => {
      try {
        return { file, directory: dirname(resolve(file)), fields: parse(readFileSync(file, "utf8"), file) };
      } catch (error) {
        throw error instanceof WeftError ? error : invalid(file, (error as Error).message, error);
      }
    }),
  );
}

/**
 * Reads a kubeconfig from a string, e.g. a peer's Secret; `origin` is what errors call it. It has to hold all that
 * it needs: files that it names are not ours to read, let alone to send to the server that it names.
 */
export function parseKubeconfig(text: string, origin: string): Kubeconfig {
  return merged([{ file: origin, directory: undefined, fields: parse(text, origin) }]);
}

function parse(text: string, file: string): Fields {
  let fields: unknown;
  try {
    fields = yaml().parse(text);
  } catch (error) {
    throw invalid(file, yamlFault(error), error);
  }
  if (fields === null || fields === undefined) return {};
  if (typeof fields !== "object" || Array.isArray(fields)) throw invalid(file, "it is not a mapping");
  const { kind, apiVersion } = fields as Fields;
  if (kind !== undefined && kind !== "Config") throw invalid(file, `its kind is ${kind}, not Config`);
  if (apiVersion !== undefined && apiVersion !== "v1")
    throw invalid(file, `its apiVersion is ${apiVersion}, not v1`);
  return fields as Fields;
}

function merged(files: Entry[]): Kubeconfig {
  const clusters = entries(files, "clusters", "cluster");
  const users = entries(files, "users", "user");
  const contexts = new Map<string, KubeContext>();
  for (const [name, { fields, file }] of entries(files, "contexts", "context")) {
    contexts.set(name, {
      name,
      cluster: string(fields, "cluster", file) ?? "",
      user: string(fields, "user", file),
      namespace: string(fields, "namespace", file) ?? "default",
    });
  }
  const origin = files.map(({ file }) => file).join(":") || "the kubeconfig";
  const currentContext = files
    .map(({ fields, file }) => string(fields, "current-context", file))
    .find(Boolean);

  const context = (name = currentContext): KubeContext => {
    const found = name === undefined ? undefined : contexts.get(name);
    if (found) return found;
    const known = [...contexts.keys()].join(", ") || "none";
    throw new WeftError("CONTEXT_UNKNOWN", { context: name ?? "", known });
  };
  return {
    currentContext,
    contexts: [...contexts.values()],
    context,
    credentials(name) {
      const of = context(name);
      const cluster = clusters.get(of.cluster);
      if (!cluster)
        throw invalid(origin, `context '${of.name}' names the cluster '${of.cluster}', which is not there`);
      const user = of.user ? users.get(of.user) : undefined;
      if (of.user && !user)
        throw invalid(origin, `context '${of.name}' names the user '${of.user}', which is not there`);
      return { ...clusterCredentials(cluster), ...(user && userCredentials(user, of.user!)) };
    },
  };
}

/** The named entries of one of the three lists; the first of a name counts. */
function entries(files: Entry[], list: string, field: string): Map<string, Entry> {
  const found = new Map<string, Entry>();
  for (const { file, directory, fields } of files) {
    const items = fields[list] ?? [];
    if (!Array.isArray(items)) throw invalid(file, `${list} is not a list`);
    for (const item of items as Fields[]) {
      if (typeof item?.name !== "string") throw invalid(file, `an entry of ${list} has no name`);
      const value = item[field] ?? {};
      if (typeof value !== "object") throw invalid(file, `${list} '${item.name}' has no ${field}`);
      if (!found.has(item.name)) found.set(item.name, { file, directory, fields: value as Fields });
    }
  }
  return found;
}

function clusterCredentials(entry: Entry): Credentials {
  const { fields, file } = entry;
  const server = string(fields, "server", file);
  if (!server) throw invalid(file, "a cluster has no server");
  if (!URL.canParse(server)) throw invalid(file, `the server '${server}' is no URL`);
  if (string(fields, "proxy-url", file)) throw invalid(file, "proxy-url is not supported");
  const ca = pem(entry, "certificate-authority");
  const tlsServerName = string(fields, "tls-server-name", file);
  return {
    server,
    ...(ca && { ca }),
    ...(tlsServerName && { tlsServerName }),
    ...(fields["insecure-skip-tls-verify"] === true && { insecure: true }),
  };
}

function userCredentials(entry: Entry, user: string): Partial<Credentials> {
  const { fields, file } = entry;
  for (const field of ["exec", "auth-provider"]) {
    if (fields[field] && !fields.token && !fields["client-certificate-data"]) {
      throw invalid(
        file,
        `user '${user}' signs in with a plugin (${field}), which Weft does not run; use a token or a client certificate`,
      );
    }
  }
  const cert = pem(entry, "client-certificate");
  const key = pem(entry, "client-key");
  if ((cert === undefined) !== (key === undefined)) {
    throw invalid(file, `user '${user}' has only one of client-certificate and client-key`);
  }
  const tokenFile = string(fields, "tokenFile", file);
  const token = tokenFile
    ? tokenFromFile(pathOf(entry, "tokenFile", tokenFile))
    : string(fields, "token", file);
  const username = string(fields, "username", file);
  return {
    ...(cert && key && { cert, key }),
    ...(token && { token }),
    ...(username && { basic: { username, password: string(fields, "password", file) ?? "" } }),
  };
}

/** `<field>-data` in base64, or the file that `<field>` names. */
function pem(entry: Entry, field: string): string | undefined {
  const { fields, file } = entry;
  const data = string(fields, `${field}-data`, file);
  if (data) {
    const text = Buffer.from(data, "base64").toString("utf8");
    if (!text.includes("-----BEGIN ")) throw invalid(file, `${field}-data is not PEM in base64`);
    return text;
  }
  const path = string(fields, field, file);
  if (!path) return undefined;
  try {
    return readFileSync(pathOf(entry, field, path), "utf8");
  } catch (error) {
    if (error instanceof WeftError) throw error;
    throw invalid(file, `${field}: ${(error as Error).message}`, error);
  }
}

function pathOf({ file, directory }: Entry, field: string, path: string): string {
  if (directory === undefined)
    throw invalid(file, `${field} names a file (${path}); only what it holds itself is used`);
  return resolve(directory, path);
}

/** A token that is read again when its file changes, as kubelets renew projected tokens. */
export function tokenFromFile(file: string): () => string {
  let token = "";
  let version = "";
  return () => {
    try {
      const { mtimeMs, ino } = statSync(file);
      // Projected volumes swap a symbolic link: another inode, perhaps the same time.
      if (version !== `${mtimeMs} ${ino}`) {
        token = readFileSync(file, "utf8").trim();
        version = `${mtimeMs} ${ino}`;
      }
    } catch (error) {
      // While the file is being swapped the last token is still good.
      if (token === "") throw error;
    }
    return token;
  };
}

const serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The credentials of the pod that this process runs in. Throws WeftError KUBECONFIG_INVALID outside of one. */
export function inClusterCredentials(
  environment: NodeJS.ProcessEnv = process.env,
  directory = serviceAccountDirectory,
): Credentials & { namespace: string } {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = environment;
  if (!host || !port) throw invalid(directory, "this process does not run in a pod");
  try {
    const token = tokenFromFile(join(directory, "token"));
    token();
    return {
      server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
      ca: readFileSync(join(directory, "ca.crt"), "utf8"),
      token,
      namespace: readFileSync(join(directory, "namespace"), "utf8").trim(),
    };
  } catch (error) {
    throw invalid(directory, (error as Error).message, error);
  }
}

function string(fields: Fields, name: string, file: string): string | undefined {
  const value = fields[name];
  if (value === undefined || value === null || value === "") return undefined;
  if (typeof value !== "string") throw invalid(file, `${name} is not a string`);
  return value;
}

/** What the YAML parser found, without the lines of the file that it shows after that: they may be secret. */
export function yamlFault(error: unknown): string {
  return (error as Error).message.split("\n")[0]?.replace(/:$/, "") || "no YAML";
}

export function invalid(file: string, reason: string, cause?: unknown): WeftError {
  return new WeftError("KUBECONFIG_INVALID", { file, reason }, cause);
}
