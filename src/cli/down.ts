/** `weft down`. */
import { type Command, Option } from "commander";
import { WeftError } from "../api/index.ts";
import { down } from "./up.ts";

export function define(command: Command): void {
  command
    .option("--keep", "keep the clusters' objects and keys: the next 'weft up' brings them back")
    .addOption(
      new Option("--purge", "take away a lab that was kept, too (what happens without --keep)").conflicts(
        "keep",
      ),
    )
    .action(async ({ keep = false }: { keep?: boolean }) => {
      const was = await down({ keep });
      if (!was) throw new WeftError("LAB_NOT_RUNNING");
      if (keep) console.log("the lab is kept: 'weft up' brings it back, 'weft down --purge' takes it away");
      else console.log(was === "running" ? "the lab is gone" : "the lab that was kept is gone");
    });
}
