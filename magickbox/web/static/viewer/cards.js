// What is shown of an instance that has no pictures: a report's text, a document to open, or what it is.

import { api } from "../app.js";
import { element } from "./pane.js";

const NAMES = {
  "1.2.840.10008.5.1.4.1.1.481.3": "an RT structure set", "1.2.840.10008.5.1.4.1.1.481.5": "an RT plan",
  "1.2.840.10008.5.1.4.1.1.66": "raw data", "1.2.840.10008.5.1.4.1.1.104.2": "a CDA document",
  "1.2.840.10008.5.1.4.1.1.11.1": "a presentation state",
};

export async function card(stack, n) {
  const { instance } = stack.frames[n];
  const path = stack.path(n);
  if (instance.kind === "document") return [
    element("p", {}, "This series holds a PDF document."),
    element("p", { class: "toolbar" }, element("a", { class: "button main", href: `${path}/document`, target: "_blank", rel: "noopener" }, "Open the PDF"),
      element("a", { class: "button", href: `${path}/document?download=true` }, "Download")),
  ];
  if (instance.kind === "report") return report(path);
  const what = NAMES[instance.sop_class] ?? (instance.sop_class.includes(".9.") ? "a waveform" : `a ${stack.series.modality || "DICOM"} object`);
  return [element("p", {}, `This is ${what} without pictures.`), element("p", { class: "muted mono" }, `SOP class ${instance.sop_class}`)];
}

async function report(path) {
  const { lines } = await api(`${path.replace("/api/v1", "")}/report`);
  const list = element("ul", { class: "report" });
  for (const line of lines) {
    const item = element("li", { class: line.kind === "CONTAINER" ? "part" : null },
      element("b", {}, line.name || line.kind), line.value ? `: ${line.value}` : "");
    item.style.paddingLeft = `${Math.min(line.depth, 12) * 1.1}rem`;
    list.append(item);
  }
  return [list];
}
