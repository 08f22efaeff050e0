/** What Services and EndpointSlices must be (kubernetes `pkg/apis/core/validation`, `pkg/apis/discovery/validation`). */
import { isIP, isIPv4, isIPv6 } from "node:net";
import {
  asStruct,
  duplicate,
  type FieldError,
  forbidden,
  invalid,
  isObject,
  type JsonObject,
  notSupported,
  required,
  tooMany,
} from "../schema/index.ts";
import { immutable, oneOf, portOrName, protocols, sameSemantics } from "./checks.ts";
import {
  checkLabels,
  checkText,
  dnsLabel,
  dnsSubdomain,
  labelValue,
  portNumber,
  qualifiedName,
} from "./names.ts";
import { at, record, records, strings, text } from "./values.ts";

const notAnIp = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

export function checkService(service: JsonObject, old?: JsonObject): FieldError[] {
  const spec = record(service.spec);
  const ports = records(spec.ports);
  const ips = strings(spec.clusterIPs);
  const isHeadless = ips[0] === "None" || spec.clusterIP === "None";
  const errors: FieldError[] = old ? checkServiceUpdate(spec, record(old.spec)) : [];
  if (ports.length === 0 && !isHeadless && spec.type !== "ExternalName") errors.push(required("spec.ports"));
  if (isHeadless && (spec.type === "LoadBalancer" || spec.type === "NodePort")) {
    errors.push(invalid("spec.clusterIPs[0]", "None", `may not be set to 'None' for ${spec.type} services`));
  }
  if (spec.type === "ExternalName") errors.push(...checkExternalName(spec));
  errors.push(...checkServicePorts(ports));
  errors.push(...checkLabels("spec.selector", spec.selector));
  errors.push(...oneOf("spec.sessionAffinity", spec.sessionAffinity, ["ClientIP", "None"]));
  const seconds = at(spec, "sessionAffinityConfig", "clientIP")?.timeoutSeconds;
  if (
    spec.sessionAffinity === "ClientIP" &&
    typeof seconds === "number" &&
    (seconds <= 0 || seconds > 86400)
  ) {
    const field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    errors.push(invalid(field, seconds, "must be greater than 0 and less than 86400"));
  }
  if (spec.type !== "ExternalName") errors.push(...checkClusterIps(spec, ips));
  strings(spec.externalIPs).forEach((ip, i) => {
    const field = `spec.externalIPs[${i}]`;
    errors.push(...(isIP(ip) === 0 ? [invalid(field, ip, notAnIp)] : checkSpecialAddress(ip, field)));
  });
  errors.push(...oneOf("spec.type", spec.type, ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]));
  errors.push(...checkNodePorts(spec, ports), ...checkDoublePorts(ports));
  if (strings(spec.loadBalancerSourceRanges).length > 0 && spec.type !== "LoadBalancer") {
    errors.push(forbidden("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'"));
  }
  if (spec.allocateLoadBalancerNodePorts !== undefined && spec.type !== "LoadBalancer") {
    errors.push(
      forbidden("spec.allocateLoadBalancerNodePorts", "may only be used when `type` is 'LoadBalancer'"),
    );
  }
  return [...errors, ...checkTrafficPolicies(spec)];
}

function checkExternalName(spec: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of ["clusterIPs", "ipFamilies"]) {
    if (strings(spec[name]).length > 0)
      errors.push(forbidden(`spec.${name}`, "may not be set for ExternalName services"));
  }
  if (spec.ipFamilyPolicy !== undefined) {
    errors.push(forbidden("spec.ipFamilyPolicy", "may not be set for ExternalName services"));
  }
  const name = text(spec.externalName).replace(/\.$/, "");
  return name === ""
    ? [...errors, required("spec.externalName")]
    : [...errors, ...checkText(dnsSubdomain, "spec.externalName", name)];
}

function checkServicePorts(ports: JsonObject[]): FieldError[] {
  const names = new Set<string>();
  return ports.flatMap((port, i) => {
    const field = `spec.ports[${i}]`;
    const errors: FieldError[] = [];
    const name = text(port.name);
    if (name === "") {
      if (ports.length > 1) errors.push(required(`${field}.name`));
    } else {
      errors.push(...checkText(dnsLabel, `${field}.name`, name));
      if (names.has(name)) errors.push(duplicate(`${field}.name`, name));
      names.add(name);
    }
    const number = typeof port.port === "number" ? port.port : 0;
    errors.push(...portNumber(number).map((detail) => invalid(`${field}.port`, number, detail)));
    errors.push(...oneOf(`${field}.protocol`, port.protocol, protocols));
    errors.push(...portOrName(`${field}.targetPort`, port.targetPort));
    if (typeof port.appProtocol === "string") {
      errors.push(...checkText(qualifiedName, `${field}.appProtocol`, port.appProtocol));
    }
    return errors;
  });
}

