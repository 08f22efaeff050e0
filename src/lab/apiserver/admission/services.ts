/**
 * Addresses and ports of Services. Source: Kubernetes `pkg/registry/core/service/storage/alloc.go`,
 * `pkg/registry/core/service/strategy.go` (values that an update leaves out are carried over).
 */
import { isIP } from "node:net";
import type { Core } from "../core.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { keyOf } from "../registry.ts";
import { type FieldError, forbidden, invalid as invalidField } from "../schema/index.ts";
import { internalError, invalid } from "../status.ts";
import type { Strategy } from "../strategies.ts";
import type { ServiceAddresses } from "./addresses.ts";

interface Port {
  protocol?: string;
  port: number;
  nodePort?: number;
}

interface Spec {
  type?: string;
  clusterIP?: string;
  clusterIPs?: string[];
  ipFamilies?: string[];
  ipFamilyPolicy?: string;
  ports?: Port[];
  allocateLoadBalancerNodePorts?: boolean;
  [field: string]: unknown;
}

const specOf = (object: ApiObject | undefined) => (asRecord(object?.spec) ?? {}) as Spec;
const kindOf = (spec: Spec) => spec.type ?? "ClusterIP";
const needsAddress = (spec: Spec) => kindOf(spec) !== "ExternalName";
const needsPorts = (spec: Spec) =>
  kindOf(spec) === "NodePort" ||
  (kindOf(spec) === "LoadBalancer" && spec.allocateLoadBalancerNodePorts !== false);

/** The hooks of Services in one cluster. */
export function serviceStrategy(addresses: ServiceAddresses): Strategy {
  return {
    prepareUpdate(_, object, current) {
      const next = specOf(object);
      const before = specOf(current);
      if (next.clusterIP !== before.clusterIP && String(next.clusterIPs) === String(before.clusterIPs)) {
        // A patch of the one field means both.
        if (next.clusterIP) next.clusterIPs = [next.clusterIP];
        else delete next.clusterIPs;
      }
      if (needsAddress(next) && needsAddress(before) && !next.clusterIP && !next.clusterIPs?.length) {
        next.clusterIP = before.clusterIP;
        next.clusterIPs = before.clusterIPs;
      }
      if (needsPorts(next) && needsPorts(before)) keepNodePorts(next, before);
      dropForType(next, before);
      object.spec = next;
    },
    allocate(core, object, current) {
      const spec = { ...specOf(object) };
      object.spec = spec;
      const errors = [
        ...allocateAddress(core, addresses, object, spec, current),
        ...allocatePorts(core, addresses, object, spec),
      ];
      if (errors.length > 0) throw invalid({ group: "", name: "Service" }, object.metadata.name, errors);
    },
    stored(_, before, after) {
      addresses.change(before, after);
    },
  };
}

const isExternal = (spec: Spec) => kindOf(spec) === "NodePort" || kindOf(spec) === "LoadBalancer";

