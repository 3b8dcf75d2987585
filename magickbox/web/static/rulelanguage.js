// How the rules look in the editor, and the help on keys and values while one types and points.

import {
  HighlightStyle, StreamLanguage, autocompletion, hoverTooltip, startCompletion, syntaxHighlighting, tags,
} from "./vendor/codemirror.js";
import { placeAt, read } from "./jsontree.js";
import { SchemaHelp } from "./schemahelp.js";

const OUTCOMES = { success: "the processor did its work", failed: "it did not", partial: "it did some of it", none: "no processor serves the called AE", ".*": "any outcome" };
const TAGS = {
  "0008,0060": "Modality", "0008,103e": "Series Description", "0008,1030": "Study Description", "0018,1030": "Protocol Name",
  "0008,0008": "Image Type", "0018,0015": "Body Part Examined", "0008,0070": "Manufacturer", "0020,0011": "Series Number",
};

const json = StreamLanguage.define({
  name: "rules",
  startState: () => ({}),
  token(stream) {
    if (stream.eatSpace()) return null;
    if (stream.match(/^\/\/.*/)) return "comment";
    if (stream.match(/^"(?:[^"\\]|\\.)*"?/)) return stream.match(/^\s*:/, false) ? "propertyName" : "string";
    if (stream.match(/^-?\d[\d.eE+-]*/)) return "number";
    if (stream.match(/^(?:true|false|null)\b/)) return "bool";
    stream.next();
    return null;
  },
  languageData: { commentTokens: { line: "//" }, closeBrackets: { brackets: ["{", "[", '"'] }, indentOnInput: /^\s*[}\]]$/ },
  indent(state, after, context) {
    const before = context.state.doc.sliceString(0, context.pos).replace(/"(?:[^"\\\n]|\\.)*"|\/\/[^\n]*/g, "");
    let depth = 0;
    for (const letter of before) depth += letter === "{" || letter === "[" ? 1 : letter === "}" || letter === "]" ? -1 : 0;
    return Math.max(0, depth - (/^\s*[}\]]/.test(after) ? 1 : 0)) * context.unit;
  },
});

