/**
 * The image `jeremyot/serve`: answers every request on port 8080 with one message. `--message` is a template
 * of which `{{env "NAME"}}` is a variable of the environment and `{{addr}}` the address of this pod.
 */
import { createServer } from "node:http";
import { networkInterfaces } from "node:os";
import { readFlags } from "../flags.ts";

const flags = readFlags({ message: 'hello from {{env "HOSTNAME"}} ({{addr}})', port: "8080" });

function ownAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((of) => of ?? []);
  const usable = addresses.filter(({ internal, address }) => !internal && !/^(169\.254|fe80)/i.test(address));
  return (usable.find(({ family }) => family === "IPv4") ?? usable[0])?.address ?? "127.0.0.1";
}

function render(template: string): string {
  return template.replace(/\{\{-?\s*(.*?)\s*-?\}\}/g, (_, action: string) => {
    if (action === "addr") return ownAddress();
    const [, quoted, raw] = /^env\s+(?:"([^"]*)"|`([^`]*)`)$/.exec(action) ?? [];
    const name = quoted ?? raw;
    if (name !== undefined) return process.env[name] ?? "";
    process.stderr.write(`the template of the message has an action that is not known: {{${action}}}\n`);
    process.exit(1);
  });
}

const message = render(flags.message);

// One request per connection, so that a client is balanced anew each time.
const server = createServer((_, response) => {
  response.writeHead(200, { "content-type": "text/plain; charset=utf-8", connection: "close" });
  response.end(message);
});
server.on("error", (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
server.listen(Number(flags.port), () => console.log(`listening on port ${flags.port}`));

// As the first process of its container it gets no default action for signals.
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => server.close());
