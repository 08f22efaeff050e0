/** Jobs select their pods by their own uid. Source: Kubernetes `pkg/registry/batch/job/strategy.go` (generateSelector). */
import { asRecord } from "../object.ts";
import type { Strategy } from "../strategies.ts";

const prefix = "batch.kubernetes.io/";

export const jobStrategy: Strategy = {
  prepareCreate(_, object) {
    const spec = asRecord(object.spec);
    const template = asRecord(spec?.template);
    if (!spec || !template || spec.manualSelector === true) return;
    const metadata = asRecord(template.metadata) ?? {};
    const { uid, name } = object.metadata;
    metadata.labels = {
      ...asRecord(metadata.labels),
      [`${prefix}controller-uid`]: uid,
      [`${prefix}job-name`]: name,
      "controller-uid": uid,
      "job-name": name,
    };
    template.metadata = metadata;
    const selector = asRecord(spec.selector) ?? {};
    spec.selector = {
      ...selector,
      matchLabels: { ...asRecord(selector.matchLabels), [`${prefix}controller-uid`]: uid },
    };
  },
};
