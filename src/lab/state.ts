/**
 * The lab's directory, `~/.weft/lab` (`WEFT_HOME` stands for `~/.weft`): what a running lab consists of, its
 * sockets, its clusters' keys and data. It exists while a lab runs, and after `weft down --keep`; it is readable
 * by its user only.
 */
import { mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { LabSpec } from "./spec.ts";

/** A certificate and its private key, PEM. */
export interface KeyPair {
  cert: string;
  key: string;
}

/** What an API server needs to prove who it is and to know its callers. */
export interface ClusterPki {
  /** Signs everything below; clients are given its certificate. */
  ca: KeyPair;
  /** The API server's own: for 127.0.0.1, its backbone address and the names of the Service `kubernetes`. */
  serving: KeyPair;
  /** `kubernetes-admin` of `system:masters`: what the kubeconfig of a person holds. */
  admin: KeyPair;
  /** With which the API server calls kubelets. */
  kubeletClient: KeyPair;
  /** Signs and checks ServiceAccount tokens (ES256). PKCS #8 and SPKI, PEM. */
  serviceAccount: { privateKey: string; publicKey: string };
}

/** What a kubelet needs. */
export interface NodePki {
  /** Certificate of the cluster's CA, PEM. */
  ca: string;
  /** `system:node:NAME` of `system:nodes`, to call the API server. */
  client: KeyPair;
  /** For port 10250. */
  serving: KeyPair;
}

/** What the lab's processes are told; written once by `weft up`. */
export interface LabRecord {
  spec: LabSpec;
  /** Port on 127.0.0.1 of each cluster's API server, by cluster name. */
  ports: Record<string, number>;
  /** The process of `weft up`. Until the lab listens, a directory whose launcher is gone is a stale one. */
  launcher: number;
  /** The kubeconfig that has the lab's contexts. */
  kubeconfig: string;
  /** Envoy's program, where this machine has it: pods find it as `envoy`. */
  envoy?: string;
  /** The directory, below the checkout, of what our own image runs in pods; absent: its sources. */
  bundle?: string;
  /** RFC 3339. */
  started: string;
  /** It was ended by `weft down --keep`; true until the next `weft up` has brought it back. */
  kept?: boolean;
}

/** `~/.weft`, or what WEFT_HOME names. Things that outlive a lab (added images) are in it. */
export function weftHome(): string {
  return process.env.WEFT_HOME || join(homedir(), ".weft");
}

/** The images that the user added (`weft image add`). They outlive the lab. */
export function imagesFile(): string {
  return join(weftHome(), "images.json");
}

/** The kubeconfig context of a lab's cluster. */
export const contextName = (cluster: string) => `weft-${cluster}`;

/** Where everything of the running lab is. */
export class LabState {
  readonly dir: string;

  constructor(dir = join(weftHome(), "lab")) {
    this.dir = dir;
  }

  /** JSON lines: see `client.ts`. */
  get socket(): string {
    return join(this.dir, "lab.sock");
  }
  get log(): string {
    return join(this.dir, "lab.log");
  }
  /** Where the log of a lab that did not start is kept; everything else of it goes. */
  get failedLog(): string {
    return `${this.dir}.log`;
  }
  /** The process that holds the lab's namespaces, as the host numbers it. When it is gone, the lab is. */
  get pidFile(): string {
    return join(this.dir, "lab.pid");
  }
  get recordFile(): string {
    return join(this.dir, "lab.json");
  }
  clusterDir(cluster: string): string {
    return join(this.dir, cluster);
  }
  /** The API server of a cluster, HTTPS; relayed to from 127.0.0.1. */
  apiSocket(cluster: string): string {
    return join(this.dir, cluster, "api.sock");
  }
  databaseFile(cluster: string): string {
    return join(this.dir, cluster, "data.db");
  }
  nodeDir(cluster: string, node: string): string {
    return join(this.dir, cluster, "nodes", node);
  }

  /** Where the kubelet mounts a tmpfs: its containers, and what is true only as long as the lab runs. */
  nodeRunDir(cluster: string, node: string): string {
    return join(this.nodeDir(cluster, node), "run");
  }

  /** Which port of 127.0.0.1 is whose load balancer's. */
  get relaysFile(): string {
    return join(this.dir, "relays.json");
  }

  create(record: LabRecord): void {
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    rmSync(this.failedLog, { force: true });
    for (const cluster of record.spec.clusters) {
      mkdirSync(this.clusterDir(cluster.name), { recursive: true, mode: 0o700 });
      for (const node of cluster.nodes) {
        mkdirSync(this.nodeDir(cluster.name, node.name), { recursive: true, mode: 0o700 });
      }
    }
    this.#write(record);
  }

  #write(record: LabRecord): void {
    const next = `${this.recordFile}.next`;
    writeFileSync(next, JSON.stringify(record, undefined, 2), { mode: 0o600 });
    renameSync(next, this.recordFile);
  }

  /** Undefined when there is no lab's directory. */
  read(): LabRecord | undefined {
    try {
      return JSON.parse(readFileSync(this.recordFile, "utf8")) as LabRecord;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  /** Leaves what `weft up` needs to bring the same clusters back, and takes away what is true of a running lab only. */
  keep(): void {
    const record = this.read();
    if (!record) return;
    this.#write({ ...record, launcher: 0, kept: true });
    const sockets = record.spec.clusters.map(({ name }) => this.apiSocket(name));
    for (const file of [this.socket, this.pidFile, this.log, ...sockets]) rmSync(file, { force: true });
  }

  /** A lab that was kept is back. */
  resumed(): void {
    const { kept: _, ...record } = this.read()!;
    this.#write(record);
  }

  /** Takes the directory away, and `~/.weft` too when nothing else is in it. */
  remove(): void {
    // A process that is about to end may still make a file: then it is tried again, for half a second in all.
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 10 });
    try {
      rmdirSync(dirname(this.dir));
    } catch {
      // Something else is in it, or it is not there.
    }
  }

  /** Puts the log aside, as `failedLog`: the directory is about to go. */
  saveLog(): void {
    try {
      renameSync(this.log, this.failedLog);
    } catch {
      // There is none.
    }
  }

  writeClusterPki(cluster: string, pki: ClusterPki): void {
    const dir = this.clusterDir(cluster);
    for (const name of ["ca", "serving", "admin", "kubeletClient"] as const) {
      writePair(dir, clusterFiles[name], pki[name]);
    }
    writePem(join(dir, "sa.key"), pki.serviceAccount.privateKey);
    writePem(join(dir, "sa.pub"), pki.serviceAccount.publicKey);
  }

  readClusterPki(cluster: string): ClusterPki {
    const dir = this.clusterDir(cluster);
    return {
      ca: readPair(dir, clusterFiles.ca),
      serving: readPair(dir, clusterFiles.serving),
      admin: readPair(dir, clusterFiles.admin),
      kubeletClient: readPair(dir, clusterFiles.kubeletClient),
      serviceAccount: {
        privateKey: readFileSync(join(dir, "sa.key"), "utf8"),
        publicKey: readFileSync(join(dir, "sa.pub"), "utf8"),
      },
    };
  }

  writeNodePki(cluster: string, node: string, pki: NodePki): void {
    const dir = this.nodeDir(cluster, node);
    writePair(dir, "client", pki.client);
    writePair(dir, "kubelet", pki.serving);
  }

  readNodePki(cluster: string, node: string): NodePki {
    const dir = this.nodeDir(cluster, node);
    return {
      ca: readFileSync(join(this.clusterDir(cluster), "ca.crt"), "utf8"),
      client: readPair(dir, "client"),
      serving: readPair(dir, "kubelet"),
    };
  }
}

const clusterFiles = {
  ca: "ca",
  serving: "apiserver",
  admin: "admin",
  kubeletClient: "apiserver-kubelet-client",
} as const;

function writePem(file: string, pem: string): void {
  writeFileSync(file, pem.endsWith("\n") ? pem : `${pem}\n`, { mode: 0o600 });
}

function writePair(dir: string, name: string, pair: KeyPair): void {
  writePem(join(dir, `${name}.crt`), pair.cert);
  writePem(join(dir, `${name}.key`), pair.key);
}

function readPair(dir: string, name: string): KeyPair {
  return {
    cert: readFileSync(join(dir, `${name}.crt`), "utf8"),
    key: readFileSync(join(dir, `${name}.key`), "utf8"),
  };
}
