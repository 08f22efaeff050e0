/**
 * Who sends a token: asked of the API server by a TokenReview, so that a token counts only while what it is
 * bound to (the pod, the ServiceAccount) exists. Source: Kubernetes `authentication.k8s.io/v1`, Istio
 * `security/pkg/k8s/tokenreview`.
 */
import { createHash } from "node:crypto";
import type { KubeClient } from "../kube/index.ts";

/** The audience of workloads' tokens: a token for the API server itself is refused. */
export const tokenAudience = "istio-ca";

export interface Identity {
  namespace: string;
  serviceAccount: string;
  /** Of the ServiceAccount. */
  uid: string;
  /** The pod that the token was made for; absent for tokens that are bound to none. */
  pod?: { name: string; uid: string };
}

/** The token is not accepted: the sentence is for whoever sent it. */
export class TokenRefused extends Error {}

interface TokenReview {
  status?: {
    authenticated?: boolean;
    error?: string;
    audiences?: string[];
    user?: { username?: string; uid?: string; extra?: Record<string, string[]> };
  };
}

/** How long an answer is taken for granted, ms; a refusal shorter, for its reason may pass. */
const remembered = { accepted: 30_000, refused: 2_000 };
const mostRemembered = 4096;
/** A token of a ServiceAccount has about 1 KB. */
const longestToken = 16 * 1024;

interface Answer {
  until: number;
  identity: Promise<Identity>;
}

/** Asks about tokens; answers are kept shortly, and the same question is asked once at a time. */
export class Authenticator {
  readonly #client: KubeClient;
  readonly #audience: string;
  readonly #answers = new Map<string, Answer>();

  constructor(client: KubeClient, audience = tokenAudience) {
    this.#client = client;
    this.#audience = audience;
  }

  /** Rejects with TokenRefused for a token that does not count, otherwise as the API server fails. */
  authenticate(token: string): Promise<Identity> {
    if (token === "" || token.length > longestToken) {
      return Promise.reject(new TokenRefused("it is no token of a ServiceAccount"));
    }
    const { world } = this.#client;
    const key = createHash("sha256").update(token).digest("base64");
    const known = this.#answers.get(key);
    if (known && known.until > world.monotonic()) return known.identity;
    const identity = this.#ask(token);
    const answer = { until: world.monotonic() + remembered.accepted, identity };
    this.#answers.delete(key);
    this.#answers.set(key, answer);
    if (this.#answers.size > mostRemembered) this.#answers.delete(this.#answers.keys().next().value!);
    identity.catch((error: unknown) => {
      // That nobody answered is no answer.
      answer.until = error instanceof TokenRefused ? world.monotonic() + remembered.refused : 0;
    });
    return identity;
  }

  async #ask(token: string): Promise<Identity> {
    const review = await this.#client.json<TokenReview>(
      "POST",
      "/apis/authentication.k8s.io/v1/tokenreviews",
      {
        timeout: 10_000,
        body: {
          apiVersion: "authentication.k8s.io/v1",
          kind: "TokenReview",
          spec: { token, audiences: [this.#audience] },
        },
      },
    );
    const { authenticated, error, audiences = [], user = {} } = review.status ?? {};
    if (!authenticated) throw new TokenRefused(error || "the API server does not accept it");
    // An API server that does not know audiences accepts any token and names none.
    if (!audiences.includes(this.#audience)) {
      throw new TokenRefused(`it is not for the audience '${this.#audience}'`);
    }
    const [, namespace, serviceAccount] =
      /^system:serviceaccount:([^:]+):([^:]+)$/.exec(user.username ?? "") ?? [];
    if (!namespace || !serviceAccount) throw new TokenRefused("it is not a ServiceAccount's");
    const extra = (name: string) => user.extra?.[`authentication.kubernetes.io/${name}`]?.[0];
    const [name, uid] = [extra("pod-name"), extra("pod-uid")];
    return { namespace, serviceAccount, uid: user.uid ?? "", ...(name && uid && { pod: { name, uid } }) };
  }
}