function checkClusterIps(spec: JsonObject, ips: string[]): FieldError[] {
  const errors: FieldError[] = [];
  const field = "spec.clusterIPs";
  const ip = text(spec.clusterIP);
  if (ip !== "" && ips.length > 0 && ips[0] !== ip)
    errors.push(invalid(field, ips, "first value must match `clusterIP`"));
  if (ip === "" && ips.length > 0)
    errors.push(invalid(field, ips, "must be empty when `clusterIP` is not specified"));
  const families = strings(spec.ipFamilies);
  families.forEach((family, i) => {
    if (family !== "IPv4" && family !== "IPv6") {
      errors.push(notSupported(`spec.ipFamilies[${i}]`, family, ["IPv4", "IPv6"]));
    }
    if (families.indexOf(family) < i) errors.push(duplicate(`spec.ipFamilies[${i}]`, family));
  });
  const policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
  if (spec.ipFamilyPolicy !== undefined && !policies.includes(text(spec.ipFamilyPolicy))) {
    errors.push(notSupported("spec.ipFamilyPolicy", spec.ipFamilyPolicy, policies));
  }
  let isSound = true;
  const given = ips.length > 0 ? ips : ip === "" ? [] : [ip];
  given.forEach((address, i) => {
    if (i === 0 && address === "None") {
      if (given.length > 1) {
        errors.push(invalid(field, ips, "'None' must be the first and only value"));
        isSound = false;
      }
    } else if (isIP(address) === 0) {
      errors.push(invalid(`${field}[${i}]`, address, notAnIp));
      isSound = false;
    }
  });
  if (given.length > 2) errors.push(invalid(field, ips, "may only hold up to 2 values"));
  if (!isSound) return errors;
  if (given.length === 2 && isIPv4(given[0]!) === isIPv4(given[1]!)) {
    errors.push(invalid(field, ips, "may specify no more than one IP for each IP family"));
  }
  given.forEach((address, i) => {
    const family = families[i];
    if (address === "None" || (family !== "IPv4" && family !== "IPv6")) return;
    if ((family === "IPv4") !== isIPv4(address)) {
      const expected = `expected an ${family} value as indicated by \`ipFamilies[${i}]\``;
      errors.push(invalid(`${field}[${i}]`, address, expected));
    }
  });
  return errors;
}

/** Addresses stay for the life of a Service, except on the way from or to ExternalName. */
function checkServiceUpdate(spec: JsonObject, old: JsonObject): FieldError[] {
  const after = strings(spec.clusterIPs);
  const before = strings(old.clusterIPs);
  if (spec.type === "ExternalName" || old.type === "ExternalName") return [];
  if (before[0] === "None" && after[0] === "None") return [];
  if (before.length > 0 && after.length === 0) {
    return [invalid("spec.clusterIPs[0]", after, "primary clusterIP can not be unset")];
  }
  const errors = before
    .slice(0, after.length)
    .flatMap((ip, i) =>
      ip === after[i] ? [] : [invalid(`spec.clusterIPs[${i}]`, after, "may not change once set")],
    );
  if (before.length === 2 && after.length === 1 && spec.ipFamilyPolicy !== "SingleStack") {
    errors.push(
      invalid(
        "spec.ipFamilyPolicy",
        spec.ipFamilyPolicy,
        "must be set to 'SingleStack' when releasing the secondary clusterIP",
      ),
    );
  }
  return errors;
}

function checkNodePorts(spec: JsonObject, ports: JsonObject[]): FieldError[] {
  const seen = new Set<string>();
  return ports.flatMap((port, i) => {
    const field = `spec.ports[${i}].nodePort`;
    if (typeof port.nodePort !== "number" || port.nodePort === 0) return [];
    const errors: FieldError[] = [];
    if (spec.type === "ClusterIP")
      errors.push(forbidden(field, "may not be used when `type` is 'ClusterIP'"));
    const key = `${text(port.protocol)}/${port.nodePort}`;
    if (seen.has(key)) errors.push(duplicate(field, port.nodePort));
    seen.add(key);
    return errors;
  });
}

function checkDoublePorts(ports: JsonObject[]): FieldError[] {
  const seen = new Set<string>();
  return ports.flatMap((port, i) => {
    const key = `${text(port.protocol)}/${String(port.port)}`;
    if (seen.has(key)) {
      // As Kubernetes' internal type shows what it compares.
      const [Protocol, Port] = [port.protocol, port.port];
      const shown = { Name: "", Protocol, AppProtocol: null, Port, TargetPort: 0, NodePort: 0 };
      return [duplicate(`spec.ports[${i}]`, asStruct(shown))];
    }
    seen.add(key);
    return [];
  });
}

const distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];

