// What stands behind an answer: pictures, the verdict of every rule with its evidence, the data that was read.
import { disclosure, element, table } from "./dom.js";

function pictureNode(picture, t) {
  const drawn = new DOMParser().parseFromString(picture.svg, "image/svg+xml").documentElement;
  const svg = element("div", { className: "drawing" }, document.importNode(drawn, true));
  const words = element("figcaption", {}, element("h3", { textContent: picture.title }), element("p", { textContent: picture.description }));
  return element("figure", { id: `figure-${picture.kind}` }, words, svg, disclosure(t.asTable, table(picture.header, picture.rows, picture.title)));
}

export const pictureNodes = (behind, t) => (behind.pictures ?? []).map((picture) => pictureNode(picture, t));

function ruleNode(rule, t) {
  const box = element("section", { className: "rule" }, element("h3", { textContent: rule.title }), element("p", { className: "hint", textContent: `${rule.rule} · ${rule.milliseconds} ms${rule.failure ? ` · ${t.failed}` : ""}` }));
  for (const verdict of rule.verdicts) {
    const words = [verdict.outcome, verdict.row, verdict.subject].filter(Boolean).join(" · ");
    box.append(element("p", { className: `verdict ${verdict.indicator}`, textContent: words }));
    if (verdict.evidence.length) box.append(table([t.resource, t.concept, t.value, t.effective], verdict.evidence.map((e) => [e.reference, e.concept, e.value, e.effective]), rule.title));
    if (verdict.missing.length) box.append(element("p", { className: "hint", textContent: `${t.missing}: ${verdict.missing.map((m) => `${m.what} (${m.why})`).join(", ")}` }));
  }
  return box;
}

export function traceNodes(behind, t) {
  const nodes = (behind.rules ?? []).map((rule) => ruleNode(rule, t));
  if (behind.silent?.length) nodes.push(element("p", { className: "hint", textContent: `${t.silent}: ${behind.silent.join(", ")}` }));
  return nodes;
}

function stateOf(key, t) {
  if (key.state === "found") return key.horizon ? t.foundBack(key.count, key.horizon) : t.found(key.count);
  if (key.state === "empty") return t.emptyKey;
  return key.state === "failed" ? t.failedKey(key.reason) : t.notAsked(key.reason);
}

export function dataNodes(behind, t) {
  const nodes = [];
  const course = Object.entries(behind.course ?? {}).map(([name, day]) => `${t[name]} ${day}`);
  if (course.length) nodes.push(element("p", { textContent: `${t.course}: ${course.join(", ")}` }));
  if (behind.keys?.length) nodes.push(table([t.key, t.state], behind.keys.map((key) => [key.key, stateOf(key, t)]), t.data));
  if (behind.losses?.length) nodes.push(element("p", { textContent: `${t.losses}: ${behind.losses.map((l) => `${l.what} (${l.why})`).join(", ")}` }));
  return nodes;
}
