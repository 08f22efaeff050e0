/**
 * Pods that Weft makes pass the Pod Security Standard `restricted`, but for the one init container that sets up
 * redirection, which needs what it says. Judged by the standard's rules as far as our pods can touch them; where
 * `WEFT_CONFORMANCE_KUBECONFIG` names a real kube-apiserver, by its admission plugin PodSecurity too.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Container, MeshSettings, Pod, ServiceMeshControlPlane } from "../../src/api/index.ts";
import { namespaces, pods, serviceAccounts } from "../../src/api/index.ts";
import { inject, proxyContainer, proxyVolumes } from "../../src/injection/index.ts";
import { deploymentManifest } from "../../src/install/index.ts";
import { ApiError, KubeClient, loadKubeconfig, transportFor } from "../../src/kube/index.ts";
import { jsonPatch } from "../../src/lab/apiserver/patch/json.ts";
import { gatewayDeployment } from "../../src/mesh/gateways.ts";
import { discoveryDeployment } from "../../src/mesh/objects.ts";
import { meshOf } from "../../src/mesh/spec.ts";
import { realWorld } from "../../src/world/index.ts";

type PodSpec = Pod["spec"];

const owner: ServiceMeshControlPlane = {
  apiVersion: "maistra.io/v2",
  kind: "ServiceMeshControlPlane",
  metadata: { namespace: "istio-system", name: "basic", uid: "1" },
};
const mesh = meshOf(owner, {
  cluster: "c1",
  image: "weft/control-plane:test",
  proxy: "embedded",
  clusterDomain: "cluster.local",
});
const proxy = { container: proxyContainer, volumes: proxyVolumes };

/** An application that passes by itself. */
const application: PodSpec = {
  containers: [
    {
      name: "app",
      image: "app:1",
      securityContext: {
        allowPrivilegeEscalation: false,
        runAsNonRoot: true,
        runAsUser: 1000,
        capabilities: { drop: ["ALL"] },
        seccompProfile: { type: "RuntimeDefault" },
      },
    },
  ],
};

function injected(settings: MeshSettings, annotations: Record<string, string>, nativeSidecars: boolean) {
  const asks = { "sidecar.istio.io/inject": "true", ...annotations };
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "app", annotations: asks },
    spec: application,
  };
  const answer = inject(pod as Pod, { mesh: settings, namespace: "shop", nativeSidecars });
  assert.ok("patch" in answer, JSON.stringify(answer));
  return (jsonPatch(pod, answer.patch) as Pod).spec;
}

const withoutRedirection = { "sidecar.istio.io/interceptionMode": "NONE" };
const passing: Record<string, PodSpec> = {
  "the control plane": deploymentManifest({ name: "c1" }).object.spec!.template.spec!,
  "a mesh's discovery": discoveryDeployment(mesh).spec!.template.spec!,
  ...Object.fromEntries(
    mesh.gateways.map((gateway) => [
      `the gateway ${gateway.name}`,
      gatewayDeployment(mesh, gateway, proxy).spec!.template.spec!,
    ]),
  ),
  "a pod with a sidecar and no redirection": injected(mesh.settings, withoutRedirection, true),
  "the same where there are no native sidecars": injected(mesh.settings, withoutRedirection, false),
};
const redirected: Record<string, PodSpec> = {
  "a pod with a sidecar": injected(mesh.settings, {}, true),
  "the same where there are no native sidecars": injected(mesh.settings, {}, false),
};
/** In the admission plugin's words. */
const redirectionNeeds = [
  'unrestricted capabilities (container "istio-init" must not include "NET_ADMIN", "NET_RAW" in securityContext.capabilities.add)',
  'runAsNonRoot != true (container "istio-init" must not set securityContext.runAsNonRoot=false)',
  'runAsUser=0 (container "istio-init" must not set runAsUser=0)',
];

