/**
 * What an artefact is made of, as CycloneDX 1.6 (ECMA-424) in JSON: npm packages as package-lock.json names them, with
 * the hashes that npm checks, and Debian packages. The same contents give the same bytes, so there is neither a time nor a
 * serial number in it; both are optional.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Component {
  type: "library" | "application";
  name: string;
  version: string;
  /** Package URL. */
  purl: string;
  licenses?: { expression: string }[];
  hashes?: { alg: "SHA-256" | "SHA-512"; content: string }[];
}

interface LockedPackage {
  version?: string;
  license?: string;
  integrity?: string;
  dev?: boolean;
}

/** The packages that production needs and that are installed here, with their folders, in the order of these. */
export function npmComponents(root: string): (Component & { path: string })[] {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, LockedPackage>;
  };
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => path && !dev && existsSync(join(root, path, "package.json")))
    .map(([path, { version = "", license, integrity }]) => {
      const name = path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
      const [, sha512] = /^sha512-(\S+)/.exec(integrity ?? "") ?? [];
      return {
        path,
        type: "library" as const,
        name,
        version,
        purl: `pkg:npm/${name.replace("@", "%40")}@${version}`,
        ...(license && { licenses: [{ expression: license }] }),
        ...(sha512 && {
          hashes: [{ alg: "SHA-512" as const, content: Buffer.from(sha512, "base64").toString("hex") }],
        }),
      };
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The document. */
export function sbom(name: string, version: string, components: readonly Component[]): unknown {
  const purl = `pkg:npm/${name}@${version}`;
  const own = ({ type, name, version, purl, licenses, hashes }: Component) => ({
    type,
    "bom-ref": purl,
    name,
    version,
    purl,
    ...(licenses && { licenses }),
    ...(hashes && { hashes }),
  });
  const each = new Map(components.map((component) => [component.purl, own(component)]));
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: {
        type: "application",
        "bom-ref": purl,
        name,
        version,
        purl,
        licenses: [{ expression: "Apache-2.0" }],
      },
    },
    components: [...each.values()],
    dependencies: [{ ref: purl, dependsOn: [...each.keys()] }],
  };
}
