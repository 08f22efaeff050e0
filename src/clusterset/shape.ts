/**
 * What a peer sends is not ours to trust: its API server validates offers, but it may be another's, an older one's,
 * or broken. An offer that is not of the shape that its definition asks for is as if it were not there.
 */
import {
  type EndpointOffer,
  isOfferedWorkload,
  type KubeObject,
  type ServiceOffer,
  type TrustBundle,
} from "../api/index.ts";

type Fields = Record<string, unknown>;

const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null;
const isText = (value: unknown): value is string => typeof value === "string";
const optional = (value: unknown, is: (value: unknown) => boolean) => value === undefined || is(value);
const listOf = (is: (value: unknown) => boolean) => (value: unknown) =>
  Array.isArray(value) && value.every(is);
const isTexts = listOf(isText);
const isTextMap = (value: unknown) => isFields(value) && Object.values(value).every(isText);

const isPort = (value: unknown) =>
  isFields(value) &&
  Number.isInteger(value.port) &&
  isText(value.protocol) &&
  optional(value.name, isText) &&
  optional(value.appProtocol, isText);

function isNamed(object: KubeObject): boolean {
  const { namespace, name } = object.metadata ?? {};
  return isText(namespace) && namespace !== "" && isText(name) && name !== "";
}

export function isServiceOffer(object: KubeObject): object is ServiceOffer {
  const { spec } = object as unknown as Fields;
  return (
    isNamed(object) &&
    isFields(spec) &&
    isText(spec.cluster) &&
    (spec.type === "ClusterSetIP" || spec.type === "Headless") &&
    listOf(isPort)(spec.ports) &&
    isText(spec.exportedAt) &&
    optional(spec.ipFamilies, isTexts) &&
    optional(spec.exportedLabels, isTextMap) &&
    optional(spec.exportedAnnotations, isTextMap)
  );
}

export function isEndpointOffer(object: KubeObject): object is EndpointOffer {
  const { spec } = object as unknown as Fields;
  return (
    isNamed(object) &&
    isFields(spec) &&
    isText(spec.cluster) &&
    isText(spec.service) &&
    (spec.addressType === "IPv4" || spec.addressType === "IPv6") &&
    listOf(isPort)(spec.ports) &&
    listOf(
      (endpoint) =>
        isFields(endpoint) &&
        isTexts(endpoint.addresses) &&
        optional(endpoint.region, isText) &&
        optional(endpoint.workload, isOfferedWorkload),
    )(spec.endpoints)
  );
}

/** Roots are some KB; what is longer is no bundle, and would only fill the API of whoever copies it. */
const longestBundle = 64 * 1024;

export function isTrustBundle(object: KubeObject): object is TrustBundle {
  const { spec } = object as unknown as Fields;
  return (
    isNamed(object) &&
    isFields(spec) &&
    isText(spec.cluster) &&
    isText(spec.trustDomain) &&
    isText(spec.certificates) &&
    spec.certificates.length <= longestBundle
  );
}
