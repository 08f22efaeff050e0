/**
 * Schemas: those of Kubernetes' own kinds and those of CRDs, and what an API server does with them. Pure functions;
 * the tables of built-in kinds are read from disk when a group is first asked for.
 */
import { isBuiltinSchema } from "./builtin.ts";
import { checkRules } from "./cel.ts";
import type { FieldError } from "./errors.ts";
import type { Schema } from "./schema.ts";
import { validateStructure } from "./validate.ts";

export { builtinSchema, objectMetaSchema, openApiDefinitions, openApiName } from "./builtin.ts";
export { conditionProblem, holds, ruleProblems } from "./cel.ts";
export { applyDefaults, dropUnknown } from "./defaults.ts";
export { checkDefinitionSchema, unknownFormats } from "./definition.ts";
export * from "./errors.ts";
export {
  childPath,
  equalJson,
  isObject,
  type JsonObject,
  memberSchema,
  type Schema,
  setMember,
  type ValidationRule,
} from "./schema.ts";
export { checkStructural, schemaFromCrd } from "./structural.ts";

/**
 * What is wrong with a custom object: structure first, and only where that is sound the CEL rules. Parts unchanged
 * since `old` are not judged anew (KEP-4008); transition rules compare with it. For a built-in kind's schema there is
 * nothing to find: what OpenAPI calls required there Go fills with zero values. `validateBuiltin` judges those.
 */
export function validate(schema: Schema, object: object, old?: object): FieldError[] {
  if (isBuiltinSchema(schema)) return [];
  const errors = validateStructure(schema, object, old);
  return errors.length > 0 ? errors : checkRules(schema, object, old);
}
