/** The cluster DNS of the lab, as it runs in every node's process: cluster.local from Services and EndpointSlices. */
import {
  type ConfigMap,
  configMaps,
  type EndpointSlice,
  endpointSlices,
  type KubeObject,
  namespaces,
  type Service,
  serviceNameLabel,
  services,
} from "../../api/index.ts";
import { derive, Engine, index } from "../../collections/index.ts";
import { createDnsServer, type DnsRecord, Zones } from "../../dns/index.ts";
import { type KubeClient, reflect, watchSource } from "../../kube/index.ts";
import type { World } from "../../world/index.ts";
import { dnsServiceName, dnsServiceNamespace } from "./install.ts";
import { computedRecords, serviceRecords } from "./records.ts";
import { stubRules } from "./stubs.ts";

export interface NodeDnsOptions {
  world: World;
  /** May list and watch Services, EndpointSlices, Namespaces, and the ConfigMap kube-system/kube-dns. */
  client: KubeClient;
  /** `cluster.local` unless the cluster has a domain of its own. */
  clusterDomain: string;
  /** What to listen on: the node's address. */
  address: string;
  /** 53 unless told; 0 takes a free one. */
  port?: number;
  /** Who is asked about names of the outside world; nobody unless told, and then they do not exist. */
  upstream?: readonly string[];
  /** Seconds that answers may be kept; 5 unless told, as CoreDNS. */
  ttl?: number;
  /** Told of what is wrong in the ConfigMap. Printed unless told. */
  onProblem?: (problem: string) => void;
  onBug?: (error: unknown) => void;
}

export interface NodeDns {
  readonly address: string;
  readonly port: number;
  /** Resolves once every name is known. Until then names that are not known yet get SERVFAIL. */
  readonly synced: Promise<void>;
  close(): Promise<void>;
}

/** What a Kubernetes DNS server says about the specification that it follows. */
const schemaVersion = "1.1.0";

/** Resolves when the port is open; rejects when it cannot be had. */
export async function startNodeDns(options: NodeDnsOptions): Promise<NodeDns> {
  const { world, client, clusterDomain: domain, address, port = 53, upstream = [], ttl = 5 } = options;
  const onBug = options.onBug ?? ((error) => console.error("dns:", error));
  const onProblem =
    options.onProblem ?? ((problem) => console.error(`dns: kube-system/kube-dns: ${problem}`));
  const naming = { domain, ttl };
  const end = new AbortController();
  const { signal } = end;

  const engine = new Engine({ world, onBug });
  const allServices = watchSource(engine, client, services, { signal, transform: leanService });
  const allSlices = watchSource(engine, client, endpointSlices, {
    signal,
    labelSelector: serviceNameLabel,
    transform: leanSlice,
  });
  const allNamespaces = watchSource(engine, client, namespaces, { signal, transform: nameOnly });
  const slicesByService = index(
    allSlices,
    ({ metadata }) => `${metadata.namespace}/${metadata.labels?.[serviceNameLabel]}`,
    { name: "slices by service" },
  );
  const records = derive(
    allServices,
    (service, read): DnsRecord[] | undefined => {
      const { namespace, name } = service.metadata;
      const made = serviceRecords(service, read.all(slicesByService, `${namespace}/${name}`), naming);
      return made.length > 0 ? made : undefined;
    },
    { name: "records" },
  );

  const sources = [allServices, allSlices, allNamespaces];
  const ready = () => sources.every(({ state }) => state === "synced");
  const namespaceExists = (namespace: string) => allNamespaces.has(namespace);
  const zones = new Zones();
  zones.add({
    name: domain,
    negativeTtl: ttl,
    ready,
    computed: (name) => computedRecords(name, namespaceExists, naming),
    nameServers: () => {
      const service = allServices.get(`${dnsServiceNamespace}/${dnsServiceName}`);
      const addresses = service?.spec?.clusterIPs ?? [];
      const name = `${dnsServiceName}.${dnsServiceNamespace}.svc.${domain}`;
      return addresses.length > 0 ? [{ name, addresses }] : [];
    },
  });
  // Most addresses of the world are not this cluster's: they fall through to whoever knows.
  for (const name of ["in-addr.arpa", "ip6.arpa"]) {
    zones.add({ name, negativeTtl: ttl, ready, fallthrough: true });
  }
  zones.put({ name: `dns-version.${domain}`, type: "TXT", ttl: 28_800, data: schemaVersion });
  zones.follow(records);

  const server = createDnsServer({ world, zones, onBug, forward: stubRules(undefined, upstream).rules });
  const applyConfig = (config: ConfigMap | undefined) => {
    const { rules, problems } = stubRules(config, upstream);
    for (const problem of problems) onProblem(problem);
    server.forward(rules);
  };
  const configured = Promise.withResolvers<void>();
  reflect(
    client,
    configMaps,
    {
      replace: (objects) => applyConfig(objects[0]),
      put: applyConfig,
      remove: () => applyConfig(undefined),
      synced: configured.resolve,
    },
    { signal, namespace: dnsServiceNamespace, fieldSelector: `metadata.name=${dnsServiceName}` },
  );

  const synced = configured.promise.then(
    () =>
      new Promise<void>((resolve) => {
        const check = () => {
          if (!ready()) return;
          for (const end of ends) end();
          resolve();
        };
        const ends = sources.map((source) => source.subscribe(check));
        check();
      }),
  );
  try {
    const bound = await server.listen({ address, port });
    return {
      ...bound,
      synced,
      async close() {
        end.abort();
        await server.close();
      },
    };
  } catch (error) {
    end.abort();
    throw error;
  }
}

/** A node keeps every Service and slice of its cluster: of each, only what names are made from. */
function leanMeta({
  name,
  namespace,
  labels,
  uid,
  resourceVersion,
}: KubeObject["metadata"]): KubeObject["metadata"] {
  const service = labels?.[serviceNameLabel];
  return {
    name,
    ...(namespace !== undefined && { namespace }),
    ...(service !== undefined && { labels: { [serviceNameLabel]: service } }),
    ...(uid !== undefined && { uid }),
    ...(resourceVersion !== undefined && { resourceVersion }),
  };
}

function leanService({ apiVersion, kind, metadata, spec = {} }: Service): Service {
  const { type, clusterIP, clusterIPs, externalName, ports } = spec;
  return {
    apiVersion,
    kind,
    metadata: leanMeta(metadata),
    spec: {
      ...(type !== undefined && { type }),
      ...(clusterIP !== undefined && { clusterIP }),
      ...(clusterIPs !== undefined && { clusterIPs }),
      ...(externalName !== undefined && { externalName }),
      ...(ports !== undefined && { ports }),
    },
  };
}

function leanSlice({
  apiVersion,
  kind,
  metadata,
  addressType,
  ports,
  endpoints,
}: EndpointSlice): EndpointSlice {
  return {
    apiVersion,
    kind,
    metadata: leanMeta(metadata),
    addressType,
    ...(ports && {
      ports: ports.map(({ name, port, protocol }) => ({ name, port, protocol }) as (typeof ports)[0]),
    }),
    endpoints: (endpoints ?? []).map(({ addresses, hostname, conditions }) => ({
      addresses,
      ...(hostname !== undefined && { hostname }),
      ...(conditions?.ready !== undefined && { conditions: { ready: conditions.ready } }),
    })),
  };
}

function nameOnly<T extends KubeObject>({ apiVersion, kind, metadata }: T): T {
  return { apiVersion, kind, metadata: leanMeta(metadata) } as T;
}
