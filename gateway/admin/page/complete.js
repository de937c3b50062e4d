// What may stand at a place of a site file, by its JSON schema and by the names in the file.

const WORD = /[^\s,[\]{}:"'#]*$/;

/** Where the end of a text is: `path` of keys ("*" for an item of a list), `kind` key, value or comment, `prefix` what is written
 *  of it; and `entries`, the values before it, each with its path. It reads block style by its indentation, and flow style
 *  ({a: 1}, [b]) by its brackets. */
export function place(text) {
  const stack = []; // of the block: {indent, key}
  const entries = [];
  let flow = []; // of open brackets: {close, key}
  let found = { path: [], kind: "key", prefix: "" };
  const above = indent => {
    while (stack.length && stack.at(-1).indent >= indent) stack.pop();
  };
  const path = () => [...stack.map(one => one.key), ...flow.flatMap(one => one.close === "]" ? ["*"] : one.key === null ? [] : [one.key])];
  const readFlow = rest => {
    let token = "", quote = "";
    const end = () => {
      const word = token.trim();
      if (word && (flow.at(-1)?.key !== null || flow.at(-1)?.close === "]")) entries.push({ path: path(), value: word });
      token = "";
    };
    for (let i = 0; i < rest.length; i++) {
      const sign = rest[i];
      const top = flow.at(-1);
      if (quote) {
        if (sign === quote) quote = "";
        else token += sign;
      } else if ((sign === '"' || sign === "'") && !token.trim()) quote = sign;
      else if (sign === "#" && (!i || rest[i - 1] === " ")) break;
      else if (sign === "{" || sign === "[") {
        flow.push({ close: sign === "{" ? "}" : "]", key: null });
        token = "";
      } else if (top && sign === top.close) {
        end();
        flow.pop();
      } else if (top && sign === ",") {
        end();
        if (top.close === "}") top.key = null;
      } else if (top && top.close === "}" && top.key === null && sign === ":" && /\s|^$/.test(rest[i + 1] ?? "")) {
        top.key = token.trim();
        entries.push({ path: path(), value: null });
        token = "";
      } else token += sign;
    }
    const top = flow.at(-1);
    if (top) found = { path: path(), kind: top.close === "}" && top.key === null ? "key" : "value", prefix: WORD.exec(token)[0] };
    return token;
  };
  for (const line of text.split("\n")) {
    if (/^[a-z_]+:(\s|$)/.test(line)) flow = []; // a bracket that is not closed yet
    if (flow.length) {
      readFlow(line);
      continue;
    }
    let rest = line.trimStart();
    let indent = line.length - rest.length;
    if (rest.startsWith("#")) {
      found = { path: [], kind: "comment", prefix: "" };
      continue;
    }
    let item = /^-(\s+|$)/.exec(rest);
    if (!item && (rest || line === text.slice(text.lastIndexOf("\n") + 1))) above(indent);
    for (; item; item = /^-(\s+|$)/.exec(rest)) {
      above(indent + 1);
      if (stack.at(-1)?.indent === indent && stack.at(-1).key === "*") stack.pop(); // a list may stand below its key's column
      stack.push({ indent, key: "*" });
      indent += item[0].length;
      rest = rest.slice(item[0].length);
    }
    found = { path: path(), kind: "key", prefix: WORD.exec(rest)[0] };
    const pair = /^("[^"]*"|'[^']*'|[^\s:#[\]{},][^:#]*?)\s*:(\s+|$)/.exec(rest);
    if (pair) {
      stack.push({ indent, key: pair[1].replace(/^["']|["']$/g, "") });
      entries.push({ path: path(), value: null });
      rest = rest.slice(pair[0].length);
    }
    if (!pair && !/^[{[]/.test(rest)) continue;
    const value = readFlow(rest).trim();
    if (!flow.length && pair) {
      found = { path: path(), kind: "value", prefix: WORD.exec(rest)[0] };
      if (value) entries.push({ path: path(), value });
    }
  }
  return { ...found, entries };
}

function resolved(schema, node) {
  if (node === true || !node) return [];
  if (node.$ref) return resolved(schema, schema.$defs[node.$ref.split("/").pop()]);
  const choices = [...node.anyOf ?? [], ...node.oneOf ?? [], ...node.allOf ?? []];
  return [node, ...choices.flatMap(choice => resolved(schema, choice))];
}

function nodesAt(schema, path) {
  let nodes = resolved(schema, schema);
  for (const key of path) {
    nodes = nodes.flatMap(node => key === "*" ? resolved(schema, node.items)
      : resolved(schema, node.properties?.[key] ?? (node.additionalProperties || null)));
  }
  return nodes;
}

/** Names that the file gives, for keys that take one. */
function namesFor(key, entries) {
  const keysOf = section => entries.filter(one => one.path.length === 2 && one.path[0] === section).map(one => one.path[1]);
  const valuesAt = pattern => entries.filter(one => one.value !== null && one.path.join(".") === pattern).map(one => one.value);
  if (key === "backend") return keysOf("backends");
  if (key === "class") return valuesAt("qos.classes.*.name");
  if (key === "frontend") return valuesAt("frontends.*.name");
  return [];
}

/** What may stand at the end of `before`, the text up to the cursor, in a file whose whole text is `whole`: `word` with
 *  what it means in `about`; `insert` is what follows the prefix of so many characters. */
export function suggestions(schema, before, whole) {
  const { path, kind, prefix } = place(before);
  const nodes = nodesAt(schema, path);
  const found = new Map();
  if (kind === "key") {
    for (const node of nodes)
      for (const [word, one] of Object.entries(node.properties ?? {}))
        if (!found.has(word)) found.set(word, { word, insert: `${word}: `, about: one.description ?? resolved(schema, one)[0]?.description ?? "" });
  }
  if (kind === "value" || path.at(-1) === "*") {
    for (const node of nodes) {
      const words = [...node.enum ?? [], ..."const" in node ? [node.const] : [], ...node.type === "boolean" ? [true, false] : []];
      for (const word of words.map(String)) found.set(word, { word, insert: word, about: "" });
    }
    const key = path.filter(one => one !== "*").at(-1);
    for (const word of namesFor(key, place(whole).entries)) found.set(word, { word, insert: word, about: "" });
  }
  const words = [...found.values()].filter(one => one.word.startsWith(prefix) && one.word !== prefix);
  return words.map(one => ({ ...one, prefix: prefix.length }));
}
