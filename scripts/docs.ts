/**
 * Writes what docs/mesh.md says of fields from the lists that the code goes by.
 *
 *   node scripts/docs.ts            writes the tables
 *   node scripts/docs.ts --check    fails when they are not what the code says
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type ServedField, servedV1, servedV2 } from "../src/mesh/index.ts";
import { codes, served, servedRows } from "../src/traffic/index.ts";

const file = fileURLToPath(new URL("../docs/mesh.md", import.meta.url));
const begin = "<!-- generated: node scripts/docs.ts -->\n";
const end = "<!-- end -->";

/** Where kinds have other names than in the code. */
const titles: Record<string, string> = {
  Gateway: "Gateway (networking.istio.io)",
  KubeGateway: "Gateway (gateway.networking.k8s.io)",
};

/** All gateways of the v2 form have the same fields: they are shown once. */
const gatewaysV2 = /^gateways\.(ingress|egress|additionalIngress\.\*|additionalEgress\.\*)\./;

function controlPlaneTable(form: string, fields: readonly ServedField[]): string {
  const rows = fields
    .filter(({ path }) => !gatewaysV2.test(path) || path.startsWith("gateways.ingress."))
    .map(({ path, effect, values }) => {
      const only = values
        ? ` Served values: ${values.map((each) => `\`${JSON.stringify(each)}\``).join(", ")}.`
        : "";
      const shown = path.replace(gatewaysV2, "gateways.GATEWAY.").replace(/\.\*\*$/, "");
      return `| \`spec.${shown}\` | ${effect}.${only} |`;
    });
  const note =
    form === "v2"
      ? ["", "`GATEWAY` is `ingress`, `egress`, `additionalIngress.NAME` or `additionalEgress.NAME`."]
      : [];
  return [`The form ${form}:`, "", "| field | effect |", "|---|---|", ...rows, ...note].join("\n");
}

function kindTable(kind: string): string {
  const rows = servedRows(kind);
  const yes = rows.filter(({ served }) => served === true).map(({ field }) => `\`${field}\``);
  const no = rows.filter((row): row is { field: string; served: string } => row.served !== true);
  const lines = [`### ${titles[kind] ?? kind}`, "", `Served: ${yes.join(", ")}.`];
  if (no.length > 0) {
    lines.push("", "| not served | why |", "|---|---|");
    lines.push(...no.map(({ field, served }) => `| \`${field}\` | ${served} |`));
  }
  return lines.join("\n");
}

function codeTable(): string {
  const rows = Object.entries(codes).map(
    ([code, { name, level, says, fix }]) =>
      `| ${code} | ${name} | ${level} | ${says.replace(/\{(\w+)\}/g, (_, word: string) => word.toUpperCase())} | ${fix}. |`,
  );
  return ["| code | name | level | says | what to do |", "|---|---|---|---|---|", ...rows].join("\n");
}

/** docs/mesh.md as it is to be. */
export function written(): string {
  const parts = [
    codeTable(),
    [controlPlaneTable("v1", servedV1), controlPlaneTable("v2", servedV2)].join("\n\n"),
    Object.keys(served).map(kindTable).join("\n\n"),
  ];
  const text = readFileSync(file, "utf8");
  const pieces = text.split(begin);
  if (pieces.length !== parts.length + 1)
    throw new Error(`docs/mesh.md has no ${parts.length} places for tables`);
  return pieces
    .map((piece, i) => (i === 0 ? piece : `${begin}${parts[i - 1]}\n\n${piece.slice(piece.indexOf(end))}`))
    .join("");
}

export function isUpToDate(): boolean {
  return readFileSync(file, "utf8") === written();
}

if (import.meta.main) {
  if (!process.argv.includes("--check")) writeFileSync(file, written());
  else if (!isUpToDate()) {
    console.error("docs/mesh.md is not what the code says\n  fix: node scripts/docs.ts");
    process.exitCode = 1;
  }
}
