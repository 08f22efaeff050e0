/**
 * ServiceAccount tokens: signed JWTs that are good as long as what they are bound to exists.
 * Source: Kubernetes `pkg/serviceaccount/{jwt,claims}.go`, KEP-1205.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import type { JWTPayload } from "jose";
import { uuid } from "../../../world/index.ts";
import type { Core, UserInfo } from "../core.ts";
import type { ApiObject } from "../object.ts";

export interface TokenOptions {
  /** PKCS #8, PEM: ECDSA P-256 or RSA. */
  privateKey: string;
  /** SPKI, PEM. */
  publicKey: string;
  /** `iss` of the tokens, and their audience unless another is asked for. */
  issuer: string;
}

/** What a token is bound to besides its ServiceAccount. */
export interface Bound {
  kind: "Pod" | "Secret" | "Node";
  name: string;
  uid: string;
}

/** What a valid token says. */
export interface VerifiedToken {
  user: UserInfo;
  audiences: string[];
  /** Seconds since the epoch. */
  expires: number;
}

interface Claims extends JWTPayload {
  "kubernetes.io"?: {
    namespace: string;
    serviceaccount: { name: string; uid: string };
    pod?: { name: string; uid: string };
    secret?: { name: string; uid: string };
    node?: { name: string; uid: string };
  };
}

/** Verified tokens are remembered until they expire, at most this many. */
const remembered = 2048;

export class Tokens {
  readonly #core: Core;
  readonly issuer: string;
  readonly #private: KeyObject;
  readonly #public: KeyObject;
  readonly #algorithm: "ES256" | "RS256";
  readonly #keyId: string;
  readonly #verified = new Map<string, Claims>();

  constructor(core: Core, options: TokenOptions) {
    this.#core = core;
    this.issuer = options.issuer;
    this.#private = createPrivateKey(options.privateKey);
    this.#public = createPublicKey(options.publicKey);
    this.#algorithm = this.#public.asymmetricKeyType === "rsa" ? "RS256" : "ES256";
    this.#keyId = createHash("sha256")
      .update(this.#public.export({ type: "spki", format: "der" }))
      .digest("base64url");
  }

  /** Signs a token for a ServiceAccount. `expirationSeconds` from now. */
  async sign(
    account: ApiObject,
    audiences: readonly string[],
    expirationSeconds: number,
    bound: Bound | undefined,
  ): Promise<{ token: string; expires: number }> {
    const { SignJWT } = await import("jose");
    const { world } = this.#core;
    const now = Math.floor(world.now() / 1000);
    const { name, namespace, uid } = account.metadata;
    const claims = {
      "kubernetes.io": {
        namespace,
        serviceaccount: { name, uid },
        ...(bound && { [bound.kind.toLowerCase()]: { name: bound.name, uid: bound.uid } }),
      },
    };
    const expires = now + expirationSeconds;
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: this.#algorithm, kid: this.#keyId })
      .setIssuer(this.issuer)
      .setSubject(`system:serviceaccount:${namespace}:${name}`)
      .setAudience([...audiences])
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(expires)
      .setJti(uuid(world))
      .sign(this.#private);
    return { token, expires };
  }

  /** Whose token this is, for one of `audiences`; undefined when it is not valid (any more). */
  async verify(
    token: string,
    audiences: readonly string[] = [this.issuer],
  ): Promise<VerifiedToken | undefined> {
    const claims = this.#verified.get(token) ?? (await this.#check(token));
    const details = claims?.["kubernetes.io"];
    if (!claims || !details) return undefined;
    const now = this.#core.world.now() / 1000;
    if ((claims.exp ?? 0) <= now || (claims.nbf ?? 0) > now + 60) {
      this.#verified.delete(token);
      return undefined;
    }
    const has = ([] as string[]).concat(claims.aud ?? []);
    const common = audiences.filter((audience) => has.includes(audience));
    if (common.length === 0) return undefined;
    const { namespace, serviceaccount, pod, secret, node } = details;
    if (!this.#exists("/serviceaccounts", `${namespace}/${serviceaccount.name}`, serviceaccount.uid))
      return undefined;
    if (pod && !this.#exists("/pods", `${namespace}/${pod.name}`, pod.uid)) return undefined;
    if (secret && !this.#exists("/secrets", `${namespace}/${secret.name}`, secret.uid)) return undefined;
    if (node && !this.#exists("/nodes", node.name, node.uid)) return undefined;
    return {
      audiences: common,
      expires: claims.exp!,
      user: {
        name: `system:serviceaccount:${namespace}:${serviceaccount.name}`,
        uid: serviceaccount.uid,
        groups: ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"],
        extra: {
          ...(claims.jti && { "authentication.kubernetes.io/credential-id": [`JTI=${claims.jti}`] }),
          ...(pod && {
            "authentication.kubernetes.io/pod-name": [pod.name],
            "authentication.kubernetes.io/pod-uid": [pod.uid],
          }),
        },
      },
    };
  }

  #exists(bucket: string, key: string, uid: string): boolean {
    return this.#core.store.bucket(bucket).objects.get(key)?.metadata.uid === uid;
  }

  async #check(token: string): Promise<Claims | undefined> {
    const { jwtVerify } = await import("jose");
    try {
      const { payload } = await jwtVerify<Claims>(token, this.#public, {
        issuer: this.issuer,
        algorithms: [this.#algorithm],
        currentDate: new Date(this.#core.world.now()),
      });
      // A full memory is dropped whole: it fills again with what is in use.
      if (this.#verified.size >= remembered) this.#verified.clear();
      this.#verified.set(token, payload);
      return payload;
    } catch {
      return undefined;
    }
  }

  /** `/openid/v1/jwks`. */
  keys(): object {
    const key = this.#public.export({ format: "jwk" });
    return { keys: [{ use: "sig", kid: this.#keyId, alg: this.#algorithm, ...key }] };
  }

  /** `/.well-known/openid-configuration`. */
  configuration(serverAddress: string): object {
    return {
      issuer: this.issuer,
      jwks_uri: `https://${serverAddress}/openid/v1/jwks`,
      response_types_supported: ["id_token"],
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: [this.#algorithm],
    };
  }
}
