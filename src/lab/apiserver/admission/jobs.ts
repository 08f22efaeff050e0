/** Jobs select their pods by their own uid. Source: Kubernetes `pkg/registry/batch/job/strategy.go` (generateSelector). */
import { asRecord, sameJson } from "../object.ts";
import type { Strategy } from "../strategies.ts";

const prefix = "batch.kubernetes.io/";

export const jobStrategy: Strategy = {
  prepareCreate(_, object) {
    const spec = asRecord(object.spec);
    const template = asRecord(spec?.template);
    if (!spec || !template || spec.manualSelector === true) return;
    const metadata = asRecord(template.metadata) ?? {};
    const { uid, name } = object.metadata;
    // Labels that the Job took from its template are the template's own, and change with them.
    const isShared = sameJson(object.metadata.labels, metadata.labels ?? {});
    metadata.labels = {
      ...asRecord(metadata.labels),
      [`${prefix}controller-uid`]: uid,
      [`${prefix}job-name`]: name,
      "controller-uid": uid,
      "job-name": name,
    };
    template.metadata = metadata;
    if (isShared) object.metadata.labels = { ...(metadata.labels as Record<string, string>) };
    const selector = asRecord(spec.selector) ?? {};
    spec.selector = {
      ...selector,
      matchLabels: { ...asRecord(selector.matchLabels), [`${prefix}controller-uid`]: uid },
    };
  },
};
