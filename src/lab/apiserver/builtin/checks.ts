/** Small checks that many kinds share (kubernetes `pkg/apis/core/validation`). */
import { equalJson, type FieldError, invalid, notSupported, required } from "../schema/index.ts";
import { portName, portNumber } from "./names.ts";

/** A number that is given must not be below zero. */
export function nonNegative(field: string, value: unknown): FieldError[] {
  return typeof value === "number" && value < 0
    ? [invalid(field, value, "must be greater than or equal to 0")]
    : [];
}

/** One of a few words; an absent or empty one is missing. */
export function oneOf(field: string, value: unknown, supported: readonly string[]): FieldError[] {
  if (value === undefined || value === "") return [required(field)];
  return supported.includes(value as string) ? [] : [notSupported(field, value, supported)];
}

/** A field that may not change once it is set. */
export function immutable(field: string, value: unknown, old: unknown): FieldError[] {
  return equalJson(value, old) ? [] : [invalid(field, value, "field is immutable")];
}

/** The number or the name of a port. */
export function portOrName(field: string, value: unknown): FieldError[] {
  const details =
    typeof value === "string" ? portName(value) : portNumber(typeof value === "number" ? value : 0);
  return details.map((detail) => invalid(field, value ?? 0, detail));
}

/** `25%` or a number, not below zero, and not above 100%. */
export function countOrPercent(field: string, value: unknown): FieldError[] {
  if (typeof value === "number") return nonNegative(field, value);
  if (typeof value !== "string") return [];
  if (!/^[0-9]+%$/.test(value)) {
    return [
      invalid(
        field,
        value,
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
      ),
    ];
  }
  return [];
}

export const protocols = ["SCTP", "TCP", "UDP"];

/** Empty and absent containers are the same to Go; so equal specs may differ in them. */
export function sameSemantics(a: unknown, b: unknown): boolean {
  return equalJson(withoutEmpty(a), withoutEmpty(b));
}

function withoutEmpty(value: unknown): unknown {
  if (Array.isArray(value))
    return value.length === 0 ? undefined : value.map((item) => withoutEmpty(item) ?? null);
  if (typeof value !== "object" || value === null) return value ?? undefined;
  const out: Record<string, unknown> = {};
  for (const [name, member] of Object.entries(value)) {
    const kept = withoutEmpty(member);
    if (kept !== undefined) out[name] = kept;
  }
  return out;
}
