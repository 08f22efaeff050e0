/** The table of commands. A command's file is loaded when it is called for. */
import { type Command, CommanderError, Help, program } from "commander";
import { WeftError } from "../api/index.ts";

/** What a command's file exports: puts options, arguments and the action on the command. */
export interface CommandFile {
  define(command: Command): void;
}

interface Entry {
  summary: string;
  load: () => Promise<CommandFile>;
  /** Not for people: started by Weft itself. */
  hidden?: boolean;
}

const commands: Record<string, Entry> = {
  tour: { summary: "two clusters, one service: a tour, a step at a time", load: () => import("./tour.ts") },
  up: { summary: "start clusters on this machine", load: () => import("./up.ts") },
  down: {
    summary: "end the lab and take its contexts out of the kubeconfig",
    load: () => import("./down.ts"),
  },
  status: { summary: "show the lab's clusters, nodes and processes", load: () => import("./status.ts") },
  install: { summary: "install the control plane in a cluster", load: () => import("./install.ts") },
  check: { summary: "say what would not work in a cluster or between two", load: () => import("./check.ts") },
  uninstall: {
    summary: "take everything of Weft out of a cluster",
    load: () => import("./uninstall.ts"),
  },
  join: { summary: "let clusters read each other's offers", load: () => import("./join.ts") },
  leave: { summary: "take a cluster out of its clusterset", load: () => import("./leave.ts") },
  clusters: {
    summary: "show the peers of a cluster and whether they are heard",
    load: () => import("./clusters.ts"),
  },
  cluster: { summary: "stop and start a cluster of the lab", load: () => import("./cluster.ts") },
  node: { summary: "stop and start a node of the lab", load: () => import("./node.ts") },
  link: {
    summary: "cut and heal what lies between two clusters of the lab, or make it slow",
    load: () => import("./link.ts"),
  },
  image: { summary: "show and add what image names stand for in the lab", load: () => import("./image.ts") },
  analyze: {
    summary: "say what is wrong with a mesh's objects, in a cluster and in files",
    load: () => import("./analyze.ts"),
  },
  proxies: {
    summary: "show the mesh's proxies and whether they have what they are to have",
    load: () => import("./proxies.ts"),
  },
  "proxy-config": {
    summary: "show what a proxy is configured with",
    load: () => import("./proxy-config.ts"),
  },
  why: {
    summary: "show which fields of which objects are behind what a proxy does",
    load: () => import("./why.ts"),
  },
  discovery: {
    summary: "run the discovery of a mesh of the cluster that this process is in",
    load: () => import("./discovery.ts"),
    hidden: true,
  },
  "control-plane": {
    summary: "run the control plane of the cluster that this process is in",
    load: () => import("./control-plane.ts"),
    hidden: true,
  },
  proxy: {
    summary: "run the proxy of the pod that this process is in",
    load: () => import("./proxy.ts"),
    hidden: true,
  },
  "proxy-init": {
    summary: "redirect the traffic of the pod that this process is in to its proxy",
    load: () => import("./proxy-init.ts"),
    hidden: true,
  },
};

/** Runs the command that `argv` names and sets the exit code: 0, or 1 after an error. */
export async function run(argv: string[]): Promise<void> {
  const named = argv[2] === "help" ? argv[3] : argv[2];
  program
    .name("weft")
    .description("One service mesh over many Kubernetes clusters, with a lab that makes the clusters here.")
    .version("0.1.0")
    .helpCommand("help [command]", "show how a command is used")
    .configureOutput({ outputError: (text, write) => write(text) })
    .showHelpAfterError(
      `  fix: 'weft help${named && commands[named] ? ` ${named}` : ""}' shows how it is used`,
    )
    // An option that may be repeated begins with none, which nobody needs to be told.
    .configureHelp({
      optionDescription: (option) =>
        new Help().optionDescription(
          Array.isArray(option.defaultValue) ? Object.create(option, { defaultValue: {} }) : option,
        ),
    })
    .exitOverride();
  for (const [name, entry] of Object.entries(commands)) {
    const command = program
      .command(name, { hidden: entry.hidden ?? false })
      .description(entry.summary)
      .exitOverride();
    if (name === named) (await entry.load()).define(command);
  }
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 1;
    else {
      printError(error);
      process.exitCode = 1;
    }
  }
}

/** `error: ...` and, where it is known, `  fix: ...`. WEFT_DEBUG=1 adds where it came from. */
function printError(error: unknown): void {
  if (error instanceof WeftError) console.error(`error: ${error.message}\n  fix: ${error.fix}`);
  else console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  if (process.env.WEFT_DEBUG && error instanceof Error) {
    console.error(error.stack);
    for (let cause = error.cause; cause instanceof Error; cause = cause.cause)
      console.error("cause:", cause.stack);
  }
}
