/** Who a connection or request speaks for. Source: apiserver `pkg/authentication`. */
import type { TLSSocket } from "node:tls";
import type { UserInfo } from "../core.ts";

export const anonymous: UserInfo = { name: "system:anonymous", groups: ["system:unauthenticated"] };

/** A bearer token's user, or undefined when the token is not one of ours. */
export type TokenCheck = (token: string) => Promise<UserInfo | undefined>;

const ofSocket = new WeakMap<TLSSocket, { user: UserInfo | undefined }>();

/** The user of a verified client certificate: CN is the name, each O a group. */
function certificateUser(socket: TLSSocket): { user: UserInfo | undefined } {
  let known = ofSocket.get(socket);
  if (!known) {
    known = { user: undefined };
    const subject = socket.authorized ? socket.getPeerCertificate()?.subject : undefined;
    if (subject?.CN) {
      const groups = subject.O === undefined ? [] : ([] as string[]).concat(subject.O);
      known.user = { name: String(subject.CN), groups: [...groups, "system:authenticated"] };
    }
    ofSocket.set(socket, known);
  }
  return known;
}

/** Undefined when credentials were given and are wrong; without any, the anonymous user. */
export async function authenticate(
  socket: TLSSocket,
  headers: Readonly<Record<string, string>>,
  checkToken: TokenCheck,
): Promise<UserInfo | undefined> {
  const { user } = certificateUser(socket);
  if (user) return user;
  const bearer = /^Bearer\s+(\S+)$/i.exec(headers.authorization ?? "")?.[1];
  if (bearer) return checkToken(bearer);
  return anonymous;
}
