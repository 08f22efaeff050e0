/** Quantities of resources (apimachinery `pkg/api/resource`): `500m`, `1Gi`, `1e3`. */

/** The text of the error for what is no quantity. */
export const quantityError =
  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

const binary = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/** A quantity in billionths (nano), the finest that there is. */
export interface Quantity {
  nano: bigint;
  format: "binary" | "decimal" | "exponent";
}

/** Undefined when the text is no quantity. Finer than nano is rounded up. */
export function parseQuantity(from: unknown): Quantity | undefined {
  const text = typeof from === "number" ? String(from) : from;
  if (typeof text !== "string") return undefined;
  const match = /^([+-]?)(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,3})?$/.exec(text);
  if (!match) return undefined;
  const [, sign, digits = "", suffix = ""] = match;
  const [whole = "", fraction = ""] = digits.split(".");
  let nano = BigInt(whole + fraction);
  let exponent = 9 - fraction.length;
  let format: Quantity["format"] = "decimal";
  if (/^[eE].+/.test(suffix)) {
    exponent += Number(suffix.slice(1));
    format = "exponent";
  } else if (suffix.endsWith("i")) {
    nano *= 1024n ** BigInt(binary.indexOf(suffix));
    format = "binary";
  } else {
    exponent += 3 * (decimal.indexOf(suffix) - 3);
  }
  if (exponent >= 0) nano *= 10n ** BigInt(exponent);
  else nano = (nano + 10n ** BigInt(-exponent) - 1n) / 10n ** BigInt(-exponent);
  return { nano: sign === "-" ? -nano : nano, format };
}

const canonical = new Map<string, string>();

/** The one way in which Kubernetes writes a quantity: `0.5` is `500m`, `1024Mi` is `1Gi`. Undefined when it is none. */
export function canonicalQuantity(from: unknown): string | undefined {
  if (typeof from !== "string" && typeof from !== "number") return undefined;
  const text = String(from);
  const known = canonical.get(text);
  if (known !== undefined) return known;
  const quantity = parseQuantity(text);
  if (!quantity) return undefined;
  const written = writeQuantity(quantity);
  if (canonical.size > 1000) canonical.clear();
  canonical.set(text, written);
  return written;
}

function writeQuantity({ nano, format }: Quantity): string {
  if (nano === 0n) return "0";
  const one = 10n ** 9n;
  const size = nano < 0n ? -nano : nano;
  const sign = nano < 0n ? "-" : "";
  if (format === "binary" && size % one === 0n && size >= 1024n * one) {
    let amount = size / one;
    let unit = 0;
    for (; amount % 1024n === 0n && unit < binary.length - 1; unit++) amount /= 1024n;
    return `${sign}${amount}${binary[unit]}`;
  }
  let amount = size;
  let unit = 0;
  for (; amount % 1000n === 0n && unit < decimal.length - 1; unit++) amount /= 1000n;
  if (format === "exponent") return unit === 3 ? `${sign}${amount}` : `${sign}${amount}e${3 * (unit - 3)}`;
  return `${sign}${amount}${decimal[unit]}`;
}
