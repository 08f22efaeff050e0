/** Field errors and the Status made of them, with Kubernetes' texts (apimachinery `util/validation/field`). */
import type { Status } from "../../../api/index.ts";

export type FieldErrorType =
  | "FieldValueNotFound"
  | "FieldValueRequired"
  | "FieldValueDuplicate"
  | "FieldValueInvalid"
  | "FieldValueTypeInvalid"
  | "FieldValueNotSupported"
  | "FieldValueForbidden"
  | "FieldValueTooLong"
  | "FieldValueTooShort"
  | "FieldValueTooMany"
  | "FieldValueTooFew"
  | "InternalError";

/** One thing wrong with one field. `value` is what was found there; absent where the text does not show it. */
export interface FieldError {
  /** Path such as `spec.containers[0].name`. */
  field: string;
  type: FieldErrorType;
  detail: string;
  value?: unknown;
}

const titles: Record<FieldErrorType, string> = {
  FieldValueNotFound: "Not found",
  FieldValueRequired: "Required value",
  FieldValueDuplicate: "Duplicate value",
  FieldValueInvalid: "Invalid value",
  FieldValueTypeInvalid: "Invalid value",
  FieldValueNotSupported: "Unsupported value",
  FieldValueForbidden: "Forbidden",
  FieldValueTooLong: "Too long",
  FieldValueTooShort: "Too short",
  FieldValueTooMany: "Too many",
  FieldValueTooFew: "Too few",
  InternalError: "Internal error",
};

export const required = (field: string, detail = ""): FieldError => ({
  field,
  type: "FieldValueRequired",
  detail,
});
export const forbidden = (field: string, detail: string): FieldError => ({
  field,
  type: "FieldValueForbidden",
  detail,
});
/** An absent value shows as `null`, as Go writes a nil. */
export const invalid = (field: string, value: unknown, detail: string): FieldError => ({
  field,
  type: "FieldValueInvalid",
  detail,
  value: value ?? null,
});
export const duplicate = (field: string, value: unknown): FieldError => ({
  field,
  type: "FieldValueDuplicate",
  detail: "",
  value: value ?? null,
});
export const notFound = (field: string, value: unknown): FieldError => ({
  field,
  type: "FieldValueNotFound",
  detail: "",
  value: value ?? null,
});
export const notSupported = (field: string, value: unknown, supported: readonly string[]): FieldError => ({
  field,
  type: "FieldValueNotSupported",
  detail: supported.length > 0 ? `supported values: ${supported.map(quote).join(", ")}` : "",
  value: value ?? null,
});
export const tooLong = (field: string, most: number): FieldError => ({
  field,
  type: "FieldValueTooLong",
  detail: `may not be more than ${most} ${most === 1 ? "byte" : "bytes"}`,
});
export const tooMany = (field: string, actual: number, most: number): FieldError => ({
  field,
  type: "FieldValueTooMany",
  detail: `must have at most ${most} ${most === 1 ? "item" : "items"}`,
  value: actual,
});

/** A string as Go's %q writes it. */
export function quote(text: string): string {
  return JSON.stringify(text).replace(/\\u00(07|0b|1b|00|0[0-9a-f]|1[0-9a-f])/g, (_, code: string) =>
    code === "07" ? "\\a" : code === "0b" ? "\\v" : `\\x${code}`,
  );
}

/** The error's text without the field: `Invalid value: -1: must be greater than or equal to 0`. */
export function errorBody(error: FieldError): string {
  const title = titles[error.type];
  const shown = "value" in error && error.value !== undefined ? `${title}: ${goJson(error.value)}` : title;
  return error.detail === "" ? shown : `${shown}: ${error.detail}`;
}

const structs = new WeakSet<object>();

/** Marks a value as one of a Go struct: errors show its members as they stand, where those of maps are sorted. */
export function asStruct<T extends object>(value: T): T {
  structs.add(value);
  return value;
}

/** JSON as Go's encoder writes it: members of maps sorted, `<`, `>` and `&` escaped. */
function goJson(value: unknown): string {
  if (typeof value === "string") return quote(value);
  const text = JSON.stringify(value, (_, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part) && !structs.has(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
  return text.replace(/[<>&]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`);
}

/** `spec.replicas: Invalid value: -1: …`; several errors stand in brackets, equal ones once. */
export function errorText(errors: FieldError[]): string {
  const texts = [...new Set(errors.map((error) => `${error.field}: ${errorBody(error)}`))];
  return texts.length === 1 ? texts[0]! : `[${texts.join(", ")}]`;
}

/** The 422 that an API server answers for an invalid object (apimachinery `errors.NewInvalid`). */
export function invalidStatus(
  of: { group: string; kind: string },
  name: string,
  errors: FieldError[],
): Status {
  const kind = of.group === "" ? of.kind : `${of.kind}.${of.group}`;
  const text = `${kind} ${quote(name)} is invalid`;
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message: errors.length === 0 ? text : `${text}: ${errorText(errors)}`,
    reason: "Invalid",
    details: {
      ...(name === "" ? {} : { name }),
      ...(of.group === "" ? {} : { group: of.group }),
      ...(of.kind === "" ? {} : { kind: of.kind }),
      ...(errors.length === 0
        ? {}
        : {
            causes: errors.map((error) => ({
              reason: error.type,
              message: errorBody(error),
              field: error.field,
            })),
          }),
    },
    code: 422,
  };
}