/** What only another type has goes with it, unless the update says something else about it. */
function dropForType(next: Spec, before: Spec): void {
  const drop = (field: string) => {
    if (next[field] === before[field]) delete next[field];
  };
  if (isExternal(before) && !isExternal(next)) drop("externalTrafficPolicy");
  if (needsAddress(before) && !needsAddress(next)) drop("internalTrafficPolicy");
  if (kindOf(before) === "LoadBalancer" && kindOf(next) !== "LoadBalancer") {
    for (const field of ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"])
      drop(field);
  }
}

function allocateAddress(
  core: Core,
  addresses: ServiceAddresses,
  object: ApiObject,
  spec: Spec,
  current: ApiObject | undefined,
): FieldError[] {
  const before = specOf(current);
  if (!needsAddress(spec)) {
    // What was allocated before the type changed is given back.
    const unchanged = spec.clusterIP !== undefined && spec.clusterIP === before.clusterIP;
    if (spec.clusterIP && !unchanged)
      return [forbidden("spec.clusterIPs", "may not be set for ExternalName services")];
    delete spec.clusterIP;
    delete spec.clusterIPs;
    delete spec.ipFamilies;
    delete spec.ipFamilyPolicy;
    return [];
  }
  if (spec.ipFamilies?.includes("IPv6")) {
    return [
      invalidField(
        "spec.ipFamilies",
        spec.ipFamilies,
        "not configured on this cluster: it has IPv4 addresses only",
      ),
    ];
  }
  spec.clusterIP ||= spec.clusterIPs?.[0];
  if (spec.clusterIPs?.length && spec.clusterIP !== spec.clusterIPs[0]) {
    return [invalidField("spec.clusterIPs", spec.clusterIPs, "first value must match `clusterIP`")];
  }
  if (current && needsAddress(before) && before.clusterIP && spec.clusterIP !== before.clusterIP) {
    const detail = "may not change once set";
    return [invalidField("spec.clusterIPs[0]", spec.clusterIP ? [spec.clusterIP] : null, detail)];
  }
  if (!spec.clusterIP) {
    spec.clusterIP = addresses.pickAddress(core.world);
    if (!spec.clusterIP) throw internalError("failed to allocate a serviceIP: range is full");
  } else if (spec.clusterIP !== "None" && isIP(spec.clusterIP) !== 0) {
    const owner = addresses.ownerOf(spec.clusterIP);
    const problem = !addresses.inRange(spec.clusterIP)
      ? "the provided network does not match the current range"
      : owner !== undefined && owner !== keyOf(object.metadata.namespace, object.metadata.name)
        ? "provided IP is already allocated"
        : undefined;
    if (problem) {
      const detail = `failed to allocate IP ${spec.clusterIP}: ${problem}`;
      return [invalidField("spec.clusterIPs", [spec.clusterIP], detail)];
    }
  }
  spec.clusterIPs = [spec.clusterIP];
  // What is no family at all is for validation to say.
  spec.ipFamilies ??= ["IPv4"];
  spec.ipFamilyPolicy ??= "SingleStack";
  return [];
}

function allocatePorts(core: Core, addresses: ServiceAddresses, object: ApiObject, spec: Spec): FieldError[] {
  const ports = Array.isArray(spec.ports) ? spec.ports : [];
  if (!needsPorts(spec) && kindOf(spec) !== "LoadBalancer") {
    // Left over from a type that had them.
    if (ports.some((port) => port?.nodePort)) {
      spec.ports = ports.map(({ nodePort: _, ...port }) => port);
    }
    return [];
  }
  const key = keyOf(object.metadata.namespace, object.metadata.name);
  const errors: FieldError[] = [];
  const taken = new Set(ports.flatMap((port) => (port?.nodePort ? [port.nodePort] : [])));
  const byNumber = new Map<string, number>();
  spec.ports = ports.map((port, index) => {
    const protocol = port.protocol ?? "TCP";
    if (port.nodePort) {
      const owner = addresses.portOwner(protocol, port.nodePort);
      const [low, high] = addresses.ports;
      if (port.nodePort < low || port.nodePort > high) {
        const detail = `provided port is not in the valid range. The range of valid ports is ${low}-${high}`;
        errors.push(invalidField(`spec.ports[${index}].nodePort`, port.nodePort, detail));
      } else if (owner !== undefined && owner !== key) {
        errors.push(
          invalidField(`spec.ports[${index}].nodePort`, port.nodePort, "provided port is already allocated"),
        );
      }
      byNumber.set(`${port.port}/${protocol}`, port.nodePort);
      return port;
    }
    if (!needsPorts(spec)) return port;
    const nodePort = addresses.pickPort(core.world, taken);
    if (nodePort === undefined) throw internalError("failed to allocate a nodePort: range is full");
    taken.add(nodePort);
    return { ...port, nodePort };
  });
  return errors;
}

/** Ports that the update does not number keep the number that they had. */
function keepNodePorts(next: Spec, before: Spec): void {
  const numbers = new Map(
    (before.ports ?? []).map((port) => [`${port.port}/${port.protocol ?? "TCP"}`, port.nodePort]),
  );
  const asked = new Set((next.ports ?? []).map((port) => port.nodePort));
  next.ports = next.ports?.map((port) => {
    const nodePort = port.nodePort || numbers.get(`${port.port}/${port.protocol ?? "TCP"}`);
    return !port.nodePort && nodePort && !asked.has(nodePort) ? { ...port, nodePort } : port;
  });
}
