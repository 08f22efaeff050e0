/** Command lines as Go programs read them: `--name=value`, `-name value`. */

/** Reads string flags; what is not known ends the program with exit code 2, as Go's flag package does. */
export function readFlags<K extends string>(
  defaults: Record<K, string>,
  args = process.argv.slice(2),
): Record<K, string> {
  const values = { ...defaults };
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined && arg !== "--" && arg.startsWith("-"); arg = rest.shift()) {
    const [, name = "", inline] = /^--?([^=]*)(?:=([\s\S]*))?$/.exec(arg) ?? [];
    if (!Object.hasOwn(defaults, name)) fail(`flag provided but not defined: -${name}`, defaults);
    const value = inline ?? rest.shift();
    if (value === undefined) fail(`flag needs an argument: -${name}`, defaults);
    values[name as K] = value;
  }
  return values;
}

function fail(message: string, defaults: Record<string, string>): never {
  const usage = Object.entries(defaults).map(([name, value]) => `  -${name} string (default "${value}")`);
  process.stderr.write(`${message}\nUsage:\n${usage.join("\n")}\n`);
  process.exit(2);
}

/** A duration as Go writes it (`5s`, `1m30s`, `250ms`) in milliseconds, or undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  if (text === "0") return 0;
  if (!/^(\d+(\.\d+)?(ms|h|m|s))+$/.test(text)) return undefined;
  const unit = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  let total = 0;
  for (const [, amount, name] of text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)) {
    total += Number(amount) * unit[name as keyof typeof unit];
  }
  return total;
}
