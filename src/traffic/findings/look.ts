import type { MeshSettings } from "../../api/index.ts";
import type { PolicyTarget } from "../authorization.ts";
import type { Credential } from "../credentials.ts";
import type { Server } from "../gateways.ts";
import type { MeshService } from "../registry.ts";
import type { MergedRule, Rule } from "../rules.ts";
import type { HostRules } from "../virtual-services.ts";
import type { Workload } from "../workloads.ts";

/** What findings are made from besides the object itself: reads of other collections. */
export interface Look {
  mesh: MeshSettings;
  /** A service by its full host, or one whose wildcard host covers it. */
  service(host: string, client: string): MeshService | undefined;
  rule(host: string, service: MeshService | undefined, client: string): MergedRule | undefined;
  /** Rules for exactly this host. */
  rulesOf(host: string): readonly Rule[];
  virtualService(key: string): { isDelegate: boolean } | undefined;
  gateway(
    key: string,
  ): { servers: readonly Server[]; selector: Readonly<Record<string, string>> } | undefined;
  /** Who speaks for a host among those that sidecars of a namespace see. */
  winner(host: string, client: string): HostRules | undefined;
  /** Whether what a policy is for is there, and ours. */
  target(namespace: string, target: PolicyTarget): boolean;
  /** Secrets of the mesh's namespace, by `namespace/name`; absent where nobody knows them. */
  credentials?: {
    /** Whether one that is not found is missing. */
    all: boolean;
    get(name: string): Credential | undefined;
    reached(time: number): boolean;
  };
  pods(namespace: string): readonly Workload[];
  services(): readonly MeshService[];
  /** Gateways that select pods with these labels or fewer, by key. */
  gateways(): readonly {
    key: string;
    servers: readonly Server[];
    selector: Readonly<Record<string, string>>;
  }[];
}
