// One card as an EHR shows it: indicator, text, suggestions, override reasons, evidence.
import { markdown, safeLink } from "./markdown.js";

export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const FINDING = "org.tcell-cds.finding";

function evidence(finding, t) {
  const box = element("details", {}, element("summary", { textContent: t.evidence }));
  const named = [...(finding.missing ?? []).map(String)];
  if (finding.evidence?.length) {
    const head = element("tr", {}, ...["resource", "concept", "value", "effective"].map((key) => element("th", { scope: "col", textContent: t[key] })));
    const rows = finding.evidence.map((item) => element("tr", {}, ...[item.reference, item.concept, [item.value, item.unit].filter((x) => x !== undefined).join(" "), item.effective].map((x) => element("td", { textContent: x ?? "" }))));
    box.append(element("div", { className: "scroll", tabIndex: 0 }, element("table", {}, head, ...rows)));
  }
  if (named.length) box.append(element("p", { textContent: `${t.missing}: ${named.join(", ")}` }));
  const lost = (finding.losses ?? []).map((loss) => `${loss.concept ?? loss.resource}: ${loss.reason}`);
  if (lost.length) box.append(element("p", { textContent: `${t.losses}: ${lost.join(", ")}` }));
  return box;
}

// `on` has apply(suggestion) and feedback(item) -> Promise<boolean>
export function cardNode(card, t, on) {
  const title = `c-${card.uuid}`;
  const node = element("article", { className: `card ${card.indicator}` });
  node.setAttribute("aria-labelledby", title);
  node.append(element("span", { className: "word", textContent: t[card.indicator] ?? card.indicator }), element("h3", { id: title, textContent: card.summary }));
  const detail = element("div");
  detail.append(markdown(card.detail ?? ""));
  const source = element("p", { className: "source", textContent: `${t.source}: ` });
  const href = safeLink(card.source?.url ?? "");
  source.append(href ? element("a", { href, rel: "noopener noreferrer", target: "_blank", textContent: card.source.label }) : card.source?.label ?? "");
  node.append(detail, source);
  const state = element("p", { className: "done" });
  state.setAttribute("role", "status");
  const stamp = () => ({ card: card.uuid, outcomeTimestamp: new Date().toISOString() });
  const tell = async (item, text) => {
    const sent = await on.feedback({ ...stamp(), ...item });
    state.className = sent ? "done" : "wrong";
    state.textContent = sent ? text : t.notSent;
  };
  for (const suggestion of card.suggestions ?? []) {
    const text = `${t.apply}: ${suggestion.label}${suggestion.isRecommended ? ` (${t.recommended})` : ""}`;
    const button = element("button", { type: "button", textContent: text });
    button.addEventListener("click", () => { on.apply(suggestion); tell({ outcome: "accepted", acceptedSuggestions: [{ id: suggestion.uuid }] }, t.applied); });
    const shown = element("details", {}, element("summary", { textContent: t.show }), element("pre", { tabIndex: 0, textContent: JSON.stringify(suggestion.actions ?? [], null, 2) }));
    node.append(element("div", { className: "actions" }, button), shown);
  }
  const links = (card.links ?? []).filter((link) => safeLink(link.url));
  if (links.length) node.append(element("p", {}, `${t.docs}: `, ...links.flatMap((link) => [element("a", { href: link.url, rel: "noopener noreferrer", target: "_blank", textContent: link.label }), " "])));
  if (card.overrideReasons?.length) {
    const select = element("select", {}, ...card.overrideReasons.map((reason, n) => element("option", { value: n, textContent: reason.display })));
    const button = element("button", { type: "button", textContent: t.override });
    button.addEventListener("click", () => {
      const { code, system } = card.overrideReasons[Number(select.value)];
      tell({ outcome: "overridden", overrideReason: { reason: { code, system } } }, t.overridden);
    });
    node.append(element("div", {}, element("label", {}, element("span", { textContent: t.reason }), select), button));
  }
  node.append(state);
  if (card.extension?.[FINDING]) node.append(evidence(card.extension[FINDING], t));
  return node;
}
