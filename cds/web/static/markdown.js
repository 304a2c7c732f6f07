// The subset of Markdown that the cards use, built as DOM nodes: text can never become markup.
const ESCAPED = /\\([!-\/:-@\[-`{-~])/g;
const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'" };

const plain = (text) => text.replace(ESCAPED, "$1").replace(/&(?:amp|lt|gt|quot|#39);/g, (m) => ENTITIES[m]);

export const safeLink = (url) => (/^https:\/\//i.test(url) ? url : null);

function inline(into, text) {
  const token = /\\[!-\/:-@\[-`{-~]|\*\*(.+?)\*\*|`([^`]+)`|\[([^\]]*)\]\(([^)\s]+)\)/g;
  let last = 0, buffer = "";
  const flush = () => { if (buffer) into.append(plain(buffer)); buffer = ""; };
  for (const found of text.matchAll(token)) {
    buffer += text.slice(last, found.index);
    last = found.index + found[0].length;
    if (found[0][0] === "\\") { buffer += found[0]; continue; }
    flush();
    if (found[1] !== undefined) { const node = document.createElement("strong"); inline(node, found[1]); into.append(node); }
    else if (found[2] !== undefined) { const node = document.createElement("code"); node.textContent = found[2]; into.append(node); }
    else {
      const href = safeLink(found[4]);
      const node = document.createElement(href ? "a" : "span");
      if (href) { node.href = href; node.rel = "noopener noreferrer"; node.target = "_blank"; }
      node.textContent = plain(found[3]);
      into.append(node);
    }
  }
  buffer += text.slice(last);
  flush();
}

const cells = (line) => line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim());

function table(lines) {
  const box = document.createElement("div"), node = document.createElement("table");
  box.className = "scroll"; box.tabIndex = 0; box.append(node);
  lines.filter((_, n) => n !== 1).forEach((line, n) => {
    const row = node.insertRow();
    for (const cell of cells(line)) {
      const item = document.createElement(n ? "td" : "th");
      if (!n) item.scope = "col";
      inline(item, cell);
      row.append(item);
    }
  });
  return box;
}

function list(lines) {
  const root = document.createElement("ul"), open = [{ indent: -1, node: root }];
  let item = null;
  for (const line of lines) {
    const found = /^(\s*)(?:[-*]|\d+\.) (.*)$/.exec(line);
    if (!found) { if (item) { item.append(" "); inline(item, line.trim()); } continue; }
    const indent = found[1].length;
    while (open.length > 1 && indent < open.at(-1).indent) open.pop();
    if (item && indent > open.at(-1).indent && open.at(-1).indent >= 0) {
      const node = document.createElement("ul");
      item.append(node);
      open.push({ indent, node });
    } else if (open.at(-1).indent < 0) open[0].indent = indent;
    item = document.createElement("li");
    inline(item, found[2]);
    open.at(-1).node.append(item);
  }
  return root;
}

export function markdown(text) {
  const into = document.createDocumentFragment(), lines = text.split("\n");
  const starts = (line) => /^\s*(?:[-*]|\d+\.) /.test(line);
  for (let n = 0; n < lines.length;) {
    const line = lines[n], heading = /^#{1,6} (.*)$/.exec(line);
    if (!line.trim()) { n += 1; continue; }
    let end = n + 1;
    if (heading) { const node = document.createElement("h4"); inline(node, heading[1]); into.append(node); }
    else if (line.startsWith("|") && /^\|[\s:|-]+$/.test(lines[n + 1] ?? "")) {
      while (end < lines.length && lines[end].startsWith("|")) end += 1;
      into.append(table(lines.slice(n, end)));
    } else if (starts(line)) {
      while (end < lines.length && lines[end].trim()) end += 1;
      into.append(list(lines.slice(n, end)));
    } else {
      while (end < lines.length && lines[end].trim() && !starts(lines[end]) && !/^(#|\|)/.test(lines[end])) end += 1;
      const node = document.createElement("p");
      inline(node, lines.slice(n, end).join(" "));
      into.append(node);
    }
    n = end;
  }
  return into;
}
