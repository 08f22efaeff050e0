/** What the programs of a real node are told. */
import { join } from "node:path";
import type { ClusterSpec, NodeSpec } from "../../../src/lab/index.ts";
import { dnsServiceAddress } from "../../../src/lab/index.ts";
import { apiPort } from "../../../src/lab/spec.ts";
import { pauseImage } from "./images.ts";

/** Where everything of a node is. */
export interface NodeFiles {
  /** Holds the cluster's keys. */
  cluster: string;
  /** Holds the node's keys, its configuration and, below `root`, what it has instead of the machine's /var. */
  node: string;
}

/** Where the images of all clusters are pulled from: on the backbone, at the first API server's address. */
export const registryPort = 5000;

/** For containerd: every registry is this one. https://github.com/containerd/containerd/blob/main/docs/hosts.md */
export function registryHosts(address: string): string {
  const url = `http://${address}:${registryPort}`;
  return `server = "${url}"\n[host."${url}"]\n  capabilities = ["pull", "resolve"]\n`;
}

export const containerdSocket = "/run/containerd/containerd.sock";

/** containerd 1.6 and 1.7; what is not named is as it comes. */
export function containerdConfig({ node }: NodeFiles, runc: string): string {
  return `version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "${containerdSocket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pauseImage}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${join(node, "registries")}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${join(node, "cni")}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "${runc}"
        SystemdCgroup = false
`;
}

/** A bridge whose pods are routed to as they are: no address is translated on the way out. */
export function cniConfig(node: NodeSpec): unknown {
  return {
    cniVersion: "0.4.0",
    name: "pods",
    plugins: [
      {
        type: "bridge",
        bridge: "cni0",
        isGateway: true,
        ipMasq: false,
        hairpinMode: true,
        ipam: {
          type: "host-local",
          ranges: [[{ subnet: node.podRange }]],
          routes: [{ dst: "0.0.0.0/0" }],
          dataDir: "/var/lib/cni/networks",
        },
      },
    ],
  };
}

/** https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/ */
export function kubeletConfig(files: NodeFiles, cluster: ClusterSpec): unknown {
  const little = "0%"; // the disk is the machine's: how full it is says nothing about these clusters
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: join(files.cluster, "ca.crt") },
    },
    authorization: { mode: "Webhook" },
    tlsCertFile: join(files.node, "kubelet.crt"),
    tlsPrivateKeyFile: join(files.node, "kubelet.key"),
    clusterDNS: [dnsServiceAddress(cluster)],
    clusterDomain: cluster.clusterDomain,
    resolvConf: join(files.node, "resolv.conf"),
    containerRuntimeEndpoint: `unix://${containerdSocket}`,
    cgroupDriver: "cgroupfs",
    failCgroupV1: false,
    failSwapOn: false,
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    evictionHard: {
      "nodefs.available": little,
      "nodefs.inodesFree": little,
      "imagefs.available": little,
      "imagefs.inodesFree": little,
    },
    imageGCHighThresholdPercent: 100,
    // What is mounted from ConfigMaps is renewed with this period: a minute is long in a test.
    syncFrequency: "5s",
    volumePluginDir: "/var/lib/kubelet/volume-plugins",
  };
}

/** https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/ */
export function kubeProxyConfig(kubeconfig: string, node: NodeSpec): unknown {
  return {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    clientConnection: { kubeconfig },
    hostnameOverride: node.name,
    mode: "nftables",
    // These would be settings of the whole machine.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
    bindAddress: "0.0.0.0",
  };
}

/** kubelet and kube-proxy are one identity, as `control-plane.ts` grants it. */
export function nodeKubeconfig(files: NodeFiles, cluster: ClusterSpec): unknown {
  const name = cluster.name;
  return {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name,
        cluster: {
          server: `https://${cluster.apiAddress}:${apiPort}`,
          "certificate-authority": join(files.cluster, "ca.crt"),
        },
      },
    ],
    users: [
      {
        name,
        user: {
          "client-certificate": join(files.node, "client.crt"),
          "client-key": join(files.node, "client.key"),
        },
      },
    ],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  };
}

/**
 * What a kubelet sets for the whole machine (`setupKernelTunables` of kubelet/cm); it is shown what it wants to
 * see instead, so the machine stays as it is.
 */
export const kernelTunables = {
  "vm/overcommit_memory": 1,
  "vm/panic_on_oom": 0,
  "kernel/panic": 10,
  "kernel/panic_on_oops": 1,
  "kernel/keys/root_maxkeys": 1_000_000,
  "kernel/keys/root_maxbytes": 25_000_000,
};
