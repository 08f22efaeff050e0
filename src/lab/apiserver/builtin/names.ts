/** The syntax of names, labels and the like, with Kubernetes' texts (apimachinery `util/validation`, `api/validate/content`). */
import { type FieldError, invalid, isObject } from "../schema/index.ts";

/** A check of a text: what is wrong with it, in sentences; none when it is right. */
export type TextCheck = (value: string) => string[];

const label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const subdomain = `${label}(\\.${label})*`;
const key = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

const mostCharacters = (length: number) => `must be no more than ${length} characters`;
const mostBytes = (length: number) => `must be no more than ${length} bytes`;

function pattern(says: string, source: string, ...examples: string[]): string {
  if (examples.length === 0) return `${says} (regex used for validation is '${source}')`;
  const shown = examples.map((example) => `'${example}', `).join(" or ");
  return `${says} (e.g. ${shown}regex used for validation is '${source}')`;
}

const whole = new Map<string, RegExp>();
function fits(source: string, value: string): boolean {
  let made = whole.get(source);
  if (!made) {
    made = new RegExp(`^(?:${source})$`);
    whole.set(source, made);
  }
  return made.test(value);
}

/** RFC 1123 label: namespaces, containers, volumes, ports. */
export const dnsLabel: TextCheck = (value) => {
  const errors: string[] = [];
  if (value.length > 63) errors.push(mostCharacters(63));
  if (fits(label, value)) return errors;
  if (fits(subdomain, value)) errors.push("must not contain dots");
  else {
    const says =
      "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
    errors.push(pattern(says, label, "my-name", "123-abc"));
  }
  return errors;
};

/** RFC 1123 subdomain: the names of most kinds. */
export const dnsSubdomain: TextCheck = (value) => {
  const errors: string[] = [];
  if (value.length > 253) errors.push(mostCharacters(253));
  if (!fits(subdomain, value)) {
    const says =
      "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
    errors.push(pattern(says, subdomain, "example.com"));
  }
  return errors;
};

/** RFC 1035 label: versions and names of CRDs. */
export const dns1035Label: TextCheck = (value) => {
  const source = "[a-z]([-a-z0-9]*[a-z0-9])?";
  const errors: string[] = [];
  if (value.length > 63) errors.push(mostCharacters(63));
  if (!fits(source, value)) {
    const says =
      "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
    errors.push(pattern(says, source, "my-name", "abc-123"));
  }
  return errors;
};

const keyText =
  "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/** `prefix/name` or `name`: keys of labels and annotations, finalizers, conditions. */
export const qualifiedName: TextCheck = (value) => {
  const parts = value.split("/");
  const examples = ["MyName", "my.name", "123-abc"];
  if (parts.length > 2) {
    return [
      `a valid label key ${pattern(keyText, key, ...examples)} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  const errors: string[] = [];
  if (parts.length === 2) {
    if (parts[0] === "") errors.push("prefix part must be non-empty");
    else errors.push(...dnsSubdomain(parts[0]!).map((text) => `prefix part ${text}`));
  }
  const name = parts.at(-1)!;
  if (name === "") errors.push("name part must be non-empty");
  else if (name.length > 63) errors.push(`name part ${mostBytes(63)}`);
  if (!fits(key, name)) errors.push(`name part ${pattern(keyText, key, ...examples)}`);
  return errors;
};

export const labelValue: TextCheck = (value) => {
  const errors: string[] = [];
  if (value.length > 63) errors.push(mostBytes(63));
  const source = `(${key})?`;
  if (!fits(source, value)) {
    const says =
      "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    errors.push(pattern(says, source, "MyValue", "my_value", "12345"));
  }
  return errors;
};

/** Names of ports (RFC 6335). */
export const portName: TextCheck = (value) => {
  const errors: string[] = [];
  if (value.length > 15) errors.push(mostCharacters(15));
  if (!fits("[-a-z0-9]+", value))
    errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  if (!/[a-z]/.test(value)) errors.push("must contain at least one letter (a-z)");
  if (value.includes("--")) errors.push("must not contain consecutive hyphens");
  if (value !== "" && (value.startsWith("-") || value.endsWith("-")))
    errors.push("must not begin or end with a hyphen");
  return errors;
};

/** Names of environment variables since Kubernetes 1.34: printable ASCII without `=`. */
export const environmentName: TextCheck = (value) => {
  if (value === "") return ["environment variable name must be non-empty"];
  return /^[ -<>-~]+$/.test(value)
    ? []
    : ["a valid environment variable name must consist only of printable ASCII characters other than '='"];
};

/** Keys of ConfigMaps and Secrets. */
export const dataKey: TextCheck = (value) => {
  const errors: string[] = [];
  if (value.length > 253) errors.push(mostBytes(253));
  if (!fits("[-._a-zA-Z0-9]+", value)) {
    errors.push(
      pattern(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        "[-._a-zA-Z0-9]+",
        "key.name",
        "KEY_NAME",
        "key-name",
      ),
    );
  }
  if (value === "." || value === "..") errors.push(`must not be '${value}'`);
  else if (value.startsWith("..")) errors.push("must not start with '..'");
  return errors;
};

/** What may stand as one part of a URL's path: names of RBAC kinds. */
export const pathSegment: TextCheck = (value) => {
  if (value === "." || value === "..") return [`may not be '${value}'`];
  return ["/", "%"].filter((part) => value.includes(part)).map((part) => `may not contain '${part}'`);
};

export const portNumber = (value: number): string[] =>
  Number.isInteger(value) && value >= 1 && value <= 65535 ? [] : ["must be between 1 and 65535, inclusive"];

/** Turns the sentences of a check into field errors. */
export function checkText(check: TextCheck, field: string, value: string): FieldError[] {
  return check(value).map((detail) => invalid(field, value, detail));
}

/** A map of labels: keys and values. */
export function checkLabels(field: string, labels: unknown): FieldError[] {
  if (!isObject(labels)) return [];
  return Object.entries(labels).flatMap(([name, value]) => [
    ...checkText(qualifiedName, field, name),
    ...checkText(labelValue, field, typeof value === "string" ? value : ""),
  ]);
}

const mostAnnotations = 256 * 1024;

export function checkAnnotations(field: string, annotations: unknown): FieldError[] {
  if (!isObject(annotations)) return [];
  const errors = Object.keys(annotations).flatMap((name) =>
    qualifiedName(name.toLowerCase()).map((detail) => invalid(field, name, detail)),
  );
  const size = Object.entries(annotations).reduce(
    (sum, [name, value]) => sum + name.length + (typeof value === "string" ? value.length : 0),
    0,
  );
  if (size > mostAnnotations) {
    errors.push({
      field,
      type: "FieldValueTooLong",
      detail: `may not be more than ${mostAnnotations} bytes`,
    });
  }
  return errors;
}
