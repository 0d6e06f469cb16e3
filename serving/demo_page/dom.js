/** Elements made from data. Text goes in as text nodes, never as markup: a file name may hold anything. */

const SVG = "http://www.w3.org/2000/svg";
let made = 0;

/**
 * Make an HTML element. An attribute that is null, undefined or false is left out, and true is an empty one;
 * `style` is an object of CSS properties. Children are nodes or texts; null and undefined are left out.
 */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Make an SVG element; as `h`. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Return the element of this id, which the page has. */
export function byId(id) {
  return document.getElementById(id);
}

/** Return an id that no other element has. */
export function freshId(prefix) {
  made += 1;
  return `${prefix}-${made}`;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") {
      for (const [property, setting] of Object.entries(value)) element.style.setProperty(property, setting);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}
