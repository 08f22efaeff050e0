import type { PodTemplateSpec } from "../../api/index.ts";

/** Letters and digits of generated names: no vowels and no look-alikes (apimachinery pkg/util/rand). */
const safeAlphabet = "bcdfghjklmnpqrstvwxz2456789";

/** FNV-1a with 32 bits over UTF-8. */
function fnv32a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) {
    hash ^= byte;
    hash = Math.imul(hash, 0x01000193) >>> 0;
  }
  return hash;
}

/**
 * The `pod-template-hash` of a template: eight to ten letters such as `9b5b94f65`. Kubernetes hashes Go's dump of
 * the struct, which nothing else can reproduce; ours hashes the JSON with sorted keys, so equal templates have
 * equal hashes. On a collision the Deployment counts `collisionCount` up and hashes again.
 */
export function templateHash(template: PodTemplateSpec, collisionCount?: number): string {
  const text = canonicalJson(withoutHash(template)) + (collisionCount ? `#${collisionCount}` : "");
  return safeEncode(String(fnv32a(text)));
}

/** Each character mapped into the safe alphabet, as apimachinery's rand.SafeEncodeString does. */
function safeEncode(text: string): string {
  let out = "";
  for (let i = 0; i < text.length; i++) out += safeAlphabet[text.charCodeAt(i) % safeAlphabet.length];
  return out;
}

/** Whether two templates make the same pods, apart from the hash label that a controller adds. */
export function sameTemplate(a: PodTemplateSpec, b: PodTemplateSpec): boolean {
  return canonicalJson(withoutHash(a)) === canonicalJson(withoutHash(b));
}

export const templateHashLabel = "pod-template-hash";

function withoutHash(template: PodTemplateSpec): PodTemplateSpec {
  const labels = template.metadata?.labels;
  if (!labels || !(templateHashLabel in labels)) return template;
  const { [templateHashLabel]: _hash, ...rest } = labels;
  return { ...template, metadata: { ...template.metadata, labels: rest } };
}

/** JSON with sorted keys, without undefined, null and empty objects: one text per meaning. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(canonical(value)) ?? "null";
}

function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== "object" || value === null) return value;
  const out: Record<string, unknown> = {};
  for (const key of Object.keys(value).sort()) {
    const inner = canonical((value as Record<string, unknown>)[key]);
    if (inner === undefined || inner === null) continue;
    // The creationTimestamp of a template is always null or absent and says nothing.
    if (key === "metadata" && typeof inner === "object" && Object.keys(inner).length === 0) continue;
    out[key] = inner;
  }
  return out;
}
