/**
 * Makes a fresh clone ready, and says nothing when there is nothing to do. Plain JavaScript: it runs on whatever
 * Node the machine has, before the pinned one is there.
 *
 *   node scripts/prepare.mjs           packages, and the pinned Node among them; code made from protocol files
 *   node scripts/prepare.mjs --tools   also the programs that a lab needs; exit code 1 when one cannot be had
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** The programs that a lab runs, and the package that has each, by package manager where the names differ. */
const tools = {
  ip: { any: "iproute2", dnf: "iproute" },
  nft: { any: "nftables" },
  unshare: { any: "util-linux" },
  nsenter: { any: "util-linux" },
  setpriv: { any: "util-linux", apk: "setpriv" },
  mount: { any: "util-linux", "apt-get": "mount" },
  hostname: { any: "hostname", apk: "busybox", pacman: "inetutils" },
};
const managers = {
  "apt-get": ["install", "-y", "-q"],
  dnf: ["install", "-y", "-q"],
  apk: ["add", "--quiet"],
  zypper: ["--non-interactive", "install"],
  pacman: ["-S", "--noconfirm"],
};

preparePackages();
prepareProtocols();
if (process.argv.includes("--tools")) prepareTools();

function preparePackages() {
  if (process.platform !== "linux") fail("Weft runs on Linux only", "use a Linux machine or virtual machine");
  if (Number(process.versions.node.split(".")[0]) < 20) {
    fail(`Node ${process.versions.node} is too old`, "install Node 20 or newer");
  }
  if (!packagesAreCurrent()) {
    console.log("installing packages (npm ci) ...");
    const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ["npm"];
    const result = spawnSync(
      npm[0],
      [...npm.slice(1), "ci", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"],
      {
        cwd: root,
        stdio: ["ignore", "inherit", "inherit"],
      },
    );
    if (result.status !== 0) fail("npm ci failed (see above)", "check that the npm registry can be reached");
  }
  const node = join(root, `node_modules/node-linux-${process.arch}/bin/node`);
  if (!existsSync(node)) {
    fail(
      `there is no pinned Node for this machine (linux-${process.arch})`,
      "use an x64 or arm64 machine, and let npm install optional dependencies (not --omit=optional)",
    );
  }
}

/** Code that is made from packages, by the pinned Node. */
function prepareProtocols() {
  const node = join(root, "node_modules/.bin/node");
  const result = spawnSync(node, [join(root, "scripts/protocols.mjs")], { stdio: "inherit" });
  if (result.status !== 0)
    fail("Envoy's API could not be made into code (see above)", "npm ci, and try again");
}

/** Whether what is installed is what package-lock.json says, whoever installed it. */
function packagesAreCurrent() {
  const wanted = read("package-lock.json");
  const installed = read("node_modules/.package-lock.json");
  if (!wanted || !installed) return false;
  return Object.entries(wanted.packages).every(([path, entry]) => {
    if (path === "") return true;
    const found = installed.packages[path];
    return found ? found.version === entry.version : entry.optional === true || entry.devOptional === true;
  });
}

function read(file) {
  try {
    return JSON.parse(readFileSync(join(root, file), "utf8"));
  } catch {
    return undefined;
  }
}

function prepareTools() {
  const missing = Object.keys(tools).filter((tool) => !findProgram(tool));
  if (missing.length === 0) return;
  const manager = Object.keys(managers).find(findProgram);
  const names = missing.map((tool) => `'${tool}'`).join(", ");
  const says = `missing ${missing.length === 1 ? "program" : "programs"}: ${names}`;
  if (!manager) fail(says, "install the packages iproute2, nftables and util-linux");
  const packages = [...new Set(missing.map((tool) => tools[tool][manager] ?? tools[tool].any))];
  const command = [manager, ...managers[manager], ...packages];
  if (process.getuid() !== 0) fail(says, `sudo ${command.join(" ")}`);
  console.log(`installing ${packages.join(" and ")} (${command.join(" ")}) ...`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const run = (...args) => spawnSync(args[0], args.slice(1), { env, stdio: ["ignore", "pipe", "pipe"] });
  let result = run(...command);
  if (result.status !== 0 && manager === "apt-get") {
    run("apt-get", "update", "-q"); // a machine that never asked for its package lists
    result = run(...command);
  }
  const still = missing.filter((tool) => !findProgram(tool));
  if (still.length > 0) {
    console.error(String(result.stderr ?? "").trim());
    fail(`could not install ${packages.join(" ")}`, command.join(" "));
  }
}

/** Also looks where administrators' programs are, which ordinary users' PATH may leave out. */
function findProgram(name) {
  const places = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin", "/usr/local/sbin"];
  return places.some((place) => {
    try {
      accessSync(join(place, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function fail(says, fix) {
  console.error(`error: ${says}\n  fix: ${fix}`);
  process.exit(1);
}
