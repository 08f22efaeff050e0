/** The life of namespaces. Source: Kubernetes `pkg/registry/core/namespace`, KEP-2161 (the name label). */
import { asRecord } from "../object.ts";
import { forbidden } from "../status.ts";
import type { Strategy } from "../strategies.ts";

const immortal = new Set(["default", "kube-system", "kube-public"]);
const nameLabel = "kubernetes.io/metadata.name";

export const namespaceStrategy: Strategy = {
  prepareCreate(_, object) {
    const spec = asRecord(object.spec) ?? {};
    const finalizers = Array.isArray(spec.finalizers) ? (spec.finalizers as string[]) : [];
    object.spec = {
      ...spec,
      finalizers: finalizers.includes("kubernetes") ? finalizers : [...finalizers, "kubernetes"],
    };
    object.status = { phase: "Active" };
    // A name that was made is known only now.
    object.metadata.labels = { ...object.metadata.labels, [nameLabel]: object.metadata.name };
  },
  prepareUpdate(_, object, current) {
    // Only /finalize changes the finalizers of the spec.
    object.spec = current.spec;
    object.metadata.labels = { ...object.metadata.labels, [nameLabel]: current.metadata.name };
  },
  checkDelete(_, object) {
    if (immortal.has(object.metadata.name)) {
      throw forbidden(
        { group: "", name: "namespaces" },
        object.metadata.name,
        "this namespace may not be deleted",
      );
    }
  },
  deleting(object) {
    object.status = { ...asRecord(object.status), phase: "Terminating" };
  },
  holds(object) {
    const finalizers = asRecord(object.spec)?.finalizers;
    return Array.isArray(finalizers) && finalizers.length > 0;
  },
};
