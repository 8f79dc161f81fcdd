// Texts under `root` whose contrast with their ground is below WCAG's 4.5 to 1. Disabled controls are exempt, as in WCAG.
(root) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, ground) => [0, 1, 2].map((i) => top[i] * top[3] + ground[i] * (1 - top[3])).concat(1);
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const inSvg = (element) => element.namespaceURI === "http://www.w3.org/2000/svg";

  // what is painted below the text, the nearest first: ancestors, and in a drawing the shapes that lie there
  function grounds(element, box) {
    const below = [];
    const svg = inSvg(element) && element.ownerSVGElement;
    if (svg) {
      const [x, y] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
      for (const shape of svg.querySelectorAll("rect, circle")) {
        const at = shape.getBoundingClientRect();
        const before = shape.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING;
        if (before && at.left <= x && x <= at.right && at.top <= y && y <= at.bottom) below.unshift(getComputedStyle(shape).fill);
      }
    }
    for (let e = svg || element; e; e = e.parentElement) below.push(getComputedStyle(e).backgroundColor);
    return below.filter((colour) => colour !== "none").map(rgba);
  }

  function visible(element) {
    const style = getComputedStyle(element);
    return style.visibility === "visible" && style.display !== "none";
  }

  function opacity(element) {
    let share = 1;
    for (let e = element; e; e = e.parentElement) share *= Number(getComputedStyle(e).opacity);
    return share;
  }

  const texts = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    if (walker.currentNode.data.trim() && box.width && box.height) texts.push([walker.currentNode.parentElement, walker.currentNode.data, box]);
  }
  for (const control of root.querySelectorAll("input, select, textarea")) texts.push([control, control.value, control.getBoundingClientRect()]);

  const low = [];
  for (const [element, text, box] of texts) {
    if (!box.width || !visible(element) || element.closest(":disabled, [aria-disabled=true]")) continue;
    const style = getComputedStyle(element);
    let ground = [255, 255, 255, 1];
    for (const layer of grounds(element, box).reverse()) ground = over(layer, ground);
    const colour = rgba(inSvg(element) ? style.fill : style.color);
    colour[3] *= opacity(element);
    const [light, dark] = [luminance(over(colour, ground)), luminance(ground)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) low.push({ text: text.trim().slice(0, 40), ratio: ratio.toFixed(2), colour: colour.join(" "), ground: ground.join(" ") });
  }
  return low;
};
