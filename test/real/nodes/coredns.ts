/** CoreDNS as kubeadm leaves it in a cluster: Deployment, Service and the ConfigMap that people change. */
import {
  clusterRoleBindings,
  clusterRoles,
  configMaps,
  deployments,
  serviceAccounts,
  services,
} from "../../../src/api/index.ts";
import type { KubeClient } from "../../../src/kube/index.ts";
import { type ClusterSpec, dnsServiceAddress } from "../../../src/lab/index.ts";
import { coreDnsImage } from "./images.ts";

const namespace = "kube-system";
const labels = { "k8s-app": "kube-dns" };

/** As kubeadm writes it, but that the world it forwards to is one in which no other names exist. */
const corefile = (domain: string) => `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes ${domain} in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    forward . 127.0.0.1:5300
    cache 30
    loop
    reload 5s 1s
    loadbalance
}
.:5300 {
    bind 127.0.0.1
    template ANY ANY {
       rcode NXDOMAIN
    }
}
`;

/** Applies all of it. Resolves at once: pods take their time. */
export async function deployCoreDns(client: KubeClient, cluster: ClusterSpec): Promise<void> {
  const write = { manager: "weft-lab", force: true };
  const coredns = { name: "coredns", namespace };
  const port = (name: string, protocol: "UDP" | "TCP", port = 53) => ({
    name,
    protocol,
    containerPort: port,
  });
  await Promise.all([
    client.apply(serviceAccounts, { metadata: coredns }, write),
    client.apply(
      clusterRoles,
      {
        metadata: { name: "system:coredns" },
        rules: [
          { apiGroups: [""], resources: ["services", "pods", "namespaces"], verbs: ["list", "watch"] },
          { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
        ],
      },
      write,
    ),
    client.apply(
      clusterRoleBindings,
      {
        metadata: { name: "system:coredns" },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "system:coredns" },
        subjects: [{ kind: "ServiceAccount", ...coredns }],
      },
      write,
    ),
    client.apply(
      configMaps,
      { metadata: coredns, data: { Corefile: corefile(cluster.clusterDomain) } },
      write,
    ),
    client.apply(
      services,
      {
        metadata: { name: "kube-dns", namespace, labels },
        spec: {
          clusterIP: dnsServiceAddress(cluster),
          selector: labels,
          ports: [
            { name: "dns", port: 53, protocol: "UDP", targetPort: 53 },
            { name: "dns-tcp", port: 53, protocol: "TCP", targetPort: 53 },
          ],
        },
      },
      write,
    ),
    client.apply(
      deployments,
      {
        metadata: { ...coredns, labels },
        spec: {
          replicas: 1,
          selector: { matchLabels: labels },
          template: {
            metadata: { labels },
            spec: {
              serviceAccountName: "coredns",
              priorityClassName: "system-cluster-critical",
              dnsPolicy: "Default",
              containers: [
                {
                  name: "coredns",
                  image: coreDnsImage,
                  args: ["-conf", "/etc/coredns/Corefile"],
                  ports: [port("dns", "UDP"), port("dns-tcp", "TCP")],
                  readinessProbe: { httpGet: { path: "/ready", port: 8181 }, periodSeconds: 2 },
                  livenessProbe: { httpGet: { path: "/health", port: 8080 }, initialDelaySeconds: 60 },
                  securityContext: {
                    allowPrivilegeEscalation: false,
                    readOnlyRootFilesystem: true,
                    capabilities: { add: ["NET_BIND_SERVICE"], drop: ["ALL"] },
                  },
                  volumeMounts: [{ name: "config", mountPath: "/etc/coredns", readOnly: true }],
                },
              ],
              volumes: [
                {
                  name: "config",
                  configMap: { name: "coredns", items: [{ key: "Corefile", path: "Corefile" }] },
                },
              ],
            },
          },
        },
      },
      write,
    ),
  ]);
}
