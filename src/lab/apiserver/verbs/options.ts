/** Parameters that every write has. */
import { strictProblems } from "../body.ts";
import { normalizeBuiltin } from "../builtin/index.ts";
import type { ResourceCall } from "../core.ts";
import type { ApiObject } from "../object.ts";
import {
  dropUnknown,
  type FieldError,
  invalid as invalidField,
  notSupported,
  tooLong,
} from "../schema/index.ts";
import { schemaOf } from "../schemas.ts";
import { badRequest, invalid, type StatusError } from "../status.ts";
import type { Write } from "../write.ts";

const optionsKinds: Record<string, string> = {
  POST: "CreateOptions",
  PUT: "UpdateOptions",
  PATCH: "PatchOptions",
  DELETE: "DeleteOptions",
};

/** How refusals name the options of a request. */
export function optionsKind(call: ResourceCall): { group: string; name: string } {
  return { group: "meta.k8s.io", name: optionsKinds[call.method] ?? "Options" };
}

/** The facts of a write request; the field manager defaults to the first word of the user agent. */
export function writeOf(call: ResourceCall, bodyOptions: Record<string, unknown> = {}): Write {
  const dryRun = call.query.getAll("dryRun").concat(asList(bodyOptions.dryRun));
  const problems: FieldError[] = [];
  if (dryRun.some((item) => item !== "All" && item !== "")) {
    problems.push(notSupported("dryRun", dryRun, ["All"]));
  }
  const named = call.query.get("fieldManager") ?? "";
  if (Buffer.byteLength(named) > 128) problems.push(tooLong("fieldManager", 128));
  for (const [index, char] of [...named].entries()) {
    if (/[\p{L}\p{M}\p{N}\p{P}\p{S} ]/u.test(char)) continue;
    const code = char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
    problems.push(invalidField("fieldManager", named, `invalid character U+${code} (at position ${index})`));
    break;
  }
  if (problems.length > 0) throw invalid(optionsKind(call), "", problems);
  const manager = named || (call.headers["user-agent"] ?? "").split("/")[0]!.slice(0, 128) || "unknown";
  return { user: call.user, dryRun: dryRun.includes("All"), warnings: call.warnings, manager };
}

function asList(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

/** How strictly a body's fields are taken: `fieldValidation`, or Warn, as kube-apiserver does. */
export function strictness(call: ResourceCall): "Strict" | "Warn" | "Ignore" {
  const mode = call.query.get("fieldValidation") || "Warn";
  if (mode === "Strict" || mode === "Warn" || mode === "Ignore") return mode;
  throw invalid(optionsKind(call), "", [
    notSupported("fieldValidation", mode, ["", "Ignore", "Strict", "Warn"]),
  ]);
}

/**
 * Takes fields that the schema does not know out of a decoded body, and refuses or warns as `fieldValidation`
 * says. `refuse` makes the refusal from what is wrong.
 */
export function enforceFields(
  call: ResourceCall,
  object: ApiObject,
  refuse: (message: string) => StatusError = (message) =>
    badRequest(
      `${call.type.kind} in version "${call.type.version}" cannot be handled as a ${call.type.kind}: ${message}`,
    ),
): void {
  const mode = strictness(call);
  const unknown = dropUnknown(schemaOf(call.type), object);
  if (call.type.custom) unknown.sort();
  // Go refuses values of a wrong type while it decodes. A patch, an apply above all, stays as it was written: the
  // zero values that Go would add to it are nobody's wish and must not be owned.
  const decoded = call.method === "PATCH" ? structuredClone(object) : object;
  const problem = call.type.custom ? metadataProblem(object) : normalizeBuiltin(decoded);
  if (problem) throw refuse(problem.message);
  if (mode === "Ignore") return;
  const texts = strictProblems(object, unknown);
  if (texts.length === 0) return;
  if (mode === "Strict") {
    // The YAML parser's own findings come in a list of theirs.
    const lines = texts.filter((text) => text.startsWith("line "));
    const yaml = lines.length > 0 ? [`yaml: unmarshal errors:\n  ${lines.join("\n  ")}`] : [];
    const all = [...yaml, ...texts.filter((text) => !lines.includes(text))];
    throw refuse(`strict decoding error: ${all.join(", ")}`);
  }
  call.warnings.push(...texts);
}

/** The first value of a wrong type in the metadata of a custom object, which Go decodes into a type of its own. */
function metadataProblem(object: ApiObject): { message: string } | undefined {
  const fields = object.metadata as unknown as Record<string, unknown>;
  const wrong = (field: string, value: unknown, type: string) => {
    const is = Array.isArray(value) ? "array" : typeof value === "boolean" ? "bool" : typeof value;
    return {
      message: `json: cannot unmarshal ${is} into Go struct field ObjectMeta.${field} of type ${type}`,
    };
  };
  for (const field of ["name", "namespace", "generateName", "uid", "resourceVersion"]) {
    const value = fields[field];
    if (value !== undefined && value !== null && typeof value !== "string")
      return wrong(field, value, "string");
  }
  for (const field of ["labels", "annotations"]) {
    const map = fields[field];
    if (map === undefined || map === null) continue;
    if (typeof map !== "object" || Array.isArray(map)) return wrong(field, map, "map[string]string");
    for (const value of Object.values(map)) {
      if (typeof value !== "string" && value !== null) return wrong(field, value, "string");
    }
  }
  return undefined;
}
