/** A container's environment, as the kubelet makes it. Source: kubernetes `pkg/kubelet/kubelet_pods.go`. */
import type { Container, Pod, Service } from "../../api/index.ts";

export type Variables = [name: string, value: string][];

/** What `valueFrom` and `envFrom` refer to. Undefined for what is not there. */
export interface EnvSources {
  configMap(name: string): Record<string, string> | undefined;
  /** Decoded. */
  secret(name: string): Record<string, string> | undefined;
  fieldRef(path: string): string;
  resourceFieldRef(selector: { resource: string; containerName?: string; divisor?: unknown }): string;
}

/** Something that the environment refers to is not there: the container waits with CreateContainerConfigError. */
export class ConfigError extends Error {}

/**
 * The variables of a container: of the image, of services, of `envFrom` and of `env`, later ones winning.
 * Throws ConfigError where a reference that is not optional leads nowhere.
 */
export function makeEnvironment(
  container: Container,
  image: Variables,
  services: Variables,
  sources: EnvSources,
): Variables {
  const known = new Map<string, string>([...image, ...services]);
  for (const { configMapRef, secretRef, prefix = "" } of container.envFrom ?? []) {
    const ref = configMapRef ?? secretRef;
    if (!ref?.name) continue;
    const values = configMapRef ? sources.configMap(ref.name) : sources.secret(ref.name);
    if (!values) {
      if (ref.optional) continue;
      throw new ConfigError(`${configMapRef ? "configmap" : "secret"} "${ref.name}" not found`);
    }
    for (const [name, value] of Object.entries(values)) known.set(prefix + name, value);
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    const resolved = valueFrom ? fromSource(valueFrom, sources) : expand(value ?? "", known);
    if (resolved === undefined) continue;
    known.set(name, resolved);
  }
  return [...known];
}

type ValueFrom = NonNullable<NonNullable<Container["env"]>[number]["valueFrom"]>;

function fromSource(source: ValueFrom, sources: EnvSources): string | undefined {
  const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef } = source;
  if (fieldRef) return sources.fieldRef(fieldRef.fieldPath);
  if (resourceFieldRef) return sources.resourceFieldRef(resourceFieldRef);
  const ref = configMapKeyRef ?? secretKeyRef;
  if (!ref) return undefined;
  const kind = configMapKeyRef ? "configmap" : "secret";
  const name = ref.name ?? "";
  const values = configMapKeyRef ? sources.configMap(name) : sources.secret(name);
  const value = values?.[ref.key];
  if (value !== undefined || ref.optional) return value;
  if (!values) throw new ConfigError(`${kind} "${name}" not found`);
  throw new ConfigError(
    `couldn't find key ${ref.key} in ${configMapKeyRef ? "ConfigMap" : "Secret"} ${name}`,
  );
}

/**
 * Replaces `$(NAME)` by the variable of that name; `$$` stands for `$`, and what names no variable stays as it is.
 * Source: kubernetes `third_party/forked/golang/expansion/expand.go`.
 */
export function expand(text: string, variables: ReadonlyMap<string, string>): string {
  return text.replace(/\$(\$|\(([^)]*)\))/g, (whole, what: string, name: string | undefined) => {
    if (what === "$") return "$";
    return variables.get(name!) ?? whole;
  });
}

/**
 * Variables that tell a pod of services (Docker links style). The services of the pod's namespace when it wants
 * them, and always `default/kubernetes`. Source: kubernetes `pkg/kubelet/envvars/envvars.go`.
 */
export function serviceVariables(pod: Pod, services: readonly Service[]): Variables {
  const namespace = pod.metadata.namespace;
  const links = pod.spec.enableServiceLinks ?? true;
  const chosen = new Map<string, Service>();
  for (const service of services) {
    const { name } = service.metadata;
    if (!service.spec?.clusterIP || service.spec.clusterIP === "None") continue;
    const isApi = service.metadata.namespace === "default" && name === "kubernetes";
    if (isApi && !chosen.has(name)) chosen.set(name, service);
    else if (links && service.metadata.namespace === namespace) chosen.set(name, service);
  }
  return [...chosen.values()]
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .flatMap((service) => variablesOf(service));
}

function variablesOf(service: Service): Variables {
  const prefix = service.metadata.name.toUpperCase().replaceAll("-", "_");
  const address = service.spec!.clusterIP!;
  const ports = service.spec!.ports ?? [];
  if (ports.length === 0) return [];
  const variables: Variables = [
    [`${prefix}_SERVICE_HOST`, address],
    [`${prefix}_SERVICE_PORT`, String(ports[0]!.port)],
  ];
  for (const { name, port } of ports) {
    if (name)
      variables.push([`${prefix}_SERVICE_PORT_${name.toUpperCase().replaceAll("-", "_")}`, String(port)]);
  }
  ports.forEach(({ port, protocol = "TCP" }, n) => {
    const url = `${protocol.toLowerCase()}://${address}:${port}`;
    const portPrefix = `${prefix}_PORT_${port}_${protocol}`;
    if (n === 0) variables.push([`${prefix}_PORT`, url]);
    variables.push(
      [portPrefix, url],
      [`${portPrefix}_PROTO`, protocol.toLowerCase()],
      [`${portPrefix}_PORT`, String(port)],
      [`${portPrefix}_ADDR`, address],
    );
  });
  return variables;
}
