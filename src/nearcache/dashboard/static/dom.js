// Elements. Every text that comes from a store becomes a text node, never markup.
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

const filled = (made, attributes, children) => {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) made.append(child);
  }
  return made;
};
const el = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

// A figure of the report: where it stands there, its value, and what is shown of it.
const figure = (path, value, shown, attributes) =>
  el("span", { "data-figure": JSON.stringify(path), "data-value": JSON.stringify(value), ...attributes }, shown);

// Makes what is there equal to what is wanted. What stays keeps its focus, and what is selected in it.
const show = (place, ...wanted) => {
  const next = wanted.flat(Infinity).filter((node) => node !== null && node !== undefined && node !== false);
  const keyed = new Map();
  for (const child of place.childNodes) {
    const key = child.nodeType === 1 && child.getAttribute("data-key");
    if (key) keyed.set(key, child);
  }
  next.forEach((node, at) => {
    const now = place.childNodes[at];
    const key = node.nodeType === 1 && node.getAttribute("data-key");
    const before = key ? keyed.get(key) : now && !(now.nodeType === 1 && now.getAttribute("data-key")) ? now : null;
    if (!before || !isAlike(before, node)) {
      place.insertBefore(typeof node === "string" ? document.createTextNode(node) : node, now || null);
      return;
    }
    if (before !== now) place.insertBefore(before, now || null);
    if (before.nodeType === 3) {
      const text = typeof node === "string" ? node : node.data;
      if (before.data !== text) before.data = text;
      return;
    }
    for (const { name } of [...before.attributes]) {
      if (!node.hasAttribute(name) && !(name === "open" && before.nodeName === "DETAILS")) before.removeAttribute(name);
    }
    for (const { name, value } of node.attributes) {
      if (before.getAttribute(name) !== value) before.setAttribute(name, value);
    }
    show(before, [...node.childNodes]);
  });
  while (place.childNodes.length > next.length) place.lastChild.remove();
};
const isAlike = (before, node) =>
  typeof node === "string" ? before.nodeType === 3 : before.nodeType === node.nodeType && before.nodeName === node.nodeName;

// A select whose choices change: what was chosen stays chosen where it still can be.
const choose = (select, choices) => {
  const before = select.value;
  show(select, choices.map(([value, label]) => el("option", { value, "data-key": `=${value}` }, label)));
  if (choices.some(([value]) => value === before)) select.value = before;
};
