/**
 * Admission webhooks: who may change and who may refuse what is written. Source: apiserver
 * `pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go`, `pkg/admission/reinvocation.go`.
 */
import { normalizeBuiltin } from "../builtin/index.ts";
import type { Core, ResourceCall } from "../core.ts";
import { jsonProblem } from "../json.ts";
import { type ApiObject, asRecord, clone, sameJson } from "../object.ts";
import { jsonPatch } from "../patch/index.ts";
import type { ResourceType } from "../registry.ts";
import { dropUnknown } from "../schema/index.ts";
import { schemaOf } from "../schemas.ts";
import { badRequest, internalError, StatusError } from "../status.ts";
import { Changed, type Stop, setDefaults, type Write, type Writing } from "../write.ts";
import { type Attributes, admissionRequest, attributesOf, inVersion, verdictOf } from "./attributes.ts";
import { post } from "./webhook-call.ts";
import { concerns, type Hook, hooksOf } from "./webhook-rules.ts";

/**
 * Runs a write and asks the webhooks that it concerns. `begin` is called again where the object was changed by another
 * meanwhile, as kube-apiserver tries a write again. Without webhooks nothing else runs in between.
 */
export async function admitted<T>(
  core: Core,
  call: ResourceCall,
  write: Write,
  begin: () => Writing<T>,
  options?: Record<string, unknown>,
): Promise<T> {
  for (;;) {
    const writing = begin();
    try {
      let step = writing.next();
      while (!step.done) {
        const answer = answerTo(core, call, write, step.value, options);
        step = writing.next(answer instanceof Promise ? await answer : answer);
      }
      return step.value;
    } catch (error) {
      if (!(error instanceof Changed)) throw error;
    }
  }
}

/** Asks about something that is not written as it is sent: a Binding, a TokenRequest, a connection to a pod. */
export async function admitOther(
  core: Core,
  call: ResourceCall,
  write: Write,
  operation: "CREATE" | "CONNECT",
  object: ApiObject,
): Promise<ApiObject> {
  const stop = { operation, object, old: undefined };
  if (hooksOf(core, "mutating").length + hooksOf(core, "validating").length === 0) return object;
  const attributes = attributesOf(call, stop, write.dryRun);
  const mutated = await mutate(core, attributes, write);
  await validate(core, { ...attributes, object: mutated }, write);
  return mutated ?? object;
}

function answerTo(
  core: Core,
  call: ResourceCall,
  write: Write,
  stop: Stop,
  options: Record<string, unknown> | undefined,
): ApiObject | undefined | Promise<ApiObject | undefined> {
  const { object } = stop;
  const isDeletion = stop.operation === "DELETE";
  const mutating = isDeletion || stop.stage === "mutate" ? hooksOf(core, "mutating") : [];
  const validating = isDeletion || stop.stage === "validate" ? hooksOf(core, "validating") : [];
  if (mutating.length === 0 && validating.length === 0) return object;
  const attributes = attributesOf(call, stop, write.dryRun, options);
  const concerned = [...mutating, ...validating].some((hook) => concerns(core, hook, attributes));
  if (!concerned) return object;
  return ask(core, attributes, write, mutating.length > 0, validating.length > 0);
}

async function ask(
  core: Core,
  attributes: Attributes,
  write: Write,
  mutating: boolean,
  validating: boolean,
): Promise<ApiObject | undefined> {
  const object = mutating ? await mutate(core, attributes, write) : attributes.object;
  if (validating) await validate(core, { ...attributes, object }, write);
  return object;
}

/** Webhooks one after the other, each sees what those before it made; some once more when others changed something. */
async function mutate(core: Core, attributes: Attributes, write: Write): Promise<ApiObject | undefined> {
  const strategy = attributes.subresource ? undefined : core.strategies.get(attributes.type.bucket);
  let { object } = attributes;
  let again = new Set<Hook>();
  let eligible = new Set<Hook>();
  const requireAgain = () => {
    again = again.union(eligible);
    eligible = new Set();
  };
  for (const round of [0, 1]) {
    let isChanged = false;
    for (const hook of hooksOf(core, "mutating")) {
      const now = { ...attributes, object };
      const as = concerns(core, hook, now);
      if (!as || (round === 1 && !again.has(hook))) continue;
      const next = await callMutating(core, hook, now, as, write);
      if (next && !sameJson(next, object)) {
        isChanged = true;
        object = next;
        requireAgain();
      }
      if (hook.reinvocation) eligible.add(hook);
    }
    if (round === 1 || !isChanged || !object) break;
    if (attributes.operation !== "CREATE" || !strategy?.admit) continue;
    const completed = clone(object);
    strategy.admit(core, completed, write);
    if (sameJson(completed, object)) continue;
    object = completed;
    requireAgain();
  }
  return object;
}

