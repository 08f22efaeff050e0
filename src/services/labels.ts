/**
 * Labels and annotations that an API server would refuse (apimachinery `pkg/apis/meta/v1/validation` and
 * `pkg/api/validation`): an import that carries one could not be written at all.
 */

const name = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const prefix = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const longestPrefix = 253;
/** Bytes of all annotations of an object together. */
const mostAnnotations = 256 * 1024;

type Pairs = Readonly<Record<string, string>>;

/** What is wrong with the first wrong label, with its field path; undefined when all are good. */
export function strangeLabel(labels: Pairs = {}, field = "labels"): string | undefined {
  for (const [key, value] of Object.entries(labels)) {
    if (!isKey(key)) return `${field}: "${key}" is not the key of a label.`;
    if (value !== "" && !name.test(value)) return `${field}[${key}]: "${value}" is not the value of a label.`;
  }
  return undefined;
}

/** The same for annotations, whose values are free. */
export function strangeAnnotation(annotations: Pairs = {}, field = "annotations"): string | undefined {
  let size = 0;
  for (const [key, value] of Object.entries(annotations)) {
    // Annotations' keys are compared in lower case.
    if (!isKey(key.toLowerCase())) return `${field}: "${key}" is not the key of an annotation.`;
    size += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  return size > mostAnnotations ? `${field}: must have at most ${mostAnnotations} bytes.` : undefined;
}

function isKey(key: string): boolean {
  const [first = "", second, ...more] = key.split("/");
  if (more.length > 0) return false;
  if (second === undefined) return name.test(first);
  return first.length <= longestPrefix && prefix.test(first) && name.test(second);
}
