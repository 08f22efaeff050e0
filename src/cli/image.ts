/** `weft image add` and `weft image list`: what image names stand for in the lab. */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { WeftError } from "../api/index.ts";
import { imagesFile, LabState, openImages, parseImageName, readAdded } from "../lab/index.ts";
import { type OutputFormat, outputOption, print, table } from "./table.ts";

export function define(command: Command): void {
  outputOption(command.command("list").description("show the images that pods of the lab can name")).action(
    async ({ output }: { output: OutputFormat }) => {
      const packageMount = fileURLToPath(new URL("../..", import.meta.url));
      const lab = new LabState().read()?.spec.images;
      const images = openImages({ packageMount, file: imagesFile(), lab }).list();
      await print(output, images, () =>
        table(
          ["IMAGE", "FROM", "COMMAND"],
          images.map(({ name, command, from }) => [name, from, command.join(" ") || fileSystem]),
        ),
      );
    },
  );
  command
    .command("add")
    .description("let an image name stand for a command, or (without one) for this machine's own file system")
    .argument("<name>", "image name; without a tag it is for every tag")
    .argument("[command...]", "what the image runs, after --")
    .action((name: string, words: string[]) => {
      if (!parseImageName(name)) throw new WeftError("IMAGE_NAME_INVALID", { name });
      const file = imagesFile();
      const others = readAdded(file).filter((image) => image.name !== name);
      const added = words.length > 0 ? { name, command: words } : { name };
      mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
      writeFileSync(`${file}.new`, `${JSON.stringify([...others, added], undefined, 2)}\n`);
      renameSync(`${file}.new`, file);
      const meaning = words.length > 0 ? `'${words.join(" ")}'` : fileSystem;
      console.log(`image ${name} stands for ${meaning}`);
    });
}

const fileSystem = "this machine's own file system";
