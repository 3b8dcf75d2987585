// Bundles the editor and puts the licences of all that is in it beside it.
import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const target = "../magickbox/web/static/vendor/codemirror.js";
const made = await build({
  entryPoints: ["entry.mjs"], bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "none",
  outfile: target, metafile: true,
});
const packages = new Set();
for (const [name, part] of Object.entries(Object.values(made.metafile.outputs)[0].inputs)) {
  const found = name.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (found && part.bytesInOutput > 0) packages.add(found[1]);
}
const texts = [...packages].sort().map((name) => {
  const folder = join("node_modules", name);
  const version = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).version;
  return `${name} ${version}\n\n${readFileSync(join(folder, "LICENSE"), "utf8").trim()}\n`;
});
writeFileSync(join(dirname(target), "codemirror.LICENSE"), texts.join("\n----\n\n"));
console.log(`${target}: ${readFileSync(target).length} bytes, of ${[...packages].sort().join(", ")}`);
