/** Parameters that every write has. */
import { normalizeBuiltin } from "../builtin/index.ts";
import type { ResourceCall } from "../core.ts";
import type { ApiObject } from "../object.ts";
import { dropUnknown } from "../schema/index.ts";
import { schemaOf } from "../schemas.ts";
import { badRequest, invalid, type StatusError } from "../status.ts";
import type { Write } from "../write.ts";

/** The facts of a write request; the field manager defaults to the first word of the user agent. */
export function writeOf(call: ResourceCall, bodyOptions: Record<string, unknown> = {}): Write {
  const dryRun = call.query.getAll("dryRun").concat(asList(bodyOptions.dryRun));
  if (dryRun.some((item) => item !== "All" && item !== "")) {
    throw invalid({ group: "meta.k8s.io", name: "Options" }, "", [
      { field: "dryRun", type: "FieldValueNotSupported", value: dryRun, detail: 'supported values: "All"' },
    ]);
  }
  const manager =
    call.query.get("fieldManager") || (call.headers["user-agent"] ?? "").split("/")[0] || "unknown";
  if (manager.length > 128) {
    throw invalid({ group: "meta.k8s.io", name: "Options" }, "", [
      { field: "fieldManager", type: "FieldValueTooLong", detail: "may not be more than 128 bytes" },
    ]);
  }
  return { user: call.user, dryRun: dryRun.includes("All"), warnings: call.warnings, manager };
}

function asList(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

/**
 * Takes fields that the schema does not know out of a decoded body, and refuses or warns as `fieldValidation`
 * says (Warn when absent, as kube-apiserver does). `strictError` makes the refusal from the message.
 */
export function enforceFields(
  call: ResourceCall,
  object: ApiObject,
  strictError: (message: string) => StatusError = (message) =>
    badRequest(
      `${call.type.kind} in version "${call.type.version}" cannot be handled as a ${call.type.kind}: ${message}`,
    ),
): void {
  const mode = call.query.get("fieldValidation") || "Warn";
  if (mode !== "Strict" && mode !== "Warn" && mode !== "Ignore") {
    throw invalid({ group: "meta.k8s.io", name: "CreateOptions" }, "", [
      {
        field: "fieldValidation",
        type: "FieldValueNotSupported",
        value: mode,
        detail: 'supported values: "Ignore", "Strict", "Warn"',
      },
    ]);
  }
  const unknown = dropUnknown(schemaOf(call.type), object);
  // Go refuses values of a wrong type while it decodes. A patch, an apply above all, stays as it was written: the
  // zero values that Go would add to it are nobody's wish and must not be owned.
  const decoded = call.method === "PATCH" ? structuredClone(object) : object;
  const problem = call.type.custom ? undefined : normalizeBuiltin(decoded);
  if (problem) {
    throw badRequest(
      `${call.type.kind} in version "${call.type.version}" cannot be handled as a ${call.type.kind}: ${problem.message}`,
    );
  }
  if (unknown.length === 0 || mode === "Ignore") return;
  const texts = unknown.map((field) => `unknown field ${JSON.stringify(field)}`);
  if (mode === "Strict") throw strictError(`strict decoding error: ${texts.join(", ")}`);
  call.warnings.push(...texts);
}
