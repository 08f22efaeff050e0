/**
 * CEL rules of schemas (`x-kubernetes-validations`; apiextensions `schema/cel/validation.go`). The CEL
 * implementation is loaded when the first rule is met. Costs are not counted: the lab trusts its CRDs.
 */
import { createRequire } from "node:module";
import { ruleMistake } from "./cel-definition.ts";
import type { CompiledRule, makeCompiler } from "./cel-library.ts";
import { toCel } from "./cel-values.ts";
import { duplicate, type FieldError, forbidden, required } from "./errors.ts";
import { childPath, equalJson, isObject, memberSchema, type Schema, type ValidationRule } from "./schema.ts";
import { correlate } from "./validate.ts";

type Compiler = ReturnType<typeof makeCompiler>;

function loadCompiler(variables?: readonly string[]): Compiler {
  const load = createRequire(import.meta.url);
  return (load("./cel-library.ts") as { makeCompiler: typeof makeCompiler }).makeCompiler(variables);
}

let ofRules: Compiler | undefined;

function compile(expression: string): CompiledRule | Error {
  ofRules ??= loadCompiler();
  return ofRules(expression);
}

let ofConditions: Compiler | undefined;

/** Why an expression can be no condition of admission; undefined where it can. */
export function conditionProblem(expression: string): string | undefined {
  ofConditions ??= loadCompiler(["object", "oldObject", "request"]);
  const compiled = ofConditions(expression);
  if (compiled instanceof Error) return `compilation failed: ${compiled.message}`;
  const { type } = compiled;
  return type === undefined || type === "bool" || type === "dyn"
    ? undefined
    : `must evaluate to bool but got ${type}`;
}

/**
 * Asks a condition of admission (`matchConditions`) about plain data. Returns an Error for one that cannot be compiled
 * or evaluated.
 */
export function holds(
  expression: string,
  about: { object: unknown; oldObject: unknown; request: unknown },
): boolean | Error {
  ofConditions ??= loadCompiler(["object", "oldObject", "request"]);
  const compiled = ofConditions(expression);
  if (compiled instanceof Error) return compiled;
  try {
    return (
      compiled.run({
        object: toCel(undefined, about.object ?? null),
        oldObject: toCel(undefined, about.oldObject ?? null),
        request: toCel(undefined, about.request),
      }) === true
    );
  } catch (error) {
    return new Error(error instanceof Error ? summary(error) : String(error));
  }
}

const withRules = new WeakMap<Schema, boolean>();

/** Whether a schema or a part of it has rules; most have none and are not walked. */
function hasRules(schema: Schema): boolean {
  const known = withRules.get(schema);
  if (known !== undefined) return known;
  withRules.set(schema, false);
  const rest = schema.additionalProperties;
  const found =
    (schema["x-kubernetes-validations"]?.length ?? 0) > 0 ||
    Object.values(schema.properties ?? {}).some(hasRules) ||
    (schema.items !== undefined && hasRules(schema.items)) ||
    (typeof rest === "object" && hasRules(rest)) ||
    (schema.allOf ?? []).some(hasRules);
  withRules.set(schema, found);
  return found;
}

/**
 * The rules that this implementation cannot compile, though they may be right, with the reason; an API server shows
 * them as warnings when the CRD is created. They count as kept. Those that are wrong for certain, the definition's
 * validation refuses.
 */
export function ruleProblems(schema: Schema, path = ""): string[] {
  if (!hasRules(schema)) return [];
  const isResource = path === "" || schema["x-kubernetes-embedded-resource"] === true;
  const problems = (schema["x-kubernetes-validations"] ?? []).flatMap((rule) => {
    if (typeof rule.rule !== "string" || ruleMistake(schema, isResource, rule)) return [];
    const compiled = compile(rule.rule);
    return compiled instanceof Error
      ? [`${path || "<root>"}: rule ${rule.rule.trim()} is not checked: ${summary(compiled)}`]
      : [];
  });
  const rest = schema.additionalProperties;
  const below: [string, Schema | undefined][] = [
    ...Object.entries(schema.properties ?? {}).map(([name, of]): [string, Schema] => [
      childPath(path, name),
      of,
    ]),
    [`${path}[]`, schema.items],
    [`${path}[]`, typeof rest === "object" ? rest : undefined],
    ...(schema.allOf ?? []).map((of): [string, Schema] => [path, of]),
  ];
  return [...problems, ...below.flatMap(([at, of]) => (of ? ruleProblems(of, at) : []))];
}

