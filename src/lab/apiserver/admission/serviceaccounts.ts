/**
 * Every pod runs as a ServiceAccount and gets a token for it. Source: Kubernetes
 * `plugin/pkg/admission/serviceaccount/admission.go`.
 */
import type { Pod, ServiceAccount, Volume } from "../../../api/index.ts";
import type { Core } from "../core.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { randomSuffix } from "../write.ts";
import { podForbidden } from "./pods.ts";

const tokenMount = "/var/run/secrets/kubernetes.io/serviceaccount";
const mirrorAnnotation = "kubernetes.io/config.mirror";
/** How long a pod's creation waits for a ServiceAccount that a controller is just about to make. Milliseconds. */
const patience = 1000;

function accountOf(core: Core, pod: Pod): ServiceAccount | undefined {
  const name = pod.spec.serviceAccountName || "default";
  const found = core.store.bucket("/serviceaccounts").objects.get(`${pod.metadata.namespace}/${name}`);
  return found as unknown as ServiceAccount | undefined;
}

/** Resolves when the pod's ServiceAccount exists, or after a second. */
export function serviceAccountThere(
  core: Core,
  object: ApiObject,
  namespace: string | undefined,
): Promise<void> {
  const spec = asRecord(object.spec);
  const name = spec?.serviceAccountName || spec?.serviceAccount || "default";
  const bucket = core.store.bucket("/serviceaccounts");
  const there = () => bucket.objects.has(`${namespace}/${name}`);
  if (there() || !core.store.bucket("/namespaces").objects.has(namespace ?? "")) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      bucket.watchers.delete(watcher);
      timer.cancel();
      resolve();
    };
    const watcher = { event: () => there() && done(), end: done };
    const timer = core.world.after(patience, done);
    bucket.watchers.add(watcher);
  });
}

/** Fills in the account's name, its pull secrets and the token volume. */
export function admitServiceAccount(core: Core, pod: Pod): void {
  if (pod.metadata.annotations?.[mirrorAnnotation]) return;
  const { spec } = pod;
  spec.serviceAccountName ||= spec.serviceAccount || "default";
  spec.serviceAccount = spec.serviceAccountName;
  const account = accountOf(core, pod);
  if (!account) {
    throw podForbidden(
      pod,
      `error looking up service account ${pod.metadata.namespace}/${spec.serviceAccountName}: serviceaccount "${spec.serviceAccountName}" not found`,
    );
  }
  if (!spec.imagePullSecrets?.length && account.imagePullSecrets?.length) {
    spec.imagePullSecrets = [...account.imagePullSecrets];
  }
  if (spec.automountServiceAccountToken ?? account.automountServiceAccountToken ?? true)
    mountToken(core, pod);
}

function mountToken(core: Core, pod: Pod): void {
  const { spec } = pod;
  const containers = [...(spec.initContainers ?? []), ...(spec.containers ?? [])].filter(
    (container) => !container.volumeMounts?.some(({ mountPath }) => mountPath === tokenMount),
  );
  if (containers.length === 0) return;
  const existing = spec.volumes?.find(({ name }) => name.startsWith("kube-api-access-"));
  const name = existing?.name ?? `kube-api-access-${randomSuffix(core)}`;
  for (const container of containers) {
    container.volumeMounts = [
      ...(container.volumeMounts ?? []),
      { name, readOnly: true, mountPath: tokenMount },
    ];
  }
  if (!existing) spec.volumes = [...(spec.volumes ?? []), tokenVolume(name)];
}

function tokenVolume(name: string): Volume {
  return {
    name,
    projected: {
      defaultMode: 420,
      sources: [
        { serviceAccountToken: { expirationSeconds: 3607, path: "token" } },
        { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
        {
          downwardAPI: {
            items: [{ path: "namespace", fieldRef: { apiVersion: "v1", fieldPath: "metadata.namespace" } }],
          },
        },
      ],
    },
  };
}
