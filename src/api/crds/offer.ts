/** offer.weft.dev: what a cluster tells its peers (law 11). The types are in `../offer.ts`. */
import { ageColumn, atomicList, boolean, conditions, crd, int32, object, string, strings } from "./schema.ts";

const group = "offer.weft.dev";
const versions = ["v1alpha1"];
const categories = ["weft"];

const port = object(
  {
    name: string(),
    protocol: string({ enum: ["TCP", "UDP", "SCTP"] }),
    appProtocol: string(),
    port: int32({ minimum: 1, maximum: 65535 }),
  },
  { required: ["protocol", "port"] },
);
const cluster = string({ minLength: 1, maxLength: 127, description: "Id of the cluster that offers." });

export const serviceOfferDefinition = crd({
  group,
  versions,
  categories,
  kind: "ServiceOffer",
  plural: "serviceoffers",
  scope: "Namespaced",
  description: "One exported service, as its own cluster describes it. Its name is the service's.",
  required: ["spec"],
  spec: object(
    {
      cluster,
      type: string({ enum: ["ClusterSetIP", "Headless"] }),
      ports: atomicList(port),
      ipFamilies: atomicList(string({ enum: ["IPv4", "IPv6"] }), { maxItems: 2 }),
      sessionAffinity: string({ enum: ["None", "ClientIP"] }),
      sessionAffinityConfig: object({ clientIP: object({ timeoutSeconds: int32() }) }),
      internalTrafficPolicy: string(),
      trafficDistribution: string(),
      publishNotReadyAddresses: boolean(),
      exportedLabels: strings(),
      exportedAnnotations: strings(),
      exportedAt: string({ format: "date-time", description: "When the export was made: the oldest wins." }),
    },
    { required: ["cluster", "type", "ports", "exportedAt"] },
  ),
  columns: [
    { name: "Cluster", type: "string", jsonPath: ".spec.cluster" },
    { name: "Type", type: "string", jsonPath: ".spec.type" },
    ageColumn,
  ],
});

export const endpointOfferDefinition = crd({
  group,
  versions,
  categories,
  kind: "EndpointOffer",
  plural: "endpointoffers",
  scope: "Namespaced",
  description: "Up to 100 endpoints of one exported service.",
  required: ["spec"],
  spec: object(
    {
      cluster,
      service: string({ minLength: 1, description: "Name of the exported service, in this namespace." }),
      addressType: string({ enum: ["IPv4", "IPv6"] }),
      ports: atomicList(port),
      endpoints: atomicList(
        object(
          {
            addresses: atomicList(string(), { minItems: 1, maxItems: 100 }),
            ready: boolean(),
            serving: boolean(),
            terminating: boolean(),
            hostname: string(),
            nodeName: string(),
            region: string(),
            zone: string(),
            workload: object(
              {
                name: string(),
                serviceAccount: string(),
                trustDomain: string(),
                labels: strings(),
                plainText: boolean({ description: "It refuses its mesh's mTLS." }),
                exceptPorts: atomicList(int32(), {
                  description: "Ports for which that is the other way round.",
                }),
              },
              { required: ["name", "serviceAccount", "trustDomain"] },
            ),
          },
          { required: ["addresses", "ready", "serving", "terminating"] },
        ),
        { maxItems: 1000 },
      ),
    },
    { required: ["cluster", "service", "addressType", "ports", "endpoints"] },
  ),
  columns: [
    { name: "Cluster", type: "string", jsonPath: ".spec.cluster" },
    { name: "Service", type: "string", jsonPath: ".spec.service" },
    { name: "Endpoints", type: "string", jsonPath: ".spec.endpoints[*].addresses[0]", priority: 1 },
    ageColumn,
  ],
});

const reachable = '.status.conditions[?(@.type=="Reachable")]';

export const peerReportDefinition = crd({
  group,
  versions,
  categories,
  kind: "PeerReport",
  plural: "peerreports",
  scope: "Namespaced",
  description: "What this cluster sees of one peer. Its name is the peer's.",
  required: ["spec"],
  spec: object(
    { cluster, peer: string({ minLength: 1, maxLength: 127 }) },
    { required: ["cluster", "peer"] },
  ),
  status: object({
    conditions: conditions(),
    leaseDurationSeconds: int32({ minimum: 0 }),
    lastHeartbeatTime: string({ format: "date-time" }),
    version: string({ maxLength: 63 }),
  }),
  columns: [
    { name: "Reachable", type: "string", jsonPath: `${reachable}.status` },
    { name: "Reason", type: "string", jsonPath: `${reachable}.reason` },
    { name: "Since", type: "date", jsonPath: `${reachable}.lastTransitionTime` },
    { name: "Message", type: "string", jsonPath: `${reachable}.message`, priority: 1 },
    ageColumn,
  ],
});

export const trustBundleDefinition = crd({
  group,
  versions,
  categories,
  kind: "TrustBundle",
  plural: "trustbundles",
  scope: "Namespaced",
  description: "The roots of one mesh: others check identities of its trust domain by them, and of no other.",
  required: ["spec"],
  spec: object(
    {
      cluster,
      trustDomain: string({ minLength: 1, maxLength: 255 }),
      certificates: string({ minLength: 1, description: "PEM." }),
    },
    { required: ["cluster", "trustDomain", "certificates"] },
  ),
  columns: [
    { name: "Cluster", type: "string", jsonPath: ".spec.cluster" },
    { name: "Trust Domain", type: "string", jsonPath: ".spec.trustDomain" },
    ageColumn,
  ],
});
