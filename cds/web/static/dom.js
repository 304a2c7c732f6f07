// Small helpers to build nodes; text is set as text, never as markup.
export function element(tag, properties = {}, ...children) {
  const { aria = {}, ...own } = properties;
  const node = Object.assign(document.createElement(tag), own);
  for (const [name, value] of Object.entries(aria)) node.setAttribute(name === "role" ? name : `aria-${name}`, value);
  node.append(...children);
  return node;
}

// A table that scrolls by itself and can be reached by keyboard.
export function table(header, rows, label) {
  const head = element("tr", {}, ...header.map((words) => element("th", { scope: "col", textContent: words })));
  const body = rows.map((row) => element("tr", {}, ...row.map((words) => element("td", { textContent: words ?? "" }))));
  const inner = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { className: "scroll", tabIndex: 0, aria: { role: "group", label } }, inner);
}

export const disclosure = (words, ...children) => element("details", {}, element("summary", { textContent: words }), ...children);

export const pretty = (value) => JSON.stringify(value, null, 2);
