/** What the volumes of a pod must be (kubernetes `pkg/apis/core/validation`, ValidateVolumes). */
import {
  duplicate,
  type FieldError,
  forbidden,
  invalid,
  isObject,
  type JsonObject,
  required,
} from "../schema/index.ts";
import { checkText, dnsLabel } from "./names.ts";
import { record, records, text } from "./values.ts";

const fileMode = "must be a number between 0 and 0777 (octal), both inclusive";

/** The errors, and the names that containers may mount. */
export function checkVolumes(
  volumes: JsonObject[],
  path: string,
): { errors: FieldError[]; names: Set<string> } {
  const errors: FieldError[] = [];
  const names = new Set<string>();
  volumes.forEach((volume, i) => {
    const field = `${path}[${i}]`;
    const name = text(volume.name);
    const found = checkSources(volume, field);
    if (name === "") found.push(required(`${field}.name`));
    else found.push(...checkText(dnsLabel, `${field}.name`, name));
    if (names.has(name)) found.push(duplicate(`${field}.name`, name));
    if (found.length === 0) names.add(name);
    errors.push(...found);
  });
  return { errors, names };
}

function checkSources(volume: JsonObject, field: string): FieldError[] {
  const errors: FieldError[] = [];
  const sources = Object.entries(volume).filter(
    (entry): entry is [string, JsonObject] => entry[0] !== "name" && isObject(entry[1]),
  );
  if (sources.length === 0) return [required(field, "must specify a volume type")];
  sources.forEach(([kind, source], i) => {
    const at = `${field}.${kind}`;
    if (i > 0) errors.push(forbidden(at, "may not specify more than 1 volume type"));
    else errors.push(...checkSource(kind, source, at));
  });
  return errors;
}

const needed: Record<string, string> = {
  hostPath: "path",
  secret: "secretName",
  configMap: "name",
  persistentVolumeClaim: "claimName",
  csi: "driver",
};

function checkSource(kind: string, source: JsonObject, field: string): FieldError[] {
  const errors: FieldError[] = [];
  const must = needed[kind];
  if (must && text(source[must]) === "") errors.push(required(`${field}.${must}`));
  if (kind === "hostPath") errors.push(...checkBacksteps(`${field}.path`, text(source.path)));
  const mode = source.defaultMode;
  if (typeof mode === "number" && (mode > 0o777 || mode < 0))
    errors.push(invalid(`${field}.defaultMode`, mode, fileMode));
  if (kind === "projected") {
    records(source.sources).forEach((projection, i) => {
      const at = `${field}.sources[${i}]`;
      const given = Object.entries(projection).filter(([, value]) => isObject(value));
      if (given.length > 1) errors.push(forbidden(at, "may not specify more than 1 volume type"));
      const token = projection.serviceAccountToken;
      if (isObject(token)) {
        if (text(token.path) === "") errors.push(required(`${at}.serviceAccountToken.path`));
        if (typeof token.expirationSeconds === "number" && token.expirationSeconds < 600) {
          errors.push(
            invalid(
              `${at}.serviceAccountToken.expirationSeconds`,
              token.expirationSeconds,
              "may not specify a duration less than 10 minutes",
            ),
          );
        }
      }
      for (const origin of ["secret", "configMap"]) {
        const part = projection[origin];
        if (!isObject(part)) continue;
        if (text(part.name) === "") errors.push(required(`${at}.${origin}.name`));
        errors.push(...checkItems(part, `${at}.${origin}`));
      }
    });
  } else {
    errors.push(...checkItems(source, field));
  }
  return errors;
}

function checkItems(source: JsonObject, field: string): FieldError[] {
  return records(source.items).flatMap((item, i) => {
    const at = `${field}.items[${i}]`;
    const errors: FieldError[] = [];
    if (
      text(item.key) === "" &&
      (record(item.fieldRef) === item.fieldRef) === false &&
      item.resourceFieldRef === undefined
    ) {
      errors.push(required(`${at}.key`));
    }
    const path = text(item.path);
    if (path === "") errors.push(required(`${at}.path`));
    else errors.push(...checkDescending(`${at}.path`, path));
    if (typeof item.mode === "number" && (item.mode > 0o777 || item.mode < 0)) {
      errors.push(invalid(`${at}.mode`, item.mode, fileMode));
    }
    return errors;
  });
}

/** A path inside the volume: relative, and not leaving it. */
export function checkDescending(field: string, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (path.startsWith("/")) errors.push(invalid(field, path, "must be a relative path"));
  return [...errors, ...checkBacksteps(field, path)];
}

function checkBacksteps(field: string, path: string): FieldError[] {
  return path.split("/").includes("..") ? [invalid(field, path, "must not contain '..'")] : [];
}
