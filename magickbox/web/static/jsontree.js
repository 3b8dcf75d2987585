// Reads JSON with comments as far as it goes, and says where the cursor is in it. It is for help while one types: what
// is right and wrong is the box's to say.

const BLANK = /(?:\s+|\/\/[^\n]*)*/y;
const STRING = /"(?:[^"\\\n]|\\.)*"?/y;
const WORD = /[^\s,:{}[\]"]+/y;

// A node: { type: "object" | "array" | "string" | "word" | "missing", from, to }, with members [{ key, from, to, value }]
// or items. The end of what is not closed is the end of the text.
export function read(text) {
  let at = 0;
  const take = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) return "";
    at = pattern.lastIndex;
    return found[0];
  };
  const blank = () => take(BLANK);
  const value = (depth) => {
    blank();
    const from = at, first = text[at];
    if (depth > 64) return { type: "missing", from, to: from };
    if (first === "{") return object(from, depth);
    if (first === "[") return array(from, depth);
    if (first === '"') return { type: "string", from, text: unquoted(take(STRING)), to: at };
    const word = take(WORD);
    return { type: word ? "word" : "missing", from, text: word, to: at };
  };
  const object = (from, depth) => {
    const node = { type: "object", from, members: [], to: text.length };
    at += 1;
    for (;;) {
      blank();
      if (at >= text.length) return node;
      if (text[at] === "}") { at += 1; node.to = at; return node; }
      if (text[at] === "]") { node.to = at; return node; }
      if (text[at] !== '"') { at += 1; continue; }
      const start = at, key = unquoted(take(STRING)), end = at;
      blank();
      const member = { key, from: start, to: end, value: { type: "missing", from: at, to: at } };
      if (text[at] === ":") { at += 1; member.value = value(depth + 1); }
      node.members.push(member);
    }
  };
  const array = (from, depth) => {
    const node = { type: "array", from, items: [], to: text.length };
    at += 1;
    for (;;) {
      blank();
      if (at >= text.length) return node;
      if (text[at] === "]") { at += 1; node.to = at; return node; }
      if (text[at] === "}") { node.to = at; return node; }
      if (text[at] === "," || text[at] === ":") { at += 1; continue; }
      node.items.push(value(depth + 1));
    }
  };
  return value(0);
}

function unquoted(text) {
  try { return JSON.parse(text); } catch { return text.replace(/^"|"$/g, ""); }
}

// Where a position is: { path, within, key, value, member }. `path` leads to the innermost object, array or value there;
// `key` is true inside a key; `owner` is the object or array that a new key or value would belong to.
export function placeAt(root, position) {
  let node = root, path = [], owner = null;
  for (;;) {
    if (node.type === "object") {
      const on = node.members.find((each) => position >= each.from && position <= each.to);
      if (on) return { path: [...path, on.key], key: true, node: on.value, member: on, owner: node, ownerPath: path };
      const inside = node.members.find((each) => position >= each.value.from && position <= each.value.to && each.value.from > each.to);
      if (!inside) return { path, key: false, between: true, node, owner: node, ownerPath: path };
      path = [...path, inside.key];
      owner = node;
      node = inside.value;
    } else if (node.type === "array") {
      const index = node.items.findIndex((each) => position >= each.from && position <= each.to);
      if (index < 0) return { path, key: false, between: true, node, owner: node, ownerPath: path };
      path = [...path, index];
      owner = node;
      node = node.items[index];
    } else {
      return { path, key: false, between: false, node, owner, ownerPath: path.slice(0, -1) };
    }
  }
}

export function child(node, step) {
  if (node?.type === "object") return node.members.find((each) => each.key === step)?.value;
  return node?.type === "array" ? node.items[step] : undefined;
}
