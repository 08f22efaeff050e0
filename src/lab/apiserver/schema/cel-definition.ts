/**
 * Whether the rules of a definition's schema can be rules: kube-apiserver compiles them when the definition is written
 * (apiextensions `apis/apiextensions/validation/validation.go`, `schema/cel/compilation.go`). Refused is what is wrong
 * for certain; what this server does not know is left to `ruleProblems`.
 */
import { createRequire } from "node:module";
import { checkTypes } from "./cel-check.ts";
import type { parseExpression } from "./cel-library.ts";
import { showMistakes, syntaxMistakes } from "./cel-syntax.ts";
import { type CelType, typeOfSchema, unknownType } from "./cel-types.ts";
import { asStruct, type FieldError, invalid, notSupported, required } from "./errors.ts";
import type { Schema, ValidationRule } from "./schema.ts";

const reasons = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

const isBlank = (text: string | undefined) => text !== undefined && text !== "" && text.trim() === "";

/** What is wrong with how the rules of one schema are written, their expressions apart; `path` is the schema's. */
export function checkRuleFields(schema: Schema, path: string): FieldError[] {
  return (schema["x-kubernetes-validations"] ?? []).flatMap((rule, i) => {
    const at = `${path}.x-kubernetes-validations[${i}]`;
    const errors: FieldError[] = [];
    const message = rule.message?.trim() ?? "";
    if ((rule.rule ?? "").trim() === "") errors.push(required(`${at}.rule`, "rule is not specified"));
    else if (isBlank(rule.message))
      errors.push(invalid(`${at}.message`, rule.message, "must be non-empty if specified"));
    else if (/[\n\r]/.test(message))
      errors.push(invalid(`${at}.message`, rule.message, "must not contain line breaks"));
    else if (/[\n\r]/.test(rule.rule.trim()) && message === "")
      errors.push(required(`${at}.message`, "message must be specified if rule contains line breaks"));
    if (isBlank(rule.messageExpression))
      errors.push(required(`${at}.messageExpression`, "messageExpression must be non-empty if specified"));
    if (rule.reason !== undefined && !reasons.includes(rule.reason))
      errors.push(notSupported(`${at}.reason`, rule.reason, reasons));
    return errors;
  });
}

/** The errors of one schema's rules as expressions; `isResource` at the root and in embedded resources. */
export function checkRuleExpressions(schema: Schema, path: string, isResource: boolean): FieldError[] {
  return (schema["x-kubernetes-validations"] ?? []).flatMap((rule, i) => {
    const at = `${path}.x-kubernetes-validations[${i}]`;
    const mistake = ruleMistake(schema, isResource, rule);
    if (mistake) return [invalid(`${at}.${mistake.field}`, shown(rule), mistake.says)];
    return [];
  });
}

/** What is certainly wrong with a rule's expressions, as kube-apiserver says it. */
export function ruleMistake(
  schema: Schema,
  isResource: boolean,
  rule: ValidationRule,
): { field: "rule" | "messageExpression"; says: string } | undefined {
  const self = typeOfSchema(schema, isResource);
  const variables = new Map([
    ["self", self],
    ["oldSelf", rule.optionalOldSelf ? unknownType : self],
  ]);
  const ofRule = compileMistake(rule.rule, variables, "bool");
  if (ofRule !== undefined) {
    const says = ofRule === "" ? "cel expression must evaluate to a bool" : `compilation failed: ${ofRule}`;
    return { field: "rule", says };
  }
  if (!rule.messageExpression) return undefined;
  const ofMessage = compileMistake(rule.messageExpression, variables, "string");
  if (ofMessage === undefined) return undefined;
  const says = ofMessage === "" ? "must evaluate to a string" : `compilation failed: ${ofMessage}`;
  return { field: "messageExpression", says: `messageExpression ${says}` };
}

/** The mistakes of an expression; empty when it is only of another type. */
function compileMistake(
  source: string,
  variables: ReadonlyMap<string, CelType>,
  wanted: string,
): string | undefined {
  const { parseExpression: parse } = createRequire(import.meta.url)("./cel-library.ts") as {
    parseExpression: typeof parseExpression;
  };
  const syntax = syntaxMistakes(source, parse);
  if (syntax.length > 0) return showMistakes(source, syntax);
  let root: ReturnType<typeof parse>;
  try {
    root = parse(source);
  } catch {
    return undefined;
  }
  const { mistakes, type } = checkTypes(source, root, variables);
  if (mistakes.length > 0) return showMistakes(source, mistakes);
  return [wanted, "error", "unknown"].includes(type.kind) ? undefined : "";
}

/** A rule as Go's error shows it. */
function shown(rule: ValidationRule): object {
  return asStruct({
    Rule: rule.rule,
    Message: rule.message ?? "",
    MessageExpression: rule.messageExpression ?? "",
    Reason: rule.reason ?? null,
    FieldPath: rule.fieldPath ?? "",
    OptionalOldSelf: rule.optionalOldSelf ?? null,
  });
}
