// What the schema of the rules says about a place in them: the keys that may stand there, the values, and what they mean.

import { child } from "./jsontree.js";

export class SchemaHelp {
  constructor(schema) { this.root = schema; }

  // Every part of the schema that speaks about the value at a path, the most special last.
  at(path, tree) {
    let found = this.#spread(this.root, tree), node = tree;
    for (const step of path) {
      node = child(node, step);
      found = found.flatMap((each) => this.#step(each, step)).flatMap((each) => this.#spread(each, node));
    }
    return found;
  }

  // { title, description, default, examples } of a value, or null.
  about(path, tree) {
    const said = this.at(path, tree).filter((each) => each.description);
    return said.length ? said[0] : null;
  }

  keys(path, tree) {
    const keys = new Map();
    for (const schema of this.at(path, tree)) {
      for (const [key, each] of Object.entries(schema.properties ?? {})) {
        if (!keys.has(key)) keys.set(key, { ...each, required: schema.required?.includes(key) });
      }
    }
    return keys;
  }

  #step(schema, step) {
    if (typeof step === "number") return schema.items ? [schema.items] : [];
    if (schema.properties?.[step]) return [schema.properties[step]];
    return typeof schema.additionalProperties === "object" ? [schema.additionalProperties] : [];
  }

  // A schema with what it refers to and the branches that hold for this value.
  #spread(schema, node, depth = 0) {
    if (depth > 12 || typeof schema !== "object") return [];
    const more = [];
    if (schema.$ref) more.push(this.#target(schema.$ref));
    more.push(...(schema.allOf ?? []));
    if (schema.if) more.push(holds(schema.if, node) ? schema.then : schema.else);
    return [schema, ...more.filter(Boolean).flatMap((each) => this.#spread(each, node, depth + 1))];
  }

  #target(reference) {
    return reference.slice(2).split("/").reduce((at, step) => at?.[step], this.root);
  }
}

function holds(condition, node) {
  const has = (key) => child(node, key) !== undefined;
  if (condition.required && !condition.required.every(has)) return false;
  if (condition.not && holds(condition.not, node)) return false;
  return Object.entries(condition.properties ?? {}).every(
    ([key, each]) => !has(key) || each.const === undefined || child(node, key).text === each.const,
  );
}