/** What a webhook makes of the object; undefined when it leaves it alone. */
async function callMutating(
  core: Core,
  hook: Hook,
  attributes: Attributes,
  as: ResourceType,
  write: Write,
): Promise<ApiObject | undefined> {
  const verdict = await call(core, hook, attributes, as, write, true);
  if (!verdict?.patch) return undefined;
  let operations: unknown;
  try {
    operations = JSON.parse(verdict.patch);
    if (!Array.isArray(operations)) throw new Error("the patch is not a list of operations");
  } catch (error) {
    if (hook.failsOpen) return undefined;
    const says = jsonProblem(verdict.patch) ?? (error as Error).message;
    throw failed(hook, `received undecodable patch in webhook response: ${says}`);
  }
  if ((operations as unknown[]).length === 0) return undefined;
  const { type, object } = attributes;
  if (!object) {
    throw internalError(
      `admission webhook ${JSON.stringify(hook.name)} attempted to modify the object, which is not supported for this operation`,
    );
  }
  let patched: ApiObject;
  try {
    patched = jsonPatch(inVersion(type, as, object), operations);
  } catch (error) {
    throw internalError(error instanceof Error ? error.message : String(error));
  }
  if (!asRecord(patched) || !asRecord(patched.metadata)) {
    throw internalError("the patch of an admission webhook leaves no object");
  }
  const isWhole = attributes.subresource === undefined || attributes.subresource === "status";
  if (!isWhole) return patched;
  dropUnknown(schemaOf(as), patched);
  const problem = as.custom ? undefined : normalizeBuiltin(patched);
  if (problem) throw internalError(problem.message);
  setDefaults(as, patched);
  return inVersion(as, type, patched);
}

/** Webhooks all at once; of several refusals the first counts. */
async function validate(core: Core, attributes: Attributes, write: Write): Promise<void> {
  const asked = hooksOf(core, "validating").flatMap((hook) => {
    const as = concerns(core, hook, attributes);
    return as ? [{ hook, as }] : [];
  });
  const warnings = asked.map((): string[] => []);
  await Promise.all(
    asked.map(({ hook, as }, index) =>
      call(core, hook, attributes, as, { ...write, warnings: warnings[index]! }, false),
    ),
  ).finally(() => write.warnings.push(...warnings.flat()));
}

/** Asks one webhook. Undefined: it could not be asked, and that is to be ignored. Throws refusals. */
async function call(
  core: Core,
  hook: Hook,
  attributes: Attributes,
  as: ResourceType,
  write: Write,
  mutating: boolean,
) {
  if (attributes.dryRun && hook.sideEffects !== "None" && hook.sideEffects !== "NoneOnDryRun") {
    throw badRequest(`admission webhook ${JSON.stringify(hook.name)} does not support dry run`);
  }
  try {
    if (!hook.reviewVersion) {
      throw new Error(
        "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)",
      );
    }
    const request = admissionRequest(core, attributes, as);
    const review = {
      kind: "AdmissionReview",
      apiVersion: `admission.k8s.io/${hook.reviewVersion}`,
      request,
    };
    const answer = await post(core, hook.client, JSON.stringify(review), hook.timeoutSeconds).catch(
      (error: Error) => {
        throw new Error(`failed to call webhook: ${error.message}`);
      },
    );
    const verdict = verdictOf(answer, hook.reviewVersion, request.uid, mutating);
    write.warnings.push(...verdict.warnings);
    if (!verdict.allowed) throw denied(hook, verdict.result);
    return verdict;
  } catch (error) {
    if (error instanceof StatusError) throw error;
    if (hook.failsOpen) return undefined;
    throw failed(hook, error instanceof Error ? error.message : String(error));
  }
}

function failed(hook: Hook, why: string): StatusError {
  return internalError(`failed calling webhook ${JSON.stringify(hook.name)}: ${why}`);
}

/** A webhook's refusal as a Status (`webhook/errors/statuserror.go`). */
function denied(hook: Hook, result: Record<string, unknown> = {}): StatusError {
  const by = `admission webhook ${JSON.stringify(hook.name)} denied the request`;
  const reason = String(result.reason ?? "");
  const said = String(result.message ?? "") || reason;
  const code = Math.max(400, Number(result.code ?? 0) || 400);
  const details = asRecord(result.details);
  const made = new StatusError(
    code,
    reason,
    said ? `${by}: ${said}` : `${by} without explanation`,
    details && (details as StatusError["status"]["details"]),
  );
  if (typeof result.status === "string" && result.status !== "" && result.status !== "Success") {
    (made.status as { status: string }).status = result.status;
  }
  return made;
}
