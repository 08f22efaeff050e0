/** What is done to pods through subresources: they are bound to nodes and evicted from them. */
import { timestamp } from "../../../world/index.ts";
import { admitOther } from "../admission/webhooks.ts";
import { asObject, decodeBody } from "../body.ts";
import type { Answer, Core, ResourceCall } from "../core.ts";
import { type ApiObject, asRecord, clone } from "../object.ts";
import { keyOf } from "../registry.ts";
import { labelSelectorTest } from "../selectors.ts";
import { badRequest, conflict, StatusError } from "../status.ts";
import { deleteObject, deleteOptionsOf } from "../verbs/delete.ts";
import { writeOf } from "../verbs/options.ts";
import { existing, replace } from "../write.ts";

const success = (code: number): Answer => ({
  code,
  object: { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code },
});

/** `pods/NAME/binding`, and the older `bindings`. */
export async function bind(core: Core, call: ResourceCall): Promise<Answer> {
  const write = writeOf(call);
  const sent = asObject(await decodeBody(call), { apiVersion: "v1", kind: "Binding" });
  const binding = await admitOther(core, call, write, "CREATE", sent);
  const pods = core.registry.get("", "v1", "pods")!;
  const name = call.route.name ?? binding.metadata.name;
  if (binding.metadata.name !== name) throw badRequest("name in URL does not match name in Binding object");
  const target = asRecord(binding.target);
  if (typeof target?.name !== "string" || target.name === "") throw badRequest("target.name: Required value");
  if (target.kind !== undefined && target.kind !== "" && target.kind !== "Node") {
    throw badRequest(
      `target.kind: Unsupported value: ${JSON.stringify(target.kind)}: supported values: "Node"`,
    );
  }
  const current = existing(core, pods, call.route.namespace, name);
  const refuse = (why: string) => conflict({ group: "", name: "pods/binding" }, name, why);
  if (binding.metadata.uid && binding.metadata.uid !== current.metadata.uid) {
    throw refuse(
      `Precondition failed: UID in precondition: ${binding.metadata.uid}, UID in object meta: ${current.metadata.uid}`,
    );
  }
  if (current.metadata.deletionTimestamp)
    throw refuse(`pod ${name} is being deleted, cannot be assigned to a host`);
  const node = asRecord(current.spec)?.nodeName;
  if (node) throw refuse(`pod ${name} is already assigned to node "${node}"`);
  const next = clone(current);
  next.spec = { ...asRecord(next.spec), nodeName: target.name };
  const status = asRecord(next.status) ?? {};
  const conditions = (status.conditions ?? []) as { type: string }[];
  next.status = {
    ...status,
    conditions: [
      ...conditions.filter(({ type }) => type !== "PodScheduled"),
      {
        type: "PodScheduled",
        status: "True",
        lastProbeTime: null,
        lastTransitionTime: timestamp(core.world),
      },
    ],
  };
  replace(core, pods, current, next, "binding", write);
  await core.store.committed();
  return success(201);
}

/** `pods/NAME/eviction`: a deletion that respects disruption budgets. */
export async function evict(core: Core, call: ResourceCall): Promise<Answer> {
  const sent = asObject(await decodeBody(call), { apiVersion: "policy/v1", kind: "Eviction" });
  const { type, route } = call;
  existing(core, type, route.namespace, route.name!);
  const eviction = await admitOther(core, call, writeOf(call), "CREATE", sent);
  const options = deleteOptionsOf(call, asRecord(eviction.deleteOptions) ?? {});
  const pod = existing(core, type, route.namespace, route.name!);
  const phase = asRecord(pod.status)?.phase;
  if (phase !== "Succeeded" && phase !== "Failed" && phase !== "Pending") checkBudgets(core, pod);
  deleteObject(core, type, pod, options);
  await core.store.committed();
  return success(201);
}

function checkBudgets(core: Core, pod: ApiObject): void {
  const budgets = core.store.bucket("policy/poddisruptionbudgets");
  for (const key of budgets.keys(pod.metadata.namespace)) {
    const budget = budgets.objects.get(key)!;
    const selector = asRecord(asRecord(budget.spec)?.selector);
    if (!selector || !labelSelectorTest(selector)(pod.metadata.labels)) continue;
    const status = asRecord(budget.status) ?? {};
    if (Number(status.disruptionsAllowed ?? 0) > 0) continue;
    throw new StatusError(
      429,
      "TooManyRequests",
      "Cannot evict pod as it would violate the pod's disruption budget.",
      {
        causes: [
          {
            reason: "DisruptionBudget",
            message: `The disruption budget ${budget.metadata.name} needs ${Number(status.desiredHealthy ?? 0)} healthy pods and has ${Number(status.currentHealthy ?? 0)} currently`,
          },
        ],
      },
    );
  }
}

/** Where a pod runs, or undefined while it has no node. */
export function nodeOf(core: Core, pod: ApiObject): ApiObject | undefined {
  const name = asRecord(pod.spec)?.nodeName;
  return typeof name === "string"
    ? core.store.bucket("/nodes").objects.get(keyOf(undefined, name))
    : undefined;
}
