// Elements from trees of values, `[tag, {attribute: value}, child, …]`, as web/trees.py makes them of a template. Only what rows
// consist of is built: no text becomes markup, no attribute runs or loads anything.
export type Tree = [string, Record<string, string>, ...(Tree | string)[]];

const SVG = "http://www.w3.org/2000/svg";
const HTML_TAGS = new Set(["tr", "td", "th", "a", "b", "bdi", "span", "time", "button", "input"]);
const SVG_TAGS = new Set(["svg", "title", "path"]);
const ATTRIBUTES = new Set(["class", "role", "scope", "title", "datetime", "d", "tabindex", "type", "colspan"]);

export function grow([tag, attributes, ...children]: Tree): Element {
  const isSvg = SVG_TAGS.has(tag);
  if (!isSvg && !HTML_TAGS.has(tag)) throw new Error(`a row holds no <${tag}>`);
  const element = isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "viewbox") element.setAttribute("viewBox", value);
    else if (ATTRIBUTES.has(name) || /^(data|aria)-[a-z-]+$/.test(name)) element.setAttribute(name, value);
    else if (name === "href" && value.startsWith("/cases/")) element.setAttribute(name, value);
    else throw new Error(`an element of a row has no ${name}`);
  }
  element.append(...children.map(child => typeof child === "string" ? child : grow(child)));
  return element;
}