describe("by the standard's rules", () => {
  test("are there rules that a bare pod breaks", () => {
    assert.equal(broken({ containers: [{ name: "a", image: "a" }] }).length, 4);
  });
  for (const [name, spec] of Object.entries(passing)) {
    test(`${name} is restricted`, () => assert.deepEqual(broken(spec), []));
  }
  for (const [name, spec] of Object.entries(redirected)) {
    test(`${name} is, but for istio-init`, () => {
      assert.deepEqual([...new Set(broken(spec).map(({ container }) => container))], ["istio-init"]);
    });
  }
});

const kubeconfig = process.env.WEFT_CONFORMANCE_KUBECONFIG;
if (kubeconfig) {
  test("kube-apiserver's admission agrees", async () => {
    const transport = transportFor(loadKubeconfig(kubeconfig).credentials());
    const client = new KubeClient({ transport, world: realWorld(), cluster: "real" });
    const namespace = "weft-restricted";
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    await client.create(namespaces, { metadata: { name: namespace, labels } });
    try {
      await client.create(serviceAccounts, { metadata: { namespace, name: "pods" } });
      const refusal = async (spec: PodSpec): Promise<string> => {
        const body = {
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name: "pod", namespace },
          spec: { ...spec, serviceAccountName: "pods" },
        };
        try {
          await client.json("POST", `/api/v1/namespaces/${namespace}/pods?dryRun=All`, { body });
          return "";
        } catch (error) {
          if (error instanceof ApiError && error.code === 403) return error.status.message ?? "refused";
          throw error;
        }
      };
      assert.match(await refusal({ containers: [{ name: "a", image: "a" }] }), /violates PodSecurity/);
      for (const [name, spec] of Object.entries(passing)) assert.equal(await refusal(spec), "", name);
      for (const [name, spec] of Object.entries(redirected)) {
        const [, reasons = ""] = (await refusal(spec)).split('violates PodSecurity "restricted:latest": ');
        assert.equal(reasons, redirectionNeeds.join(", "), name);
      }
      assert.deepEqual((await client.list(pods, { namespace })).items, []);
    } finally {
      await client.delete(namespaces, namespace);
    }
  });
}

interface Broken {
  container: string;
  rule: string;
}

/** https://kubernetes.io/docs/concepts/security/pod-security-standards/ (restricted), container by container. */
function broken(spec: PodSpec): Broken[] {
  const pod = [
    ...(["hostNetwork", "hostPID", "hostIPC"] as const).filter((field) => spec[field]),
    ...(spec.volumes ?? [])
      .filter((volume) => !allowedVolumes.some((kind) => kind in volume))
      .map(({ name }) => name),
  ].map((rule) => ({ container: "", rule }));
  const each = [...(spec.initContainers ?? []), ...spec.containers].flatMap((container) =>
    brokenBy(container, spec).map((rule) => ({ container: container.name, rule })),
  );
  return [...pod, ...each];
}

const allowedVolumes = [
  "configMap",
  "csi",
  "downwardAPI",
  "emptyDir",
  "ephemeral",
  "persistentVolumeClaim",
  "projected",
  "secret",
];

function brokenBy({ securityContext = {}, ports = [] }: Container, { securityContext: pod = {} }: PodSpec) {
  const { capabilities = {}, seccompProfile = pod.seccompProfile } = securityContext;
  const rules: Record<string, boolean> = {
    privileged: securityContext.privileged !== true,
    "host ports": ports.every(({ hostPort }) => !hostPort),
    allowPrivilegeEscalation: securityContext.allowPrivilegeEscalation === false,
    runAsNonRoot: (securityContext.runAsNonRoot ?? pod.runAsNonRoot) === true,
    runAsUser: (securityContext.runAsUser ?? pod.runAsUser) !== 0,
    seccompProfile: ["RuntimeDefault", "Localhost"].includes(seccompProfile?.type ?? ""),
    capabilities:
      capabilities.drop?.includes("ALL") === true &&
      (capabilities.add ?? []).every((name) => name === "NET_BIND_SERVICE"),
  };
  return Object.entries(rules).flatMap(([rule, holds]) => (holds ? [] : [rule]));
}
