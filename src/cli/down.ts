/** `weft down`. */
import type { Command } from "commander";
import { WeftError } from "../api/index.ts";
import { down } from "./up.ts";

export function define(command: Command): void {
  command.action(async () => {
    if (!(await down())) throw new WeftError("LAB_NOT_RUNNING");
    console.log("the lab is gone");
  });
}
