// A program inside a network namespace of a test: listens and connects as it is told, one JSON line at a time.
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";

const commands = {
  /** Answers every TCP connection and UDP packet with `name` and the address of the peer. */
  async listen({ port, name }) {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end(`${name} ${socket.remoteAddress}`);
    });
    await new Promise((resolve) => server.listen(port, "0.0.0.0", resolve));
    const udp = createSocket("udp4", (_, from) =>
      udp.send(`${name} ${from.address}`, from.port, from.address),
    );
    await new Promise((resolve) => udp.bind(port, "0.0.0.0", resolve));
  },
  /** What each of `count` connections answers; the error's code where there is none. */
  async connect({ address, port, count }) {
    const answers = [];
    for (let n = 0; n < count; n++) {
      answers.push(
        await new Promise((resolve) => {
          let text = "";
          const socket = connect({ host: address.replace("::ffff:", ""), port, timeout: 1000 });
          socket.on("data", (data) => {
            text += data;
          });
          socket.on("timeout", () => socket.destroy(Object.assign(new Error(), { code: "TIMEOUT" })));
          socket.on("error", (error) => resolve(error.code));
          socket.on("close", () => resolve(text));
        }),
      );
    }
    return answers;
  },
  /** The same over UDP, from a port of its own. */
  async ask({ address, port, count, from }) {
    const answers = [];
    for (let n = 0; n < count; n++) {
      const socket = createSocket("udp4");
      const timer = setTimeout(() => socket.emit("error", { code: "TIMEOUT" }), 1000);
      answers.push(
        await new Promise((resolve) => {
          socket.on("message", (data) => resolve(data.toString()));
          socket.on("error", (error) => resolve(error.code));
          socket.bind(from, () => socket.connect(port, address, () => socket.send("?")));
        }),
      );
      clearTimeout(timer);
      await new Promise((resolve) => socket.close(resolve));
    }
    return answers;
  },
};

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { command, ...options } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify((await commands[command](options)) ?? null)}\n`);
});
