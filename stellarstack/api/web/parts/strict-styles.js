// Lets xterm.js style itself under `style-src 'self'`. It makes <style> elements and style attributes, which the policy
// forbids for good reason; the same rules given as constructed style sheets and through the CSSOM are allowed. So this
// page's document makes, in place of a style element, one whose text becomes such a sheet, and spans that take a style
// attribute as CSSOM. (xterm.js has an option `documentOverride`, but half of it asks the global document all the same.)

const make = document.createElement;

function asSheet() {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  const element = make.call(document, "template"); // draws nothing
  Object.defineProperty(element, "textContent", { set: (rules) => sheet.replaceSync(rules) });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

function setAttribute(name, value) {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

document.createElement = function createElement(name, options) {
  if (name === "style") return asSheet();
  const element = make.call(document, name, options);
  if (name === "span") element.setAttribute = setAttribute;
  return element;
};
