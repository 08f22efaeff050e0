/** Asks the cluster DNS as a pod does: raw DNS messages from a pod of their own, over UDP and TCP. */
import { decode, encode, type Packet } from "dns-packet";
import type { Lab } from "./lab.ts";

export interface Ask {
  name: string;
  type: string;
  tcp?: boolean;
  /** Size of answers that the asker takes, told by EDNS; without it no EDNS. */
  edns?: number;
}

export interface Said {
  rcode: string;
  /** Sorted: `name ttl type data`, the data of an SRV being `port target`. */
  answers: string[];
  additionals: string[];
  authoritative: boolean;
  truncated: boolean;
  /** UDP size that the server tells by EDNS. */
  edns: number | undefined;
}

/** The program that the pod reads from its standard input: sends each message to the first name server of its resolv.conf, prints the answers. */
const program = (messages: object[]) => `
const server = /nameserver (\\S+)/.exec(require("fs").readFileSync("/etc/resolv.conf", "utf8"))[1];
const ask = ({ bytes, tcp }) => new Promise((resolve, reject) => {
  const query = Buffer.from(bytes, "base64");
  setTimeout(() => reject(new Error("no answer")), 5000).unref();
  if (!tcp) {
    const socket = require("dgram").createSocket("udp4");
    socket.once("message", (answer) => { socket.close(); resolve(answer); });
    socket.send(query, 53, server);
    return;
  }
  const length = Buffer.alloc(2); length.writeUInt16BE(query.length);
  const socket = require("net").connect(53, server, () => socket.write(Buffer.concat([length, query])));
  let got = Buffer.alloc(0);
  socket.on("error", reject);
  socket.on("data", (data) => {
    got = Buffer.concat([got, data]);
    if (got.length >= 2 && got.length >= 2 + got.readUInt16BE()) { socket.destroy(); resolve(got.subarray(2)); }
  });
});
(async () => {
  for (const each of ${JSON.stringify(messages)}) console.log((await ask(each)).toString("base64"));
})();
`;

let pods = 0;

/** All answers, in order, from a pod in a namespace of a cluster. */
export async function askDns(lab: Lab, cluster: string, namespace: string, asks: Ask[]): Promise<Said[]> {
  const messages = asks.map(({ name, type, tcp, edns }) => {
    const query = encode({
      type: "query",
      id: 1,
      flags: 0x100,
      questions: [{ type: type as "A", name }],
      ...(edns && {
        additionals: [
          {
            type: "OPT",
            name: ".",
            udpPayloadSize: edns,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ],
      }),
    });
    return { bytes: query.toString("base64"), tcp: tcp === true };
  });
  const pod = `ask-${++pods}`;
  const run = ["run", pod, "-i", "--rm", "-q", "--restart=Never", "--image=node"];
  const result = await lab.tryKubectl(cluster, ["-n", namespace, ...run], program(messages));
  if (result.status !== 0) throw new Error(`${pod}: ${result.stdout}${result.stderr}`);
  const lines = result.stdout.trim().split("\n");
  return lines.map((line) => saidBy(decode(Buffer.from(line, "base64"))));
}

function saidBy(packet: Packet): Said {
  const texts = (records: Packet["answers"] = []) =>
    records
      .flatMap((record) => {
        if (record.type === "OPT") return [];
        const data: unknown = "data" in record ? record.data : "";
        return [`${record.name} ${"ttl" in record ? record.ttl : ""} ${record.type} ${textOf(data)}`];
      })
      .sort();
  const edns = packet.additionals?.find((record) => record.type === "OPT");
  return {
    rcode: (packet as { rcode?: string }).rcode ?? "NOERROR",
    answers: texts(packet.answers),
    additionals: texts(packet.additionals),
    authoritative: (packet as { flag_aa?: boolean }).flag_aa === true,
    truncated: (packet as { flag_tc?: boolean }).flag_tc === true,
    edns: edns?.type === "OPT" ? edns.udpPayloadSize : undefined,
  };
}

function textOf(data: unknown): string {
  if (Array.isArray(data)) return data.map(textOf).join("");
  if (Buffer.isBuffer(data)) return data.toString("utf8");
  if (typeof data === "object" && data !== null && "target" in data && "port" in data) {
    return `${String(data.port)} ${String(data.target)}`;
  }
  return String(data);
}
