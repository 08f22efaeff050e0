/**
 * Builds the parts of a real Kubernetes cluster from the Kubernetes Go modules, as one multi-call binary: it is
 * kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, kubelet or kube-proxy by the name that it
 * is called under. Needs Go; takes about 7 minutes on 2 cores with an empty build cache, seconds with a warm one.
 *
 *   node test/real/build-kubernetes.mjs DIRECTORY [VERSION]
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const programs = {
  "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver/app",
  "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager/app",
  "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler/app",
  kubectl: "k8s.io/kubectl/pkg/cmd",
  kubelet: "k8s.io/kubernetes/cmd/kubelet/app",
  "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy/app",
};

const [directory = "real", version = "1.36.3"] = process.argv.slice(2);
const out = resolve(directory);
const source = join(out, "source");
mkdirSync(source, { recursive: true });
const go = (...args) =>
  execFileSync("go", args, {
    cwd: source,
    env: { ...process.env, GOFLAGS: "-mod=mod", CGO_ENABLED: "0" },
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
  });

// Kubernetes replaces its staging modules by folders of its own repository; each is published as a module too.
const module = JSON.parse(go("mod", "download", "-json", `k8s.io/kubernetes@v${version}`));
const goMod = readFileSync(module.GoMod, "utf8");
const staging = [...goMod.matchAll(/^\s*(?:replace )?(k8s\.io\/\S+) => \.\/staging/gm)].map(
  ([, name]) => name,
);
const wanted =
  staging.length > 0 ? staging : [...goMod.matchAll(/^\s+(k8s\.io\/\S+) v0\.0\.0/gm)].map(([, name]) => name);
const goLine = /^go (\S+)/m.exec(goMod)[1];
writeFileSync(
  join(source, "go.mod"),
  [
    "module weft.dev/real",
    `go ${goLine}`,
    `require k8s.io/kubernetes v${version}`,
    "replace (",
    ...wanted.map((name) => `\t${name} => ${name} v${version.replace(/^1\./, "0.")}`),
    ")",
    "",
  ].join("\n"),
);

const alias = (name) => name.replace(/-/g, "");
writeFileSync(
  join(source, "main.go"),
  `package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
${Object.entries(programs)
  .map(([name, path]) => `	${alias(name)} "${path}"`)
  .join("\n")}
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "kube-apiserver":
		os.Exit(cli.Run(kubeapiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(kubecontrollermanager.NewControllerManagerCommand()))
	case "kube-scheduler":
		os.Exit(cli.Run(kubescheduler.NewSchedulerCommand()))
	case "kubectl":
		os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
	case "kubelet":
		os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
	case "kube-proxy":
		os.Exit(cli.Run(kubeproxy.NewProxyCommand()))
	default:
		fmt.Fprintln(os.Stderr, "unknown program", name)
		os.Exit(1)
	}
}
`,
);
go("mod", "tidy");
const flags = ["gitVersion", "gitMajor", "gitMinor"].map((name, i) => {
  const value = [`v${version}`, version.split(".")[0], version.split(".")[1]][i];
  return `-X k8s.io/component-base/version.${name}=${value}`;
});
go("build", "-trimpath", "-ldflags", `-s -w ${flags.join(" ")}`, "-o", join(out, "kubernetes"), ".");
for (const name of Object.keys(programs)) {
  rmSync(join(out, name), { force: true });
  symlinkSync("kubernetes", join(out, name));
}
rmSync(source, { recursive: true });
console.log(`built ${Object.keys(programs).join(", ")} ${version} in ${out}`);
