/** Names of images, as container tools read them. Source: distribution `reference/reference.go`, `normalize.go`. */

export interface ImageName {
  /** Host of the registry, `docker.io` when the name has none. */
  registry: string;
  /** Path in the registry, with `library/` for Docker Hub's own images. */
  repository: string;
  /** `latest` when there is neither tag nor digest. */
  tag: string | undefined;
  digest: string | undefined;
}

const pathPart = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;

/** Undefined for what is no image name (the kubelet's InvalidImageName). */
export function parseImageName(name: string): ImageName | undefined {
  const [beforeDigest, digest, rest] = name.split("@");
  if (rest !== undefined || !beforeDigest) return undefined;
  if (digest !== undefined && !/^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}$/.test(digest))
    return undefined;
  const colon = beforeDigest.lastIndexOf(":");
  const hasTag = colon > beforeDigest.lastIndexOf("/");
  const tag = hasTag ? beforeDigest.slice(colon + 1) : undefined;
  if (tag !== undefined && !/^\w[\w.-]{0,127}$/.test(tag)) return undefined;
  let parts = (hasTag ? beforeDigest.slice(0, colon) : beforeDigest).split("/");
  let registry = "docker.io";
  const first = parts[0]!;
  if (parts.length > 1 && (first.includes(".") || first.includes(":") || first === "localhost")) {
    registry = first === "index.docker.io" ? "docker.io" : first;
    parts = parts.slice(1);
  }
  if (!parts.every((part) => pathPart.test(part))) return undefined;
  if (registry === "docker.io" && parts.length === 1) parts = ["library", ...parts];
  return { registry, repository: parts.join("/"), tag: tag ?? (digest ? undefined : "latest"), digest };
}

/** The full name, e.g. `docker.io/library/nginx:latest`: what `status.containerStatuses[].image` shows. */
export function formatImageName({ registry, repository, tag, digest }: ImageName): string {
  return `${registry}/${repository}${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}

/** The name without tag and digest: `docker.io/library/nginx`. */
export function repositoryOf({ registry, repository }: ImageName): string {
  return `${registry}/${repository}`;
}