function checkTrafficPolicies(spec: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  const isExternal =
    spec.type === "LoadBalancer" ||
    spec.type === "NodePort" ||
    (spec.type === "ClusterIP" && strings(spec.externalIPs).length > 0);
  const external = text(spec.externalTrafficPolicy);
  const field = "spec.externalTrafficPolicy";
  if (!isExternal) {
    if (external !== "")
      errors.push(invalid(field, external, "may only be set for externally-accessible services"));
  } else {
    errors.push(...oneOf(field, external, ["Cluster", "Local"]));
  }
  const internal = spec.internalTrafficPolicy;
  if (internal !== undefined && internal !== "Cluster" && internal !== "Local") {
    errors.push(notSupported("spec.internalTrafficPolicy", internal, ["Cluster", "Local"]));
  }
  const distribution = spec.trafficDistribution;
  if (distribution !== undefined && !distributions.includes(text(distribution))) {
    errors.push(notSupported("spec.trafficDistribution", distribution, distributions));
  }
  return errors;
}

const addressTypes = ["FQDN", "IPv4", "IPv6"];
const mostEndpoints = 1000;
const mostAddresses = 100;
const mostPorts = 20_000;
const mostHints = 8;

export function checkEndpointSlice(slice: JsonObject, old?: JsonObject): FieldError[] {
  const type = text(slice.addressType);
  const errors = oneOf("addressType", type, addressTypes);
  const ports = records(slice.ports);
  const names = new Set<string>();
  if (ports.length > mostPorts) errors.push(tooMany("ports", ports.length, mostPorts));
  ports.slice(0, mostPorts).forEach((port, i) => {
    const field = `ports[${i}]`;
    const name = text(port.name);
    if (name !== "") errors.push(...checkText(dnsLabel, `${field}.name`, name));
    if (names.has(name)) errors.push(duplicate(`${field}.name`, name));
    names.add(name);
    errors.push(...oneOf(`${field}.protocol`, port.protocol, protocols));
    if (typeof port.appProtocol === "string") {
      errors.push(...checkText(qualifiedName, `${field}.appProtocol`, port.appProtocol));
    }
  });
  const endpoints = records(slice.endpoints);
  // Endpoints that an update leaves as they are have been judged before.
  const isKept = old !== undefined && sameSemantics(slice.endpoints, old.endpoints);
  if (!isKept && endpoints.length > mostEndpoints) {
    errors.push(tooMany("endpoints", endpoints.length, mostEndpoints));
  } else if (!isKept) {
    endpoints.forEach((endpoint, i) => {
      errors.push(...checkEndpoint(endpoint, type, `endpoints[${i}]`));
    });
  }
  if (old) errors.push(...immutable("addressType", slice.addressType, old.addressType));
  return errors;
}

function checkEndpoint(endpoint: JsonObject, type: string, field: string): FieldError[] {
  const errors: FieldError[] = [];
  const addresses = strings(endpoint.addresses);
  const path = `${field}.addresses`;
  if (addresses.length === 0) errors.push(required(path, "must contain at least 1 address"));
  else if (addresses.length > mostAddresses) errors.push(tooMany(path, addresses.length, mostAddresses));
  addresses.forEach((address, i) => {
    if (type === "FQDN") errors.push(...checkText(dnsSubdomain, `${path}[${i}]`, address));
    else if (isIP(address) === 0) errors.push(invalid(`${path}[${i}]`, address, notAnIp));
    else {
      if (type === "IPv4" && !isIPv4(address)) errors.push(invalid(path, address, "must be an IPv4 address"));
      if (type === "IPv6" && !isIPv6(address)) errors.push(invalid(path, address, "must be an IPv6 address"));
      errors.push(...checkSpecialAddress(address, `${path}[${i}]`));
    }
  });
  if (typeof endpoint.nodeName === "string") {
    errors.push(...checkText(dnsSubdomain, `${field}.nodeName`, endpoint.nodeName));
  }
  if (typeof endpoint.hostname === "string") {
    errors.push(...checkText(dnsLabel, `${field}.hostname`, endpoint.hostname));
  }
  const hints = endpoint.hints;
  if (!isObject(hints)) return errors;
  for (const [name, check] of [
    ["forZones", labelValue],
    ["forNodes", dnsSubdomain],
  ] as const) {
    const list = records(hints[name]);
    const at = `${field}.hints.${name}`;
    if (list.length > mostHints) errors.push(tooMany(at, list.length, mostHints));
    list.forEach((hint, i) => {
      if (list.findIndex((other) => other.name === hint.name) < i)
        errors.push(duplicate(`${at}[${i}].name`, hint.name));
      errors.push(...checkText(check, `${at}[${i}].name`, text(hint.name)));
    });
  }
  return errors;
}

/** Addresses that must not be reached through a Service (ValidateEndpointIP). */
export function checkSpecialAddress(address: string, field: string): FieldError[] {
  const v6 = address.toLowerCase();
  if (address === "0.0.0.0" || v6 === "::")
    return [invalid(field, address, "may not be unspecified (0.0.0.0 or ::)")];
  if (address.startsWith("127.") || v6 === "::1") {
    return [invalid(field, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)")];
  }
  if (address.startsWith("169.254.") || /^fe[89ab]/.test(v6)) {
    return [invalid(field, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")];
  }
  if (address.startsWith("224.0.0.") || v6.startsWith("ff02:")) {
    return [
      invalid(field, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ];
  }
  return [];
}
