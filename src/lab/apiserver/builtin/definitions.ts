/**
 * What CustomResourceDefinitions must be. Source: apiextensions `apis/apiextensions/validation/validation.go`.
 *
 * What all versions have alike stands once, in front of them, as in Kubernetes' internal form: so errors name
 * `spec.validation`, `spec.subresources` and `spec.additionalPrinterColumns`.
 */
import {
  asStruct,
  checkDefinitionSchema,
  equalJson,
  type FieldError,
  invalid,
  isObject,
  type JsonObject,
  required,
  type Schema,
} from "../schema/index.ts";
import { immutable, oneOf } from "./checks.ts";
import { dns1035Label, dnsSubdomain } from "./names.ts";
import { record, records, strings, text } from "./values.ts";

export function checkCustomResourceDefinition(definition: JsonObject, old?: JsonObject): FieldError[] {
  const spec = record(definition.spec);
  const names = record(spec.names);
  const name = text(record(definition.metadata).name);
  const group = text(spec.group);
  const errors: FieldError[] = [];
  if (!old && name !== `${text(names.plural)}.${group}`) {
    errors.push(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'));
  }
  errors.push(...checkGroup(group));
  errors.push(...oneOf("spec.scope", spec.scope, ["Cluster", "Namespaced"]));
  const versions = records(spec.versions);
  const shared = sharedParts(versions);
  versions.forEach((version, i) => {
    if (!isObject(record(version.schema).openAPIV3Schema))
      errors.push(required(`spec.versions[${i}].schema.openAPIV3Schema`));
  });
  versions.forEach((version, i) => {
    errors.push(...checkVersion(version, `spec.versions[${i}]`, shared));
  });
  errors.push(...checkVersions(versions));
  errors.push(...checkNames(names));
  errors.push(...checkShared(versions[0] ?? {}, shared));
  if (text(record(spec.conversion).strategy) !== "") {
    errors.push(...oneOf("spec.conversion.strategy", record(spec.conversion).strategy, ["None", "Webhook"]));
  }
  if (spec.preserveUnknownFields === true) {
    const says =
      "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    errors.push(invalid("spec.preserveUnknownFields", true, says));
  }
  errors.push(...checkStoredVersions(definition, versions));
  if (old) errors.push(...checkChange(spec, old));
  return errors;
}

function checkGroup(group: string): FieldError[] {
  if (group === "") return [required("spec.group")];
  const problems = dnsSubdomain(group);
  if (problems.length > 0) return [invalid("spec.group", group, problems.join(","))];
  return group.includes(".")
    ? []
    : [invalid("spec.group", group, "should be a domain with at least one dot")];
}

const parts = ["schema", "subresources", "additionalPrinterColumns", "selectableFields"] as const;
type Part = (typeof parts)[number];

/** The parts in which all versions are alike. */
function sharedParts(versions: readonly JsonObject[]): ReadonlySet<Part> {
  const alike = (part: Part) => versions.every((version) => equalJson(version[part], versions[0]![part]));
  return new Set(versions.length === 0 ? [] : parts.filter(alike));
}

function checkVersion(version: JsonObject, field: string, shared: ReadonlySet<Part>): FieldError[] {
  const name = text(version.name);
  const problems = dns1035Label(name);
  const errors = problems.length > 0 ? [invalid(`${field}.name`, name, problems.join(","))] : [];
  errors.push(...checkDeprecation(version, `${field}.deprecationWarning`));
  const at = { schema: `${field}.schema`, fields: field };
  return [...errors, ...checkParts(version, at, (part) => !shared.has(part))];
}

function checkShared(version: JsonObject, shared: ReadonlySet<Part>): FieldError[] {
  return checkParts(version, { schema: "spec.validation", fields: "spec" }, (part) => shared.has(part));
}

function checkParts(
  version: JsonObject,
  at: { schema: string; fields: string },
  isHere: (part: Part) => boolean,
): FieldError[] {
  const errors: FieldError[] = [];
  const schema = record(version.schema).openAPIV3Schema;
  if (isHere("schema") && isObject(schema)) {
    errors.push(...checkDefinitionSchema(schema as Schema, `${at.schema}.openAPIV3Schema`));
  }
  if (isHere("subresources")) {
    const { scale } = record(version.subresources);
    if (isObject(scale)) errors.push(...checkScale(scale, `${at.fields}.subresources.scale`));
  }
  if (isHere("additionalPrinterColumns")) {
    records(version.additionalPrinterColumns).forEach((column, i) => {
      errors.push(...checkColumn(column, `${at.fields}.additionalPrinterColumns[${i}]`));
    });
  }
  if (isHere("selectableFields") && isObject(schema)) {
    errors.push(
      ...checkSelectable(
        records(version.selectableFields),
        schema as Schema,
        `${at.fields}.selectableFields`,
      ),
    );
  }
  return errors;
}

function checkDeprecation(version: JsonObject, field: string): FieldError[] {
  const warning = version.deprecationWarning;
  if (typeof warning !== "string") return [];
  if (version.deprecated !== true)
    return [invalid(field, warning, "can only be set for deprecated versions")];
  const errors: FieldError[] = [];
  if (Buffer.byteLength(warning) > 256)
    errors.push(invalid(field, warning, "must be <= 256 characters long"));
  if (warning === "") errors.push(invalid(field, warning, "must not be an empty string"));
  const index = [...warning].findIndex((char) => !/[\p{L}\p{M}\p{N}\p{P}\p{S} ]/u.test(char));
  if (index >= 0) {
    const says = "must only contain printable UTF-8 characters; non-printable character found at index";
    errors.push(
      invalid(field, warning, `${says} ${Buffer.byteLength([...warning].slice(0, index).join(""))}`),
    );
  }
  return errors;
}

function checkScale(scale: JsonObject, field: string): FieldError[] {
  const errors: FieldError[] = [];
  const path = (name: string, starts: readonly string[], isNeeded: boolean, under: string) => {
    const value = text(scale[name]);
    if (value === "") {
      if (isNeeded) errors.push(required(`${field}.${name}`));
    } else if (!value.startsWith("."))
      errors.push(invalid(`${field}.${name}`, value, "must be a simple json path starting with ."));
    else if (!starts.some((start) => value.startsWith(start)))
      errors.push(invalid(`${field}.${name}`, value, `should be a json path under ${under}`));
  };
  path("specReplicasPath", [".spec."], true, ".spec");
  path("statusReplicasPath", [".status."], true, ".status");
  path("labelSelectorPath", [".spec.", ".status."], false, "either .spec or .status");
  return errors;
}

const columnTypes = ["boolean", "date", "integer", "number", "string"];
const columnFormats = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

function checkColumn(column: JsonObject, field: string): FieldError[] {
  const errors: FieldError[] = [];
  if (text(column.name) === "") errors.push(required(`${field}.name`));
  const type = text(column.type);
  if (type === "") errors.push(required(`${field}.type`, `must be one of ${columnTypes.join(",")}`));
  else if (!columnTypes.includes(type))
    errors.push(invalid(`${field}.type`, type, `must be one of ${columnTypes.join(",")}`));
  const format = text(column.format);
  if (format !== "" && !columnFormats.includes(format))
    errors.push(invalid(`${field}.format`, format, `must be one of ${columnFormats.join(",")}`));
  const path = text(column.jsonPath);
  if (path === "") errors.push(required(`${field}.JSONPath`));
  else if (!path.startsWith("."))
    errors.push(invalid(`${field}.JSONPath`, path, "must be a simple json path starting with ."));
  return errors;
}

function checkSelectable(fields: readonly JsonObject[], schema: Schema, field: string): FieldError[] {
  const seen = new Set<string>();
  return fields.flatMap(({ jsonPath }, i): FieldError[] => {
    const path = text(jsonPath);
    const at = `${field}[${i}].jsonPath`;
    if (path === "") return [required(at)];
    let found: Schema | undefined = schema;
    for (const step of path.replace(/^\./, "").split(".")) found = found?.properties?.[step];
    if (!found) return [invalid(at, path, "is an invalid path: does not refer to a valid field")];
    if (!["string", "boolean", "integer"].includes(found.type ?? "")) {
      const says =
        "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
      return [invalid(at, path, says)];
    }
    if (seen.has(path)) return [{ field: at, type: "FieldValueDuplicate", detail: "", value: path }];
    seen.add(path);
    return [];
  });
}

function checkVersions(versions: readonly JsonObject[]): FieldError[] {
  const errors: FieldError[] = [];
  const wrong = (says: string) => errors.push(invalid("spec.versions", versions.map(asVersion), says));
  if (new Set(versions.map((version) => version.name)).size < versions.length) {
    wrong("must contain unique version names");
  }
  if (versions.filter((version) => version.storage === true).length !== 1) {
    wrong("must have exactly one version marked as storage version");
  }
  const [first] = versions;
  const problems = first ? dns1035Label(text(first.name)) : [];
  if (first && text(first.name) !== "" && problems.length > 0)
    errors.push(invalid("spec.version", first.name, problems.join(",")));
  return errors;
}

/** A version as Go shows it, but for what is not alike in all versions. */
function asVersion(version: JsonObject): object {
  return asStruct({
    Name: text(version.name),
    Served: version.served === true,
    Storage: version.storage === true,
    Deprecated: version.deprecated === true,
    DeprecationWarning: version.deprecationWarning ?? null,
    Schema: null,
    Subresources: null,
    AdditionalPrinterColumns: null,
    SelectableFields: null,
  });
}

function checkStoredVersions(definition: JsonObject, versions: readonly JsonObject[]): FieldError[] {
  const stored = strings(record(definition.status).storedVersions);
  const errors: FieldError[] = [];
  if (stored.length === 0)
    errors.push(invalid("status.storedVersions", null, "must have at least one stored version"));
  for (const version of versions) {
    if (version.storage !== true || stored.length === 0 || stored.includes(text(version.name))) continue;
    const says = `must have the storage version ${text(version.name)}`;
    errors.push(invalid("status.storedVersions", stored, says));
  }
  stored.forEach((version, i) => {
    if (versions.some((other) => other.name === version)) return;
    const says = `missing from spec.versions; ${version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in ${version} and removes ${version} from status.storedVersions`;
    errors.push(invalid(`status.storedVersions[${i}]`, version, says));
  });
  return errors;
}

function checkChange(spec: JsonObject, old: JsonObject): FieldError[] {
  const before = record(old.spec);
  const names = record(spec.names);
  const isEstablished = records(record(old.status).conditions).some(
    (condition) => condition.type === "Established" && condition.status === "True",
  );
  return [
    ...(isEstablished ? immutable("spec.scope", spec.scope, before.scope) : []),
    ...(isEstablished ? immutable("spec.names.kind", names.kind, record(before.names).kind) : []),
    ...immutable("spec.group", spec.group, before.group),
    ...immutable("spec.names.plural", names.plural, record(before.names).plural),
  ];
}

function checkNames(names: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of ["plural", "singular", "kind", "listKind"]) {
    const value = text(names[name]);
    const field = `spec.names.${name}`;
    if (value === "") {
      errors.push(required(field));
      continue;
    }
    const isKind = name === "kind" || name === "listKind";
    const problems = dns1035Label(isKind ? value.toLowerCase() : value);
    const says = isKind ? "may have mixed case, but should otherwise match: " : "";
    if (problems.length > 0) errors.push(invalid(field, value, says + problems.join(",")));
  }
  for (const list of ["shortNames", "categories"]) {
    strings(names[list]).forEach((value, i) => {
      const problems = dns1035Label(value);
      if (problems.length > 0) errors.push(invalid(`spec.names.${list}[${i}]`, value, problems.join(",")));
    });
  }
  if (text(names.kind) !== "" && names.kind === names.listKind) {
    errors.push(invalid("spec.names.listKind", names.listKind, "kind and listKind may not be the same"));
  }
  return errors;
}