const colours = syntaxHighlighting(HighlightStyle.define([
  { tag: tags.propertyName, color: "var(--accent)" },
  { tag: tags.string, color: "var(--good)" },
  { tag: [tags.number, tags.bool], color: "var(--held)" },
  { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
]));

// The language with its help from a schema.
export function ruleLanguage(schema) {
  const help = new SchemaHelp(schema);
  return [json, colours, autocompletion({ override: [(context) => complete(help, context)], icons: false }), hover(help)];
}

// Puts a completion in place of what was begun, with the quote that closes it, and goes on where something is to be typed.
const put = (insert, back = 0) => (view, _completion, from, to) => {
  const begun = view.state.doc.sliceString(from, from + 1) === '"';
  const rest = begun ? view.state.doc.sliceString(to, to + 200).match(/^[^"\n]*"/)?.[0].length ?? 0 : 0;
  view.dispatch({
    changes: { from, to: to + rest, insert }, selection: { anchor: from + insert.length - back }, userEvent: "input.complete",
  });
  if (back || insert.endsWith(": ")) startCompletion(view);
};

function complete(help, context) {
  const text = context.state.doc.toString(), tree = read(text), at = placeAt(tree, context.pos);
  if (inComment(text, context.pos)) return null;
  const open = openText(context), word = open ?? context.matchBefore(/[\w$.-]*/);
  if (!open && !context.explicit && !word?.text) return null;
  const from = word ? word.from : context.pos;
  const after = open ? context.pos + (text.slice(context.pos).match(/^[^"\n]*"/)?.[0].length ?? 0) : context.pos;
  const wantsKey = at.key || (at.between && at.owner.type === "object" && !/:\s*"?[^",]*$/.test(text.slice(0, from)));
  const options = wantsKey ? keyOptions(help, tree, at, text, after) : valueOptions(help, tree, at, text, from);
  return options.length ? { from, options, validFor: /^"?[\w$.,-]*$/ } : null;
}

// The text in quotes that the cursor is in, from its first quote on.
function openText(context) {
  const line = context.state.doc.lineAt(context.pos), before = line.text.slice(0, context.pos - line.from);
  const rest = before.match(/^(?:[^"]|"(?:[^"\\]|\\.)*")*("(?:[^"\\]|\\.)*)$/)?.[1];
  return rest === undefined ? null : { from: context.pos - rest.length, text: rest };
}

function inComment(text, position) {
  const line = text.slice(text.lastIndexOf("\n", position - 1) + 1, position).replace(/"(?:[^"\\]|\\.)*"/g, "");
  return line.includes("//") && !/"[^"]*\/\//.test(line);
}

function keyOptions(help, tree, at, text, after) {
  const there = new Set(at.owner.members.filter((each) => each !== at.member).map((each) => each.key));
  const hasValue = /^\s*:/.test(text.slice(after));
  const options = [...help.keys(at.ownerPath, tree)].filter(([key]) => !there.has(key) && key !== "$schema").map(([key, about]) => ({
    label: `"${key}"`, detail: about.title, info: about.description, boost: about.required ? 2 : 0,
    apply: hasValue ? put(`"${key}"`) : put(`"${key}": ${beginning(about)[0]}`, beginning(about)[1]),
  }));
  const said = help.at(at.ownerPath, tree)[0]?.title;
  const known = said === "Entries by outcome" ? OUTCOMES : said === "Tests that must all hold" ? TAGS : {};
  for (const [key, meaning] of Object.entries(known)) {
    if (!there.has(key)) options.push({ label: `"${key}"`, detail: meaning, apply: put(hasValue ? `"${key}"` : `"${key}": `) });
  }
  return options;
}

function beginning(about) {
  if (about.type === "array") return ["[]", 1];
  if (about.type === "object" || about.$ref?.match(/tls|queue|check|syntaxes$/)) return ["{}", 1];
  if (about.type === "string" && !about.default) return ['""', 1];
  return about.default !== undefined ? [JSON.stringify(about.default), 0] : ["", 0];
}

function valueOptions(help, tree, at, text, from) {
  let path = at.path;
  if (at.between && at.owner.type === "object") {
    const before = at.owner.members.filter((each) => each.to <= from).at(-1);
    if (!before || !/:\s*$/.test(text.slice(before.to, from))) return [];
    path = [...at.ownerPath, before.key];
  } else if (at.between) path = [...at.ownerPath, 0];
  const values = new Map();
  const add = (value, detail) => { if (!values.has(value)) values.set(value, detail); };
  for (const about of help.at(path, tree)) {
    for (const each of about.enum ?? []) add(each, each === about.default ? "usual" : "");
    if (about.const !== undefined) add(about.const, "");
    if (about.default !== undefined) add(about.default, "usual");
    for (const each of about.examples ?? []) if (typeof each !== "object") add(each, "for example");
    if (about.title === "Destination" || about.title === "Member") namesOf(tree).forEach((name) => add(name, "a destination"));
  }
  return [...values].map(([value, detail]) => ({ label: JSON.stringify(value), detail, apply: put(JSON.stringify(value)) }));
}

function namesOf(tree) {
  const named = tree.members?.find((each) => each.key === "destinations")?.value;
  return named?.members?.map((each) => each.key) ?? [];
}

function hover(help) {
  return hoverTooltip((view, position) => {
    const text = view.state.doc.toString(), tree = read(text), at = placeAt(tree, position);
    if (at.between || at.node.type === "missing" && !at.key) return null;
    const about = help.about(at.path, tree);
    if (!about) return null;
    const [from, to] = at.key ? [at.member.from, at.member.to] : [at.node.from, at.node.to];
    return { pos: from, end: to, above: true, create: () => ({ dom: told(about) }) };
  });
}

function told(about) {
  const box = document.createElement("div");
  box.className = "about";
  const line = (kind, text) => { const made = document.createElement(kind); made.textContent = text; box.append(made); };
  if (about.title) line("strong", about.title);
  line("p", about.description);
  const examples = (about.examples ?? []).map((each) => JSON.stringify(each)).join("  ");
  if (examples) line("code", examples.length > 200 ? `${examples.slice(0, 200)}…` : examples);
  return box;
}