/**
 * What the rules find wrong with an object. Transition rules (those that name `oldSelf`) are asked only where there
 * is an old value, unless they say that it may be missing. Other rules do not complain of what did not change.
 */
export function checkRules(schema: Schema, object: object, old?: object): FieldError[] {
  const errors: FieldError[] = [];
  walk(schema, object, old, "", errors, true);
  return errors;
}

function walk(
  schema: Schema,
  value: unknown,
  old: unknown,
  path: string,
  errors: FieldError[],
  isRoot: boolean,
): void {
  if (value === undefined || value === null || !hasRules(schema)) return;
  const rules = schema["x-kubernetes-validations"];
  if (rules && rules.length > 0) checkNode(schema, rules, value, old, path, errors, isRoot);
  for (const part of schema.allOf ?? []) walk({ ...schema, ...part }, value, old, path, errors, false);
  if (Array.isArray(value)) {
    const { items } = schema;
    if (!items) return;
    const oldItem = correlate(schema, old);
    value.forEach((item, i) => {
      walk(items, item, oldItem(item), `${path}[${i}]`, errors, false);
    });
  } else if (isObject(value)) {
    for (const [name, member] of Object.entries(value)) {
      const of = memberSchema(schema, name);
      if (of) walk(of, member, isObject(old) ? old[name] : undefined, childPath(path, name), errors, false);
    }
  }
}

function checkNode(
  schema: Schema,
  rules: ValidationRule[],
  value: unknown,
  old: unknown,
  path: string,
  errors: FieldError[],
  isRoot: boolean,
): void {
  const self = toCel(schema, value, isRoot);
  const hasOld = old !== undefined && old !== null;
  const oldSelf = hasOld ? toCel(schema, old, isRoot) : undefined;
  const isUnchanged = hasOld && equalJson(value, old);
  for (const rule of rules) {
    const compiled = compile(rule.rule);
    if (compiled instanceof Error) continue;
    const isTransition = compiled.names.has("oldSelf");
    if (isTransition && !hasOld && !rule.optionalOldSelf) continue;
    if (!isTransition && isUnchanged) continue;
    const variables = rule.optionalOldSelf ? compiled.withOptional(self, oldSelf) : { self, oldSelf };
    let holds: unknown;
    try {
      holds = compiled.run(variables);
    } catch (error) {
      const why = error instanceof Error ? summary(error) : String(error);
      errors.push(wrong(path, `${why} evaluating rule: ${(rule.message ?? rule.rule).trim()}`, schema.type));
      continue;
    }
    if (holds !== true) errors.push(violation(schema, rule, value, path, variables));
  }
}

/** The message of a CEL error without the source that it points into. */
function summary(error: Error): string {
  return error.message.split("\n")[0]!;
}

function wrong(path: string, detail: string, value: unknown): FieldError {
  return { field: path || "<nil>", type: "FieldValueInvalid", detail, value };
}

function violation(
  schema: Schema,
  rule: ValidationRule,
  value: unknown,
  path: string,
  variables: Record<string, unknown>,
): FieldError {
  const detail = messageOf(rule, variables);
  const field = `${path}${rule.fieldPath ?? ""}`.replace(/^\./, "") || "<nil>";
  switch (rule.reason) {
    case "FieldValueForbidden":
      return forbidden(field, detail);
    case "FieldValueRequired":
      return required(field, detail);
    case "FieldValueDuplicate":
      return duplicate(field, value);
    default: {
      const isShown = schema.type !== "object" && schema.type !== "array";
      return wrong(field, detail, isShown ? value : undefined);
    }
  }
}

/** The message expression's text when it gives a good one, then the message, then the rule itself. */
function messageOf(rule: ValidationRule, variables: Record<string, unknown>): string {
  if (rule.messageExpression) {
    const compiled = compile(rule.messageExpression);
    try {
      const made = compiled instanceof Error ? undefined : compiled.run(variables);
      if (typeof made === "string" && made.trim() !== "" && !made.includes("\n")) return made.trim();
    } catch {
      // A message that cannot be made is no reason to keep the violation quiet; the plain message says it too.
    }
  }
  return rule.message ? rule.message.trim() : `failed rule: ${rule.rule.trim()}`;
}
