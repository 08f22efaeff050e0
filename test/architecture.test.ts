/**
 * The house in `docs/architecture.md` is what the code does: the table of rooms is read from the document, and
 * every import under `src/` is held to it. Law 12's door is watched here too.
 */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const source = join(root, "src");

interface Room {
  name: string;
  may: Set<string>;
  /** Rooms of which only types may be imported. */
  mayTypes: Set<string>;
}

/** The rows of the table `| room | concern | may import |`. */
function rooms(): Map<string, Room> {
  const text = readFileSync(join(root, "docs/architecture.md"), "utf8");
  const found = new Map<string, Room>();
  for (const [, name, list] of text.matchAll(/^\| `([\w-]+(?:\/|\.ts))` \| [^|]* \| ([^|]*) \|$/gm)) {
    const room: Room = { name: name!.replace("/", ""), may: new Set(), mayTypes: new Set() };
    for (const entry of list!.split(",").map((word) => word.trim())) {
      if (entry === "–") continue;
      if (entry === "everything") room.may = new Set(["*"]);
      else if (entry === "all of the above") room.may = new Set(found.keys());
      else if (entry.endsWith(" (types)")) room.mayTypes.add(entry.replace(" (types)", ""));
      else room.may.add(entry);
    }
    found.set(room.name, room);
  }
  return found;
}

interface Import {
  file: string;
  target: string;
  typeOnly: boolean;
}

const files = globSync("**/*.ts", { cwd: source }).sort();
/** Tests and what is only for tests may reach further. */
const isTest = (file: string) => /\.test\.ts$|\/(?:testing|harness)\b/.test(file);

function importsOf(file: string): Import[] {
  const text = readFileSync(join(source, file), "utf8");
  const statements = text.matchAll(
    /^(?:import|export)\s+(type\s)?(?:[\w*{][^'";]*?\sfrom\s+)?["'](\.[^"']*)["']|\bimport\(\s*["'](\.[^"']*)["']\s*\)/gm,
  );
  return [...statements].map(([, type, fixed, dynamic]) => ({
    file,
    target: relative(source, join(source, dirname(file), (fixed ?? dynamic)!)),
    typeOnly: type !== undefined,
  }));
}

/** `world`, `control.ts`, `lab`. */
const roomOf = (file: string) => file.split("/")[0]!;

test("the document's table has a row for every room in src, and no other rows", () => {
  assert.deepEqual([...rooms().keys()].sort(), [...new Set(files.map(roomOf))].sort());
});

test("a room imports only the rooms that its row names, and only through their doors", () => {
  const table = rooms();
  const wrong: string[] = [];
  for (const file of files.filter((file) => !isTest(file))) {
    const own = table.get(roomOf(file));
    if (!own) continue;
    for (const { target, typeOnly } of importsOf(file)) {
      const room = roomOf(target);
      if (target.startsWith("..")) {
        if (!/^\.\.\/package\.json$/.test(target))
          wrong.push(`${file} imports ${target}, which is outside of src`);
        continue;
      }
      if (room === own.name) continue;
      const allowed = own.may.has("*") || own.may.has(room) || (typeOnly && own.mayTypes.has(room));
      if (!allowed) wrong.push(`${file} imports ${target}: ${own.name} may not import ${room}`);
      const door = room.endsWith(".ts") ? room : `${room}/index.ts`;
      if (target !== door) wrong.push(`${file} imports ${target}: the door is ${door}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("inside the lab, folders use each other's doors", () => {
  const wrong: string[] = [];
  for (const file of files.filter((file) => file.startsWith("lab/") && !isTest(file))) {
    const own = file.split("/").length > 2 ? file.split("/")[1] : undefined;
    for (const { target } of importsOf(file)) {
      const [room, folder, ...rest] = target.split("/");
      if (room !== "lab" || rest.length === 0 || folder === own) continue;
      if (rest.join("/") !== "index.ts")
        wrong.push(`${file} imports ${target}: the door is lab/${folder}/index.ts`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("imports name files that are there, with their ending", () => {
  const known = new Set(files);
  const wrong = files.flatMap((file) =>
    importsOf(file)
      .filter(({ target }) => !target.startsWith("..") && !known.has(target) && !target.endsWith(".json"))
      .map(({ target }) => `${file} imports ${target}`),
  );
  assert.deepEqual(wrong, []);
});

test("no cycles between files: what imports me I do not import", () => {
  const graph = new Map(
    files.map((file) => [file, importsOf(file).flatMap((i) => (i.typeOnly ? [] : [i.target]))] as const),
  );
  const state = new Map<string, "open" | "done">();
  const cycles: string[] = [];
  const visit = (file: string, path: string[]) => {
    if (state.get(file) === "done" || !graph.has(file)) return;
    if (state.get(file) === "open") {
      const cycle = [...path.slice(path.indexOf(file)), file];
      // A cycle inside one room is that room's own affair.
      if (new Set(cycle.map(roomOf)).size > 1) cycles.push(cycle.join(" → "));
      return;
    }
    state.set(file, "open");
    for (const target of graph.get(file)!) visit(target, [...path, file]);
    state.set(file, "done");
  };
  for (const file of files) visit(file, []);
  assert.deepEqual(cycles, []);
});

/**
 * Law 12. Exempt is what drives real processes and real networks of this machine, where the time that passes is
 * the machine's own: the command line, the lab's processes, the kubelet with its network and images.
 */
const edges = [
  /^kube\/kubeconfig-write\.ts$/, // a temporary file's name
  /^world\//,
  /^cli\//,
  /^lab\/[\w-]+\.ts$/,
  /^lab\/(kubelet|network|images|dns)\//,
];
const uncertain =
  /(?<![.\w])(?:Date\.now\(|new Date\(\)|performance\.now\(|Math\.random\(|setTimeout\(|setInterval\(|randomUUID\(|randomBytes\(|getRandomValues\()/;

test("core code takes time, timers and randomness from its World (law 12)", () => {
  const wrong: string[] = [];
  for (const file of files.filter((file) => !isTest(file) && !edges.some((edge) => edge.test(file)))) {
    const lines = readFileSync(join(source, file), "utf8").split("\n");
    lines.forEach((line, i) => {
      const code = line.replace(/^\s*(?:\*|\/\/|\/\*).*/, "");
      if (uncertain.test(code)) wrong.push(`${file}:${i + 1}: ${line.trim()}`);
    });
  }
  assert.deepEqual(wrong, []);
});
